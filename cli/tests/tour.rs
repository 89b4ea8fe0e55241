//! `heddle up` with real processes, and the README's tour on the fleet that it starts. Needs nats-server and the example
//! components: `cargo xtask test` provides both.

// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// How long a fleet may take to start and to serve, on a machine that is busy with other tests.
const PATIENCE: &str = "150s";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The binary, with a configuration folder of its own.
fn heddle(desk: &Path) -> Command {
    assert!(
        std::env::var_os("HEDDLE_NATS_SERVER").is_some(),
        "this test needs nats-server and the example components: run `cargo xtask test`"
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_heddle"));
    for name in [
        "HEDDLE_NATS",
        "HEDDLE_REALM",
        "HEDDLE_CREDS",
        "HEDDLE_KEY",
        "HEDDLE_CONTEXT",
        "HEDDLE_NAMESPACE",
    ] {
        command.env_remove(name);
    }
    command
        .current_dir(root())
        .env("HEDDLE_CONFIG_DIR", desk.join("config"))
        .stdin(Stdio::null());
    command
}

fn up(desk: &Path, manifest: &str) -> Command {
    let mut command = heddle(desk);
    command
        .arg("up")
        .arg("--data")
        .arg(desk.join("data"))
        .args(["--timeout", PATIENCE]);
    command
        .arg("--example")
        .arg(root().join("examples/manifests").join(manifest));
    command
}

/// A fleet in the foreground of another process; stopped with the test, however it ends.
struct Fleet(Child);

impl Fleet {
    /// Starts it and waits for the line of JSON that says that it serves.
    fn start(desk: &Path, manifest: &str) -> (Self, serde_json::Value) {
        let mut fleet = Self(up(desk, manifest).arg("--json").stdout(Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(fleet.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|e| panic!("`up` said {line:?}: {e}"));
        (fleet, ready)
    }

    /// Asks it to stop, and returns its exit code.
    fn stop(&mut self) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Its children are tied to it: none is left even so.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The commands of the README's tour.
fn tour() -> Vec<Vec<String>> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let block = readme
        .split("<!-- tour -->")
        .nth(1)
        .unwrap()
        .split("```")
        .nth(1)
        .unwrap()
        .to_owned();
    let commands = block.lines().filter(|line| line.starts_with("heddle "));
    let words = |line: &str| {
        line.split(" #")
            .next()
            .unwrap()
            .split_whitespace()
            .skip(1)
            .map(str::to_owned)
            .collect()
    };
    commands.map(words).collect()
}

/// Asks the hosts in turn until one answers a path with the text; not every host has a replica of everything.
fn answers(urls: &serde_json::Value, path: &str, expected: &str) {
    let urls = urls.as_array().unwrap().iter().map(|url| url.as_str().unwrap());
    let hosts: BTreeSet<&str> = urls.map(|url| url.split('/').nth(2).unwrap()).collect();
    let mut seen = Vec::new();
    for _ in 0..250 {
        seen = hosts.iter().map(|host| get(host, path)).collect();
        if seen.iter().any(|text| text.contains(expected)) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("no host answers {path} with {expected:?}: {seen:?}");
}

/// One request on one connection; the whole answer as text, or why there is none.
fn get(host: &str, path: &str) -> String {
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    asked().unwrap_or_else(|error| error.to_string())
}

#[test]
fn every_step_of_the_tour_succeeds_on_a_fresh_fleet() {
    let desk = tempfile::tempdir().unwrap();
    let (mut fleet, ready) = Fleet::start(desk.path(), "all.yaml");
    assert_eq!((&ready["ok"], &ready["hosts"]), (&true.into(), &3.into()), "{ready}");
    assert!(ready["urls"].as_array().unwrap().len() >= 3, "{ready}");
    // The context is written just after that line.
    let contexts = desk.path().join("config").join("contexts.json");
    for _ in 0..500 {
        if contexts.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for step in tour() {
        let done = heddle(desk.path()).args(&step).output().unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
        );
        assert!(done.status.success(), "heddle {}: {err}", step.join(" "));
        assert!(!out.trim().is_empty(), "heddle {} says nothing", step.join(" "));
    }
    let done = heddle(desk.path()).args(["status", "--json"]).output().unwrap();
    let statuses: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let workloads = statuses["workloads"].as_array().unwrap();
    assert_eq!(workloads.len(), 8, "{statuses}");
    for (path, answer) in [
        ("/hello", "hello from heddle, path=/hello"),
        ("/polyglot/greet/Ada", "Hello from Go, Ada!"),
        ("/embed/greet/Ada", "Hello from Rust, Ada!"),
        ("/remote/greet/Ada", "Hello from Rust, Ada!"),
        ("/outside/try/Ada", "nobody serves this function"),
    ] {
        answers(&ready["urls"], path, answer);
    }
    assert!(
        workloads.iter().all(|workload| workload["state"] == "ready"),
        "{statuses}"
    );

    assert_eq!(fleet.stop(), Some(0));
    let gone = heddle(desk.path()).arg("status").output().unwrap();
    assert_eq!(gone.status.code(), Some(6), "NATS should have stopped with the fleet");
}

#[test]
fn up_once_says_how_long_it_took_and_can_be_run_again_on_the_same_folder() {
    let desk = tempfile::tempdir().unwrap();
    for round in 1..=2 {
        let done = up(desk.path(), "all.yaml")
            .args(["--once", "--json", "--hosts", "2"])
            .output()
            .unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
        );
        assert!(done.status.success(), "round {round}: {out}{err}");
        assert_eq!(out.lines().count(), 1, "stdout is one document: {out}");
        let said: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(said["ok"], true, "{said}");
        assert!(
            said["ready_ms"].is_u64() && said["apply_to_serving_ms"].is_u64(),
            "{said}"
        );
    }
    assert!(
        !desk.path().join("config").join("contexts.json").exists(),
        "a fleet that is gone needs no context"
    );
}
