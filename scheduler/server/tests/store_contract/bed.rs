//! What a case lies in: a realm of its own, on either log, and ways to reach behind the chain.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use heddle_scheduler::store::{
    ArtifactStore, Commit, CommitOutcome, MemoryRealm, PastStore, Store, StoreOptions, Write,
};

/// A realm for one case.
pub enum Bed {
    /// In memory.
    Memory { realm: MemoryRealm, options: StoreOptions },
    /// On the nats-server that all cases of this process share.
    Nats { url: String, options: StoreOptions },
}

impl Bed {
    pub fn memory() -> Self {
        Self::Memory {
            realm: MemoryRealm::new(),
            options: options("memory"),
        }
    }

    pub async fn nats() -> Self {
        let realm = format!("t{}", uuid::Uuid::new_v4().simple());
        // To try the contract on servers of one's own, such as a cluster. Its streams stay there.
        if let Ok(url) = std::env::var("HEDDLE_CONTRACT_URL") {
            return Self::Nats {
                url,
                options: StoreOptions {
                    replicas: 3,
                    ..options(&realm)
                },
            };
        }
        Self::Nats {
            url: shared_server().await,
            options: options(&realm),
        }
    }

    pub fn options(&mut self) -> &mut StoreOptions {
        match self {
            Self::Memory { options, .. } | Self::Nats { options, .. } => options,
        }
    }

    /// Another scheduler's store on the same realm.
    pub async fn store(&self) -> Store {
        match self {
            Self::Memory { realm, options } => Store::in_memory(realm, options.clone()),
            Self::Nats { url, options } => Store::open(connect(url).await, options.clone()).await.unwrap(),
        }
    }

    /// A store that was loaded and leads.
    pub async fn leader(&self, id: &str) -> Store {
        let store = self.store().await;
        store.load().await.unwrap();
        committed(store.take_over(id).await.unwrap());
        store
    }

    pub async fn artifacts(&self) -> ArtifactStore {
        match self {
            Self::Memory { .. } => ArtifactStore::in_memory(),
            Self::Nats { url, options } => ArtifactStore::open(connect(url).await, options).await.unwrap(),
        }
    }

    pub async fn past(&self) -> PastStore {
        match self {
            Self::Memory { .. } => PastStore::in_memory(),
            Self::Nats { url, options } => PastStore::open(connect(url).await, options).await.unwrap(),
        }
    }

    /// Alters or loses a record behind the chain's back.
    pub async fn tamper(&self, key: &str, value: Option<&[u8]>) {
        match self {
            Self::Memory { realm, .. } => realm.tamper(key, value),
            Self::Nats { url, options } => {
                let client = connect(url).await;
                let subject = format!("$KV.heddle_{}.{key}", options.realm);
                let reply = match value {
                    Some(value) => client.request(subject, value.to_vec().into()).await.unwrap(),
                    None => {
                        let purge = format!("$JS.API.STREAM.PURGE.KV_heddle_{}", options.realm);
                        client
                            .request(purge, format!(r#"{{"filter":"{subject}"}}"#).into())
                            .await
                            .unwrap()
                    }
                };
                assert!(
                    !String::from_utf8_lossy(&reply.payload).contains("error"),
                    "{:?}",
                    reply.payload
                );
            }
        }
    }

    /// Fills the realm up, so that a change of a MiB no longer fits.
    pub fn limit_bytes(&mut self, bytes: usize) {
        match self {
            Self::Memory { realm, .. } => realm.set_bytes_max(bytes),
            Self::Nats { options, .. } => options.max_bytes = bytes as i64,
        }
    }
}

pub fn options(realm: &str) -> StoreOptions {
    StoreOptions {
        give_up_after: Duration::from_secs(10),
        ..StoreOptions::new(realm)
    }
}

pub async fn connect(url: &str) -> async_nats::Client {
    async_nats::connect(url).await.unwrap()
}

/// A change that sets each key to a value.
pub fn change<const N: usize>(writes: [(&str, &str); N]) -> Commit {
    let writes = writes
        .iter()
        .map(|(key, value)| Write::put(*key, value.as_bytes().to_vec()))
        .collect();
    Commit {
        writes,
        audit: "why".into(),
    }
}

/// A change that removes one key.
pub fn removal(key: &str) -> Commit {
    Commit {
        writes: vec![Write::remove(key)],
        audit: "why".into(),
    }
}

#[track_caller]
pub fn committed(outcome: CommitOutcome) -> u64 {
    match outcome {
        CommitOutcome::Committed { n, .. } => n,
        CommitOutcome::Conflict { head } => panic!("a conflict with {head:?}"),
    }
}

#[track_caller]
pub fn conflict(outcome: CommitOutcome) {
    assert!(
        matches!(outcome, CommitOutcome::Conflict { .. }),
        "{outcome:?} is no conflict"
    );
}

/// A nats-server of one's own, killed when it is dropped.
pub struct Server {
    pub url: String,
    pub monitor: String,
    child: Child,
    config: PathBuf,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server that syncs as told (`always`, or an interval such as `2m`).
    pub async fn start(sync_interval: &str) -> Self {
        let server = Self::spawn(|folder, port, monitor| config(folder, port, monitor, sync_interval));
        until_ready(&server.url).await;
        server
    }

    /// Starts a server with a configuration made from its folder, port and monitoring port.
    pub fn spawn(config: impl FnOnce(&Path, u16, u16) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, monitor) = (free_port(), free_port());
        let path = folder.path().join("nats.conf");
        std::fs::write(&path, config(folder.path(), port, monitor)).unwrap();
        Self {
            url: format!("nats://127.0.0.1:{port}"),
            monitor: format!("http://127.0.0.1:{monitor}"),
            child: run(&path),
            config: path,
            _folder: folder,
        }
    }

    /// Kills it without warning and starts it again on the same files.
    pub fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = run(&self.config);
    }
}

fn run(config: &Path) -> Child {
    let mut command = Command::new(nats_server());
    // What the example configuration takes from the environment.
    for role in ["SCHEDULER", "OPERATOR", "AGENT", "SYSTEM"] {
        command.env(format!("HEDDLE_{role}_PASSWORD"), "secret");
    }
    command
        .arg("-c")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three servers that are one cluster.
pub async fn cluster() -> Vec<Server> {
    let ports = [free_port(), free_port(), free_port()];
    let routes: Vec<String> = ports
        .iter()
        .map(|port| format!("\"nats://127.0.0.1:{port}\""))
        .collect();
    let routes = routes.join(", ");
    let server = |i: usize| {
        Server::spawn(|folder, port, monitor| {
            let cluster = format!(
                "cluster {{ name: c, listen: \"127.0.0.1:{}\", routes: [{routes}] }}\n",
                ports[i]
            );
            format!(
                "server_name: s{i}\n{cluster}{}",
                config(folder, port, monitor, "always")
            )
        })
    };
    let servers: Vec<Server> = (0..3).map(server).collect();
    for server in &servers {
        until_ready(&server.url).await;
    }
    servers
}

/// The server that cases share. A static is never dropped, so a shell waits for the end of this process, which closes its
/// input, and then ends the server and removes its files.
async fn shared_server() -> String {
    static URL: OnceLock<String> = OnceLock::new();
    let url = URL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap().keep();
        let (port, monitor) = (free_port(), free_port());
        let path = folder.join("nats.conf");
        std::fs::write(&path, config(&folder, port, monitor, "always")).unwrap();
        let script = r#""$1" -c "$2" >/dev/null 2>&1 & server=$!; cat >/dev/null; kill -9 $server; wait; rm -rf "$3""#;
        let child = Command::new("sh")
            .args(["-c", script, "sh"])
            .args([nats_server(), path, folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::mem::forget(child);
        format!("nats://127.0.0.1:{port}")
    });
    until_ready(url).await;
    url.clone()
}

fn nats_server() -> PathBuf {
    if let Some(path) = std::env::var_os("HEDDLE_NATS_SERVER") {
        return PathBuf::from(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join("nats-server"))
        .find(|file| file.is_file());
    found.expect("there is no nats-server on the PATH, and HEDDLE_NATS_SERVER names none: run `cargo xtask test`")
}

fn config(folder: &Path, port: u16, monitor: u16, sync_interval: &str) -> String {
    let store = folder.join("jetstream");
    format!(
        "listen: 127.0.0.1:{port}\nhttp: 127.0.0.1:{monitor}\njetstream {{\n  store_dir: {store:?}\n  max_file_store: 32GB\n  \
         sync_interval: {sync_interval:?}\n}}\n"
    )
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

async fn until_ready(url: &str) {
    for _ in 0..1200 {
        if let Ok(client) = async_nats::connect(url).await {
            let context = async_nats::jetstream::new(client);
            if context.query_account().await.is_ok() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nats-server at {url} did not become ready within 30 s");
}
