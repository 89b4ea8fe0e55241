//! Servers of a test's own, killed when they are dropped.

use heddle_secret::Ask;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server.
pub struct Server {
    pub url: String,
    pub folder: tempfile::TempDir,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    /// A nats-server, with more in its configuration.
    pub async fn nats(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = folder.path().join("nats.conf");
        std::fs::write(&config, format!("listen: \"127.0.0.1:{port}\"\n{more}")).unwrap();
        let mut command = Command::new(program("HEDDLE_NATS_SERVER", "nats-server"));
        command.arg("-c").arg(&config);
        let server = Self {
            url: format!("nats://127.0.0.1:{port}"),
            child: spawn(&mut command),
            folder,
        };
        until("nats-server listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        server
    }

    /// An OpenBao, unsealed, whose root token is `root`.
    pub async fn bao() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new(program("HEDDLE_BAO", "bao"));
        command
            .args(["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"])
            .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
            .env("HOME", folder.path());
        let server = Self {
            url: format!("http://127.0.0.1:{port}"),
            child: spawn(&mut command),
            folder,
        };
        until("bao answers", async || {
            let asked = reqwest::Client::new()
                .get(format!("{}/v1/secret/config", server.url))
                .header("X-Vault-Token", "root")
                .send();
            asked.await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        server
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A file in its folder.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return PathBuf::from(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("there is no {name} on the PATH, and {variable} names none: run `cargo xtask test`"))
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Looks again and again, for a minute at most.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..1_200 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within a minute: {what}");
}

pub fn ask(path: &str, field: Option<&str>) -> Ask {
    Ask {
        workload: Some("shop/cart".parse().unwrap()),
        path: path.into(),
        field: field.map(str::to_owned),
        version: None,
    }
}
