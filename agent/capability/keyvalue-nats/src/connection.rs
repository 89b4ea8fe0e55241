//! The capability's own connection, and the bucket behind it. In: a server, a bucket's name, credentials. Out: the
//! bucket, found or made, or a refusal.

use async_nats::jetstream::{self, kv};
use heddle_capability::SecretHandle;
use heddle_capability_keyvalue::Refused;
use heddle_protocol::id::CapabilityName;
use heddle_wire::connect::{ConnectOptions, Login};
use heddle_wire::lazy::{Credentials, LazyLink};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long one request to the server may take: a call has a little more.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(4);

/// Where the data of one capability is.
pub(crate) struct Connection {
    link: LazyLink,
    credentials: Option<SecretHandle>,
    bucket: String,
    /// The bucket as it was last found, and the version of the login it was found with.
    found: Mutex<Option<(String, Arc<kv::Store>)>>,
}

impl Connection {
    pub(crate) fn new(name: &CapabilityName, url: &str, bucket: &str, credentials: Option<SecretHandle>) -> Self {
        let mut options = ConnectOptions::new(url, format!("heddle/keyvalue/{name}"));
        options.request_timeout = REQUEST_TIME_MAX;
        Self {
            link: LazyLink::new(options),
            credentials,
            bucket: bucket.to_owned(),
            found: Mutex::default(),
        }
    }

    /// The bucket, with a connection that is up.
    pub(crate) async fn bucket(&self) -> Result<Arc<kv::Store>, Refused> {
        let credentials = self.login()?;
        let client = self.link.client(&credentials).await.map_err(unavailable)?;
        let found = self.lock().clone();
        if let Some((_, store)) = found.filter(|(version, _)| *version == credentials.version) {
            return Ok(store);
        }
        let store = Arc::new(find(&jetstream::new(client), &self.bucket).await?);
        *self.lock() = Some((credentials.version, Arc::clone(&store)));
        Ok(store)
    }

    /// Looks for the bucket again with the next call: it may have been removed.
    pub(crate) fn look_again(&self) {
        *self.lock() = None;
    }

    fn login(&self) -> Result<Credentials, Refused> {
        let Some(handle) = &self.credentials else {
            return Ok(Credentials::default());
        };
        let missing = || Refused::Unavailable("its secret `credentials` has not come yet".to_owned());
        let value = handle.get().ok_or_else(missing)?;
        Ok(Credentials {
            version: value.version().to_owned(),
            login: Some(Login::new(value.reveal()).ok_or(Refused::AccessDenied)?),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(String, Arc<kv::Store>)>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn find(context: &jetstream::Context, bucket: &str) -> Result<kv::Store, Refused> {
    if let Ok(store) = context.get_key_value(bucket).await {
        return Ok(store);
    }
    let config = kv::Config {
        bucket: bucket.to_owned(),
        description: "Key-value data of workloads".to_owned(),
        history: 1,
        num_replicas: 1,
        ..kv::Config::default()
    };
    match context.create_key_value(config).await {
        Ok(store) => Ok(store),
        // Somebody else may have been faster, with another configuration.
        Err(create) => context.get_key_value(bucket).await.map_err(|_| unavailable(create)),
    }
}

/// An error of the server, with its causes.
pub(crate) fn unavailable(error: impl std::error::Error) -> Refused {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    let lower = text.to_ascii_lowercase();
    if lower.contains("authorization violation") || lower.contains("permissions violation") {
        return Refused::AccessDenied;
    }
    if lower.contains("maximum bytes exceeded") || lower.contains("insufficient storage") {
        return Refused::Full(text);
    }
    Refused::Unavailable(text)
}
