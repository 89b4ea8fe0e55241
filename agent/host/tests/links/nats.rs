//! A nats-server of a test's own.
//!
//! In: `HEDDLE_NATS_SERVER`, or a nats-server on PATH or in the cache. Out: where it listens, and what it says of itself.

use crate::support::SOON;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A running nats-server.
pub struct Nats {
    child: Child,
    /// Where clients connect.
    pub url: String,
    monitor: String,
    _folder: tempfile::TempDir,
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Nats {
    /// Starts it on ports of its own choice, and waits until it says which.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(program())
            .args(["-a", "127.0.0.1", "-p", "-1", "-m", "-1", "--ports_file_dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut nats = Self {
            child,
            url: String::new(),
            monitor: String::new(),
            _folder: folder,
        };
        let folder = nats._folder.path().to_owned();
        (nats.url, nats.monitor) = eventually("nats-server writes its ports", async || ports(&folder)).await;
        nats
    }

    /// The connections that it has, as it describes them, with their subscriptions.
    pub async fn connections(&self) -> Vec<serde_json::Value> {
        let mut stream = tokio::net::TcpStream::connect(&self.monitor).await.unwrap();
        let request = format!("GET /connz?subs=1 HTTP/1.0\r\nHost: {}\r\n\r\n", self.monitor);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let all: serde_json::Value = serde_json::from_str(body).unwrap();
        all["connections"].as_array().unwrap().clone()
    }
}

fn ports(folder: &Path) -> Option<(String, String)> {
    let files = std::fs::read_dir(folder).ok()?.flatten();
    let file = files.map(|file| file.path()).find(|path| path.extension().is_some())?;
    let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let monitor = ports["monitoring"][0].as_str()?.strip_prefix("http://")?.to_owned();
    Some((ports["nats"][0].as_str()?.to_owned(), monitor))
}

fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("HEDDLE_NATS_SERVER") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path)
        .map(|folder| folder.join("nats-server"))
        .find(|file| file.is_file());
    let cached = || {
        let home = PathBuf::from(std::env::var_os("HOME")?);
        let wheels = std::fs::read_dir(home.join(".cache/heddle/wheels")).ok()?.flatten();
        let folders = wheels.flat_map(|wheel| std::fs::read_dir(wheel.path()).into_iter().flatten().flatten());
        folders
            .map(|folder| folder.path().join("scripts/nats-server"))
            .find(|file| file.is_file())
    };
    on_path
        .or_else(cached)
        .expect("a nats-server: `cargo xtask nats` fetches one")
}

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + SOON;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < until, "{what}: not within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
