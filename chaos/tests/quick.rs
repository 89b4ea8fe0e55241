//! A short run of chaos: one fault of each of three kinds, and nothing broken.

#![allow(clippy::unwrap_used, reason = "a broken expectation is the message of a test")]

use serde_json::Value;
use std::process::Command;

#[test]
fn a_fleet_survives_a_kill_of_each_of_its_roles_without_losing_anything() {
    let output = Command::new(env!("CARGO_BIN_EXE_heddle-chaos"))
        .args([
            "--json",
            "--seed",
            "1",
            "--faults",
            "3",
            "--kinds",
            "kill-agent,kill-scheduler,kill-nats",
        ])
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
    let verdict: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&verdict["faults"], &verdict["seed"]),
        (&Value::from(3), &Value::from(1)),
        "{verdict}"
    );
    for count in [
        "lost_acked",
        "orphans",
        "duplicate_singletons",
        "failed_requests_elsewhere",
    ] {
        assert_eq!(verdict[count], 0, "{verdict}\n{err}");
    }
    for count in ["acknowledged", "requests_elsewhere"] {
        assert!(verdict[count].as_u64().is_some_and(|n| n > 20), "{verdict}\n{err}");
    }
}
