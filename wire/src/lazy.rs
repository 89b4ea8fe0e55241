//! A connection that is opened when it is first needed, and again when its login changes.
//!
//! In: a server, a name, and the login of the moment. Out: a client that is connected now, or why there is none. What
//! speaks for guests has such a connection of its own; nothing is connected for a workload that never asks.

use crate::connect::{ConnectError, ConnectOptions, Link, Login, connect};
use std::time::Duration;
use tokio::sync::Mutex;

/// How long a caller waits for a connection that is just coming up.
const COMING_UP: Duration = Duration::from_millis(500);

/// A connection that may not be there yet.
#[derive(Debug)]
pub struct LazyLink {
    options: ConnectOptions,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    /// The version of the login that it was opened with.
    version: String,
    link: Link,
}

/// The login of the moment.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Its version; another one means another connection.
    pub version: String,
    /// The login; none is a connection without.
    pub login: Option<Login>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum LazyError {
    /// It cannot be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It was open and is down; it comes back by itself.
    #[error("the connection to NATS is down; it comes back by itself")]
    Down,
}

impl LazyLink {
    /// A connection with these options and whatever login is given later.
    pub fn new(options: ConnectOptions) -> Self {
        Self {
            options,
            open: Mutex::default(),
        }
    }

    /// A client that is connected. Callers wait for one attempt together; they do not make one each.
    pub async fn client(&self, credentials: &Credentials) -> Result<async_nats::Client, LazyError> {
        let mut open = self.open.lock().await;
        let mut link = match open.take_if(|open| open.version != credentials.version) {
            // The old connection ends when the last call that uses it does.
            Some(_) => None,
            None => open.as_ref().map(|open| open.link.clone()),
        };
        if link.is_none() {
            let options = ConnectOptions {
                login: credentials.login.clone(),
                ..self.options.clone()
            };
            let new = connect(&options).await?;
            *open = Some(Open {
                version: credentials.version.clone(),
                link: new.clone(),
            });
            link = Some(new);
        }
        drop(open);
        let Some(mut link) = link else {
            return Err(LazyError::Down);
        };
        match is_up(&mut link).await {
            true => Ok(link.client),
            false => Err(LazyError::Down),
        }
    }
}

async fn is_up(link: &mut Link) -> bool {
    let up = link.state.wait_for(|state| state.up);
    matches!(tokio::time::timeout(COMING_UP, up).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_is_not_there_is_an_error_and_a_login_is_never_printed() {
        // Port 9 is `discard`, which nobody serves.
        let link = LazyLink::new(ConnectOptions::new("nats://127.0.0.1:9", "test"));
        let refused = link.client(&Credentials::default()).await;
        assert!(
            matches!(refused, Err(LazyError::Connect(ConnectError::Connect { .. }))),
            "{refused:?}"
        );
        let credentials = Credentials {
            version: "1".into(),
            login: Login::new(b"-----BEGIN NATS USER JWT-----"),
        };
        assert!(!format!("{credentials:?}").contains("JWT"));
        assert!(matches!(
            link.client(&credentials).await,
            Err(LazyError::Connect(ConnectError::Login))
        ));
    }
}
