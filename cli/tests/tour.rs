//! `heddle up` with real processes, and the README's tour on the fleet that it starts. Needs nats-server and the example
//! components: `cargo xtask test` provides both.

// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod tour_page;

use heddle_tests::postgres::Postgres;
use heddle_tests::process::{Process, Recipe};
use heddle_tests::{binary, port};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tour_page::{Ask, Row, SECRETS, SERVERS, TOUR, root};

/// How long a fleet may take to start and to serve, on a machine that is busy with other tests.
const PATIENCE: &str = "150s";

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
        Self::of(up(desk, manifest))
    }

    fn of(mut up: Command) -> (Self, serde_json::Value) {
        let mut fleet = Self(up.arg("--json").stdout(Stdio::piped()).spawn().unwrap());
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

/// Runs a command, which must succeed and say something.
fn run(desk: &Path, words: &[String]) -> String {
    let done = heddle(desk).args(words).output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout).into_owned(),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "heddle {}: {err}", words.join(" "));
    assert!(!out.trim().is_empty(), "heddle {} says nothing", words.join(" "));
    out
}

/// Waits until `heddle up` has written the context, just after the line that says that it serves.
fn context_is_written(desk: &Path) {
    let contexts = desk.join("config").join("contexts.json");
    for _ in 0..500 {
        if contexts.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Checks that a manifest answers what the README's table says. Not every host has a replica of everything, so hosts are
/// asked in turn.
fn answers(desk: &Path, urls: &serde_json::Value, row: &Row) {
    let urls = urls.as_array().unwrap().iter().map(|url| url.as_str().unwrap());
    let hosts: BTreeSet<&str> = urls.map(|url| url.split('/').nth(2).unwrap()).collect();
    let mut seen = Vec::new();
    for _ in 0..500 {
        seen = match &row.ask {
            Ask::Command(words) => vec![(200, run(desk, words))],
            Ask::Http { method, path } => hosts.iter().map(|host| ask(host, method, path)).collect(),
        };
        if seen
            .iter()
            .any(|(status, text)| *status == row.status && text.contains(&row.answer))
        {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("nobody answers as the README says: {row:#?}\n{seen:#?}");
}

/// One request on one connection; its status and body, or 0 and why there is no answer.
fn ask(host: &str, method: &str, path: &str) -> (u16, String) {
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = asked().unwrap_or_else(|error| error.to_string());
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = text.split_once("\r\n\r\n").map_or(text.as_str(), |(_, body)| body);
    (status.unwrap_or(0), body.to_owned())
}

/// The rows whose first manifest is applied by one of the commands and stays.
fn rows_of(commands: &[Vec<String>]) -> Vec<Row> {
    let applied: BTreeSet<String> = commands
        .iter()
        .flat_map(|command| tour_page::manifests(command))
        .collect();
    let mut rows = tour_page::rows();
    // Needs an agent of one's own, and is deleted again; the test of that agent asks it.
    rows.retain(|row| applied.contains(&row.manifests[0]) && row.manifests[0] != "own-capability.yaml");
    rows
}

#[test]
fn every_step_of_the_tour_succeeds_on_a_fresh_fleet_and_what_it_leaves_answers() {
    let desk = tempfile::tempdir().unwrap();
    let (mut fleet, ready) = Fleet::start(desk.path(), "all.yaml");
    assert_eq!((&ready["ok"], &ready["hosts"]), (&true.into(), &3.into()), "{ready}");
    assert!(ready["urls"].as_array().unwrap().len() >= 3, "{ready}");
    context_is_written(desk.path());
    let steps = tour_page::commands(TOUR);
    for step in &steps {
        run(desk.path(), step);
    }
    let rows = rows_of(&steps);
    assert!(rows.len() >= 14, "the table has {} rows of the tour", rows.len());
    for row in &rows {
        answers(desk.path(), &ready["urls"], row);
    }
    let statuses = run(desk.path(), &["status", "--json"].map(str::to_owned));
    let statuses: serde_json::Value = serde_json::from_str(&statuses).unwrap();
    let workloads = statuses["workloads"].as_array().unwrap();
    // The greeter has no row: others answer for it.
    assert_eq!(workloads.len(), rows.len() + 1, "{statuses}");
    let well = |workload: &serde_json::Value| workload["state"] == "ready" || workload["state"] == "completed";
    assert!(workloads.iter().all(well), "{statuses}");

    assert_eq!(fleet.stop(), Some(0));
    let gone = heddle(desk.path()).arg("status").output().unwrap();
    assert_eq!(gone.status.code(), Some(6), "NATS should have stopped with the fleet");
}

/// A manifest of the examples with the test's own servers in it; the images stay where they are.
fn copied(desk: &Path, name: &str, redis: &str, postgres: &str) -> String {
    let text = tour_page::read(&format!("examples/manifests/{name}"));
    let images = binary::guests().unwrap().canonicalize().unwrap();
    let text = text
        .replace("../../target/guests", &images.to_string_lossy())
        .replace("redis://127.0.0.1:6379/0", redis)
        .replace("postgres://ledger@127.0.0.1:5432/postgres", postgres);
    let path = desk.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

/// A Redis that asks for no password, as the tour's; whoever asks it next waits until it answers.
fn redis(desk: &Path) -> (Process, String) {
    let address = port::free().unwrap();
    let mut recipe = Recipe {
        name: "redis-server".to_owned(),
        program: binary::redis_server().unwrap(),
        args: Vec::new(),
        env: Vec::new(),
        log: desk.join("redis.log"),
    };
    recipe
        .pair("--bind", address.ip().to_string())
        .pair("--port", address.port().to_string())
        .pair("--save", "");
    (Process::start(recipe).unwrap(), format!("redis://{address}/0"))
}

#[test]
fn the_steps_that_need_servers_succeed_and_the_one_that_needs_a_secret_says_what_lacks() {
    let desk = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let log = desk.path().join("postgres.log");
    let postgres = runtime.block_on(Postgres::start_open(&log)).unwrap();
    let (_redis, redis) = redis(desk.path());
    let mut command = up(desk.path(), "all.yaml");
    command.args(["--hosts", "1"]);
    let (mut fleet, ready) = Fleet::of(command);
    context_is_written(desk.path());
    let steps = tour_page::commands(SERVERS);
    for step in &steps {
        let own = |word: &String| match word.strip_prefix("examples/manifests/") {
            Some(name) => copied(desk.path(), name, &redis, &postgres.url()),
            None => word.clone(),
        };
        run(desk.path(), &step.iter().map(own).collect::<Vec<_>>());
    }
    let rows = rows_of(&steps);
    assert_eq!(rows.len(), steps.len(), "{rows:#?}");
    for row in &rows {
        answers(desk.path(), &ready["urls"], row);
    }
    // What it answers with a backend is told by the tests of the capabilities.
    for step in tour_page::commands(SECRETS) {
        let refused = heddle(desk.path()).args(&step).output().unwrap();
        let why = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && why.contains("this scheduler has no backend of secrets named vault"),
            "{why}"
        );
    }
    assert_eq!(fleet.stop(), Some(0));
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
