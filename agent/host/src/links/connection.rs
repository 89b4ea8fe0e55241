//! The connection of one workload to NATS, for as long as something of it calls or serves over the network.
//!
//! In: the workload, and the secret that holds its credentials if it has any. Out: a connection that follows newer
//! credentials. It never uses what the agent itself connects with: not its credentials file, and no login in the URL.

use crate::links::LiveWorkloads;
use crate::secrets::SecretStore;
use async_nats::ConnectOptions;
use heddle_capability::{SecretHandle, SecretValue};
use heddle_protocol::host_spec::SecretUse;
use heddle_protocol::id::WorkloadId;
use heddle_protocol::subject::workload_inbox_prefix;
use heddle_wrpc::{Connection, Options};
use rand::Rng as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often credentials are looked at again: they are renewed long before they end.
const CREDENTIALS_POLL: Duration = Duration::from_millis(500);
/// The first pause after a failed attempt to connect; it doubles up to `PAUSE_MAX`.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause: a server that comes back is found within seconds.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// How long one attempt may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A connection that is there sooner or later. It ends when this is dropped.
pub(super) struct Lane {
    state: watch::Receiver<Option<Connection>>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Lane {
    /// Connects as soon as the workload is live; without a URL never.
    pub(super) fn open(
        url: Option<String>,
        workload: &WorkloadId,
        live: watch::Receiver<Arc<LiveWorkloads>>,
        secrets: SecretStore,
    ) -> Self {
        let (connected, state) = watch::channel(None);
        let keeper = url.map(|url| Keeper {
            url: without_login(&url),
            workload: workload.clone(),
            live,
            secrets,
            connected,
        });
        Self {
            state,
            task: keeper.map(|keeper| tokio::spawn(keeper.run())),
        }
    }

    /// Changes with the connection.
    pub(super) fn state(&self) -> watch::Receiver<Option<Connection>> {
        self.state.clone()
    }

    /// The connection. Whoever waits bounds how long.
    pub(super) async fn connection(&self) -> Connection {
        let mut state = self.state.clone();
        loop {
            let connection = state.borrow_and_update().clone();
            if let Some(connection) = connection {
                return connection;
            }
            if state.changed().await.is_err() {
                // There is no network. The caller's deadline ends this.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Keeps one workload connected.
struct Keeper {
    url: String,
    workload: WorkloadId,
    live: watch::Receiver<Arc<LiveWorkloads>>,
    secrets: SecretStore,
    connected: watch::Sender<Option<Connection>>,
}

/// What a connection was made with: which secret, and which version of it.
type Login = Option<(SecretUse, Arc<SecretValue>)>;

impl Keeper {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        let mut login = self.first_login().await;
        loop {
            match tokio::time::timeout(CONNECT_WITHIN, self.connect(&login)).await {
                Ok(Ok(connection)) => {
                    self.connected.send_replace(Some(connection));
                    pause = PAUSE_MIN;
                    login = self.next_login(&login).await;
                    continue;
                }
                Ok(Err(reason)) => tracing::warn!(workload = %self.workload, reason, "no connection for links yet"),
                Err(_) => tracing::warn!(workload = %self.workload, "no connection for links yet: NATS is silent"),
            }
            let jitter = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(PAUSE_MAX);
            login = self.current_login().unwrap_or(login);
        }
    }

    /// The login of a workload that is live and whose credentials have come; `Some(None)` if it needs none.
    fn current_login(&self) -> Option<Login> {
        let used = self.live.borrow().get(&self.workload)?.clone();
        let Some(used) = used else { return Some(None) };
        let handle: SecretHandle = self.secrets.handle(&used);
        Some(Some((used, handle.get()?)))
    }

    async fn first_login(&mut self) -> Login {
        loop {
            if let Some(login) = self.current_login() {
                return login;
            }
            self.pause().await;
        }
    }

    /// Waits for other credentials. A workload that is live no more keeps what it has for the calls in flight.
    async fn next_login(&mut self, login: &Login) -> Login {
        let version = |login: &Login| {
            login
                .as_ref()
                .map(|(used, value)| (used.id(), value.version().to_owned()))
        };
        loop {
            self.pause().await;
            if let Some(next) = self.current_login()
                && version(&next) != version(login)
            {
                return next;
            }
        }
    }

    /// A handle tells nobody that its value came, so it is asked now and then.
    async fn pause(&mut self) {
        tokio::select! {
            changed = self.live.changed() => if changed.is_err() {
                tokio::time::sleep(CREDENTIALS_POLL).await;
            },
            () = tokio::time::sleep(CREDENTIALS_POLL) => {}
        }
    }

    async fn connect(&self, login: &Login) -> Result<Connection, String> {
        let WorkloadId { namespace, name } = &self.workload;
        let mut options = ConnectOptions::new()
            .name(format!("heddle/{namespace}/{name}"))
            .custom_inbox_prefix(workload_inbox_prefix(&self.workload))
            .connection_timeout(CONNECT_WITHIN)
            .ping_interval(Duration::from_secs(3))
            .max_reconnects(None)
            .reconnect_delay_callback(reconnect_pause);
        if let Some((_, value)) = login {
            let text = std::str::from_utf8(value.reveal()).map_err(|_| "its credentials are not text".to_owned())?;
            // The library's own words may hold a piece of what it was given.
            let refused = |_| "its credentials are no NATS credentials (a JWT and a seed)".to_owned();
            options = options.credentials(text).map_err(refused)?;
        }
        let urls: Vec<&str> = self.url.split(',').collect();
        let client = options.connect(urls).await.map_err(|error| error.to_string())?;
        Connection::new(client, Options::default())
            .await
            .map_err(|error| error.to_string())
    }
}

/// The servers, without the login that a URL may hold: that one is the agent's own.
fn without_login(urls: &str) -> String {
    let plain = |url: &str| {
        let url = url.trim();
        match (url.split_once("://"), url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            (None, Some((_, host))) => host.to_owned(),
            (_, None) => url.to_owned(),
        }
    };
    urls.split(',').map(plain).collect::<Vec<_>>().join(",")
}

/// Later attempts wait longer, with jitter, so that a host's workloads do not return in step.
fn reconnect_pause(attempts: usize) -> Duration {
    let doubled = PAUSE_MIN * 2_u32.saturating_pow(u32::try_from(attempts).unwrap_or(u32::MAX).min(8));
    doubled.min(PAUSE_MAX).mul_f64(rand::rng().random_range(0.2..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_own_login_stays_with_the_agent() {
        let urls = "nats://agent:p@ss@a:4222, tls://token@b,c:4222,me@d";
        assert_eq!(without_login(urls), "nats://a:4222,tls://b,c:4222,d");
    }
}
