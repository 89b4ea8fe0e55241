//! The capability's connection to Redis. In: a URL, and a password that may come later and change. Out: a connection
//! that many calls share, or a refusal.

use heddle_capability::{CapabilityError, SecretHandle};
use heddle_capability_keyvalue::Refused;
use heddle_protocol::id::CapabilityName;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, RedisError};
use std::time::Duration;
use tokio::sync::Mutex;

/// How long one command may take: a call has a little more.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(4);
/// How long opening a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
/// Longest pause between two attempts to connect within one call.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Where the data of one capability is.
pub(crate) struct Connection {
    info: ConnectionInfo,
    name: String,
    password: Option<SecretHandle>,
    /// The connection, and the version of the password that it was opened with.
    open: Mutex<Option<(String, ConnectionManager)>>,
}

impl Connection {
    pub(crate) fn new(
        name: &CapabilityName,
        url: &str,
        password: Option<SecretHandle>,
    ) -> Result<Self, CapabilityError> {
        // What the library says about a URL could show a password that somebody wrote into it.
        let info = url.into_connection_info().map_err(|_| CapabilityError::Offer {
            name: name.clone(),
            why: "its `url` is none of Redis; write `redis://host:port/database`, or `rediss://` for TLS".to_owned(),
        })?;
        Ok(Self {
            info,
            name: format!("heddle/keyvalue/{name}"),
            password,
            open: Mutex::default(),
        })
    }

    /// A connection; the first caller opens it, the others wait for that.
    pub(crate) async fn get(&self) -> Result<ConnectionManager, Refused> {
        let (version, settings) = self.login()?;
        let mut open = self.open.lock().await;
        if let Some((_, connection)) = open.as_ref().filter(|(opened, _)| *opened == version) {
            return Ok(connection.clone());
        }
        *open = None;
        let client = Client::open(self.info.clone().set_redis_settings(settings)).map_err(refused)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIME_MAX))
            .set_connection_timeout(Some(CONNECT_TIME_MAX))
            .set_max_delay(PAUSE_MAX)
            .set_number_of_retries(1);
        let connection = ConnectionManager::new_with_config(client, config)
            .await
            .map_err(refused)?;
        // So that `CLIENT LIST` tells whose it is; a login that may not do it is still a login.
        let named: Result<(), RedisError> = redis::cmd("CLIENT")
            .arg("SETNAME")
            .arg(&self.name)
            .query_async(&mut connection.clone())
            .await;
        if let Err(error) = named {
            tracing::debug!(%error, connection = self.name, "Redis takes no name for the connection");
        }
        *open = Some((version, connection.clone()));
        Ok(connection)
    }

    fn login(&self) -> Result<(String, redis::RedisConnectionInfo), Refused> {
        let settings = self.info.redis_settings().clone();
        let Some(handle) = &self.password else {
            return Ok((String::new(), settings));
        };
        let missing = || Refused::Unavailable("its secret `password` has not come yet".to_owned());
        let value = handle.get().ok_or_else(missing)?;
        let password = std::str::from_utf8(value.reveal()).map_err(|_| Refused::AccessDenied)?;
        Ok((value.version().to_owned(), settings.set_password(password)))
    }
}

/// What an error of the server means to a guest.
pub(crate) fn refused(error: RedisError) -> Refused {
    if error.kind() == ErrorKind::AuthenticationFailed {
        return Refused::AccessDenied;
    }
    match error.code() {
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => Refused::AccessDenied,
        Some("OOM") => Refused::Full("Redis has reached its memory limit".to_owned()),
        _ => Refused::Unavailable(error.to_string()),
    }
}
