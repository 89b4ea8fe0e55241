//! The connection of one capability: opened when it is first needed, kept, and never the agent's own.
//!
//! In: a URL, and credentials that may come late and change. Out: a client that is up, or why there is none.

use async_nats::{Auth, AuthError, Client, Event};
use heddle_capability::SecretHandle;
use heddle_protocol::id::CapabilityName;
use nkeys::KeyPair;
use std::time::Duration;
use tokio::sync::{OnceCell, watch};

/// How long a caller waits for a link that is not up.
const UP_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest pause between two attempts to connect again.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Messages that wait in this process for one subscription; what comes beyond them over NATS alone is dropped.
const SUBSCRIPTION_MESSAGES: usize = 1_024;

/// Why there is no link.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("failed to connect to NATS for capability {0}: {1}")]
    Connect(CapabilityName, String),
    #[error("the link of capability {0} to NATS is down; it comes back by itself")]
    Down(CapabilityName),
}

/// A client, and how its link is.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) state: watch::Receiver<LinkState>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LinkState {
    pub(crate) up: bool,
    /// Times that it came up.
    pub(crate) connects: u64,
}

pub(crate) struct Connection {
    name: CapabilityName,
    url: String,
    credentials: Option<SecretHandle>,
    link: OnceCell<Link>,
}

impl Connection {
    pub(crate) fn new(name: &CapabilityName, url: &str, credentials: Option<SecretHandle>) -> Self {
        Self {
            name: name.clone(),
            url: url.to_owned(),
            credentials,
            link: OnceCell::new(),
        }
    }

    /// The link, up. Whoever asks first connects; the client then connects again by itself.
    pub(crate) async fn link(&self) -> Result<Link, LinkError> {
        let link = self.link.get_or_try_init(|| self.connect()).await?.clone();
        let mut state = link.state.clone();
        let up = tokio::time::timeout(UP_TIMEOUT, state.wait_for(|state| state.up)).await;
        match up {
            Ok(Ok(_)) => Ok(link),
            _ => Err(LinkError::Down(self.name.clone())),
        }
    }

    async fn connect(&self) -> Result<Link, LinkError> {
        let failed = |e: &dyn std::fmt::Display| LinkError::Connect(self.name.clone(), e.to_string());
        let (sender, state) = watch::channel(LinkState::default());
        let urls: Vec<String> = self.url.split(',').map(|url| url.trim().to_owned()).collect();
        let options = self
            .login(&urls)
            .name(format!("heddle/messaging/{}", self.name))
            .connection_timeout(UP_TIMEOUT)
            .ping_interval(Duration::from_secs(3))
            .subscription_capacity(SUBSCRIPTION_MESSAGES)
            .max_reconnects(None)
            .reconnect_delay_callback(|attempts| {
                let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
                crate::backoff::pause(attempts, Duration::from_millis(50), RECONNECT_PAUSE_MAX)
            })
            .event_callback(move |event| {
                match event {
                    Event::Connected => sender.send_modify(|state| {
                        state.up = true;
                        state.connects += 1;
                    }),
                    Event::Disconnected | Event::Closed => sender.send_modify(|state| state.up = false),
                    Event::SlowConsumer(_) => tracing::warn!("messages were dropped because their handler is too slow"),
                    other => tracing::debug!(event = %other, "messaging"),
                }
                std::future::ready(())
            });
        let connecting = tokio::time::timeout(UP_TIMEOUT, options.connect(urls)).await;
        let client = connecting.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        Ok(Link { client, state })
    }

    /// Who it is: by credentials, else by what the URL says, else nobody.
    fn login(&self, urls: &[String]) -> async_nats::ConnectOptions {
        if let Some(credentials) = self.credentials.clone() {
            // Asked with every connect, so that a newer secret is used from the next one on.
            return async_nats::ConnectOptions::with_auth_callback(move |nonce| {
                let auth = authenticate(&credentials, &nonce);
                async move { auth }
            });
        }
        let addresses = urls.iter().filter_map(|url| url.parse::<async_nats::ServerAddr>().ok());
        let login = addresses.into_iter().find_map(|address| {
            let user = address.username()?.to_owned();
            Some((user, address.password().map(ToOwned::to_owned)))
        });
        // The client library does not take a login out of a URL by itself.
        match login {
            Some((user, Some(password))) => async_nats::ConnectOptions::with_user_and_password(user, password),
            Some((token, None)) => async_nats::ConnectOptions::with_token(token),
            None => async_nats::ConnectOptions::new(),
        }
    }
}

/// Signs the server's nonce with the seed of the credentials.
fn authenticate(credentials: &SecretHandle, nonce: &[u8]) -> Result<Auth, AuthError> {
    let value = credentials
        .get()
        .ok_or_else(|| AuthError::new("the credentials have not come to this host yet"))?;
    let text = std::str::from_utf8(value.reveal()).map_err(|_| AuthError::new("the credentials are no text"))?;
    let missing = || AuthError::new("the secret is no NATS credentials text with a JWT and a seed");
    let jwt = section(text, "NATS USER JWT").ok_or_else(missing)?;
    let seed = section(text, "USER NKEY SEED").ok_or_else(missing)?;
    // What is wrong with a seed is not said: the words might hold some of it.
    let key = KeyPair::from_seed(seed).map_err(|_| AuthError::new("the seed of the credentials cannot be read"))?;
    let signature = key
        .sign(nonce)
        .map_err(|_| AuthError::new("the credentials cannot sign"))?;
    let mut auth = Auth::new();
    auth.jwt = Some(jwt.to_owned());
    auth.signature = Some(signature);
    Ok(auth)
}

/// What stands between the marks of one section of a credentials text.
fn section<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let begin = format!("-----BEGIN {name}-----");
    let after = text.split_once(&begin)?.1;
    let (inside, _) = after.split_once("------END").or_else(|| after.split_once("-----END"))?;
    Some(inside.trim()).filter(|inside| !inside.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_apart() {
        let text = "-----BEGIN NATS USER JWT-----\nabc.def\n------END NATS USER JWT------\n\nnote\n\
                    -----BEGIN USER NKEY SEED-----\nSUAX\n------END USER NKEY SEED------\n";
        assert_eq!(section(text, "NATS USER JWT"), Some("abc.def"));
        assert_eq!(section(text, "USER NKEY SEED"), Some("SUAX"));
        assert_eq!(section("nothing", "USER NKEY SEED"), None);
    }

    #[test]
    fn credentials_that_have_not_come_or_are_none_do_not_sign() {
        use heddle_capability::SecretValue;
        let handle = SecretHandle::default();
        assert!(authenticate(&handle, b"nonce").is_err());
        handle.set(SecretValue::new("1", b"hunter2".to_vec().into()));
        let error = authenticate(&handle, b"nonce").err().unwrap().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
