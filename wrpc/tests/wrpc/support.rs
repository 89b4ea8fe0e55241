//! A nats-server of a test's own, connections to it, and handlers.
//!
//! In: `HEDDLE_NATS_SERVER`, or a nats-server on PATH or in the cache. Out: connections that end with the test.

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use heddle_wrpc::{Connection, Fault, Handler, Incoming, Limits, Options, Service, Serving};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long anything may take that is bound to happen.
pub const SOON: Duration = Duration::from_secs(20);
/// The prefix of all subjects.
pub const PREFIX: &str = "test.calls";
/// The interface.
pub const INSTANCE: &str = "test:calls/echo@0.1.0";

/// A running nats-server.
pub struct Nats {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Nats {
    /// Starts it on a port of its own choice, and waits until it says which.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(program())
            .args(["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut nats = Self {
            child,
            url: String::new(),
            _folder: folder,
        };
        let folder = nats._folder.path().to_owned();
        nats.url = eventually("nats-server writes its ports", || {
            let url = ports(&folder);
            async move { url }
        })
        .await;
        nats
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A client of ours.
    pub async fn client(&self) -> async_nats::Client {
        async_nats::connect(&self.url).await.unwrap()
    }

    /// A connection for calls.
    pub async fn connect(&self) -> Connection {
        self.connect_with(Options::default()).await
    }

    /// The same with options.
    pub async fn connect_with(&self, options: Options) -> Connection {
        Connection::new(self.client().await, options).await.unwrap()
    }

    /// A client of the other make.
    pub async fn partner(&self, group: Option<&str>) -> wrpc_transport_nats::Client {
        let nats = async_nats_partner::connect(&self.url).await.unwrap();
        wrpc_transport_nats::Client::new(nats, PREFIX, group.map(Arc::from))
            .await
            .unwrap()
    }
}

fn ports(folder: &Path) -> Option<String> {
    let file = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .find(|file| file.path().extension().is_some())?;
    let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
    Some(ports["nats"][0].as_str()?.to_owned())
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
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let until = Instant::now() + SOON;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < until, "{what}: not within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The same for a condition.
pub async fn until(what: &str, mut ask: impl FnMut() -> bool) {
    eventually(what, || {
        let done = ask().then_some(());
        async move { done }
    })
    .await;
}

/// The end of a call that has time.
pub fn later() -> Instant {
    Instant::now() + SOON
}

/// A function of the interface.
pub fn service(function: &str, group: Option<&str>) -> Service {
    Service {
        prefix: PREFIX.to_owned(),
        instance: INSTANCE.to_owned(),
        function: function.to_owned(),
        queue_group: group.map(str::to_owned),
    }
}

/// A handler from an async function.
pub fn handler<F, R>(function: F) -> Arc<dyn Handler>
where
    F: Fn(Incoming) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Bytes, Fault>> + Send + 'static,
{
    Arc::new(move |incoming: Incoming| -> BoxFuture<'static, Result<Bytes, Fault>> { function(incoming).boxed() })
}

/// Serves a function that gives back its arguments.
pub async fn echo(connection: &Connection, function: &str) -> Serving {
    let echo = handler(|incoming| async move { Ok(incoming.params) });
    connection
        .serve(service(function, None), echo, Limits::default())
        .await
        .unwrap()
}

/// Bytes that are not all the same.
pub fn noise(len: usize) -> Bytes {
    (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 8)) as u8).collect()
}
