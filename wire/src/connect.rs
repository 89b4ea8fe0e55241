//! Connecting to NATS: endless reconnects with jitter, and a watchable link state.

use rand::Rng as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Longest pause between two attempts to reconnect: a restarted server is found again within two seconds.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(2_000);

/// Where and how to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Server URLs, separated by commas: `nats://127.0.0.1:4222`.
    pub url: String,
    /// A NATS credentials file.
    pub credentials: Option<PathBuf>,
    /// The text of NATS credentials, where they are in no file.
    pub login: Option<Login>,
    /// The connection's name, as `nats-server` lists it.
    pub name: String,
    /// The prefix of this connection's inboxes; none uses NATS's own.
    pub inbox_prefix: Option<String>,
    /// Whether to go on trying when the first attempt fails.
    pub retry_first: bool,
    /// How long one request may take, unless it says otherwise.
    pub request_timeout: Duration,
}

impl ConnectOptions {
    /// Options for a URL and a name, with everything else as usual.
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            credentials: None,
            login: None,
            name: name.into(),
            inbox_prefix: None,
            retry_first: false,
            request_timeout: Duration::from_secs(5),
        }
    }
}

/// NATS credentials as text: a JWT and the seed that proves it. Never printed.
#[derive(Clone)]
pub struct Login(Arc<str>);

impl Login {
    /// Takes the text; none if it is no text at all.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok().map(|text| Self(text.into()))
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(hidden)")
    }
}

/// How the link to NATS is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Whether it is up.
    pub up: bool,
    /// How often it came up: 2 and more are reconnects.
    pub connects: u64,
    /// Messages that were dropped because this process was too slow: a gap in what it has heard.
    pub dropped: u64,
}

/// A connection and its state.
#[derive(Debug, Clone)]
pub struct Link {
    /// The client.
    pub client: async_nats::Client,
    /// Changes with the link.
    pub state: watch::Receiver<LinkState>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The credentials file cannot be read.
    #[error("failed to read NATS credentials {path}: {source}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The credentials' text is none.
    #[error("failed to read the NATS credentials: they are not in the form of a credentials file; check the secret")]
    Login,
    /// No server answered.
    #[error("failed to connect to NATS at {}: {source}", without_login(url))]
    Connect {
        /// The URLs that were tried.
        url: String,
        /// Why.
        #[source]
        source: async_nats::ConnectError,
    },
}

/// Connects, and goes on reconnecting for as long as the client lives.
pub async fn connect(options: &ConnectOptions) -> Result<Link, ConnectError> {
    let (sender, state) = watch::channel(LinkState::default());
    let mut nats = async_nats::ConnectOptions::new()
        .name(&options.name)
        .request_timeout(Some(options.request_timeout))
        .connection_timeout(Duration::from_secs(3))
        // Two lost pings show a dead link within six seconds even where TCP stays silent.
        .ping_interval(Duration::from_secs(3))
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_pause)
        .event_callback(move |event| {
            let sender = sender.clone();
            async move {
                note(&sender, &event);
            }
        });
    if let Some(path) = &options.credentials {
        let text = std::fs::read_to_string(path).map_err(|source| ConnectError::Credentials {
            path: path.clone(),
            source,
        })?;
        nats = nats.credentials(&text).map_err(|source| ConnectError::Credentials {
            path: path.clone(),
            source,
        })?;
    }
    if let Some(Login(text)) = &options.login {
        // What is wrong with it could show a part of it: the cause stays out.
        nats = nats.credentials(text).map_err(|_| ConnectError::Login)?;
    }
    if let Some(prefix) = &options.inbox_prefix {
        nats = nats.custom_inbox_prefix(prefix);
    }
    if options.retry_first {
        nats = nats.retry_on_initial_connect();
    }
    let urls: Vec<String> = options.url.split(',').map(|u| u.trim().to_owned()).collect();
    // The client library does not take a login out of a URL by itself.
    let login = urls
        .iter()
        .filter_map(|u| u.parse::<async_nats::ServerAddr>().ok())
        .find(|a| a.username().is_some());
    if let Some(address) = login {
        let user = address.username().unwrap_or_default().to_owned();
        nats = match address.password() {
            Some(password) => nats.user_and_password(user, password.to_owned()),
            None => nats.token(user),
        };
    }
    let client = nats.connect(urls).await.map_err(|source| ConnectError::Connect {
        url: options.url.clone(),
        source,
    })?;
    Ok(Link { client, state })
}

/// URLs fit for messages: without users and passwords.
fn without_login(urls: &str) -> String {
    let plain = |url: &str| match url.rsplit_once('@') {
        Some((before, host)) => format!("{}***@{host}", before.split_once("//").map_or("", |(scheme, _)| scheme)),
        None => url.to_owned(),
    };
    urls.split(',').map(plain).collect::<Vec<_>>().join(",")
}

/// The first attempt is at once; later ones wait longer, with jitter, so that a fleet does not return in step.
fn reconnect_pause(attempts: usize) -> Duration {
    if attempts <= 1 {
        return Duration::from_millis(rand::rng().random_range(0..50));
    }
    let doubled = Duration::from_millis(50) * 2u32.saturating_pow(attempts.min(10) as u32);
    doubled
        .min(RECONNECT_PAUSE_MAX)
        .mul_f64(rand::rng().random_range(0.5..1.0))
}

fn note(sender: &watch::Sender<LinkState>, event: &async_nats::Event) {
    use async_nats::Event;
    match event {
        Event::Connected => sender.send_modify(|s| {
            s.up = true;
            s.connects += 1;
        }),
        Event::Disconnected | Event::Closed => sender.send_modify(|s| s.up = false),
        Event::SlowConsumer(_) => {
            let mut dropped = 0;
            sender.send_modify(|s| {
                s.dropped += 1;
                dropped = s.dropped;
            });
            // Each message that is dropped is an event, and a line for each would only make the process slower.
            if dropped.is_power_of_two() {
                tracing::warn!(
                    dropped,
                    "NATS messages were dropped because this process is too slow; what was missed is asked for"
                );
            }
        }
        Event::ServerError(e) => tracing::warn!(error = %e, "NATS server reports an error"),
        Event::ClientError(e) => tracing::debug!(error = %e, "NATS client error"),
        Event::LameDuckMode | Event::Draining => {}
    }
}
