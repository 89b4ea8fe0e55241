//! The capability's own connection, and the bucket behind it. In: a server, a bucket's name, credentials. Out: the
//! bucket, found or made, or why it cannot be used.

use super::bucket::Bucket;
use crate::backend::Error;
use async_nats::jetstream::{self, object_store};
use heddle_capability::SecretHandle;
use heddle_protocol::id::CapabilityName;
use heddle_wire::connect::{ConnectOptions, Login};
use heddle_wire::lazy::{Credentials, LazyLink};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long one request to the server may take: a call has a little more.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(4);

/// The bucket as it was last found, and the version of the login it was found with.
type Found = Option<(String, Arc<Bucket>)>;

/// Where the data of one capability is.
pub(super) struct Connection {
    link: LazyLink,
    credentials: Option<SecretHandle>,
    bucket: String,
    quota: Option<u64>,
    found: Mutex<Found>,
}

impl Connection {
    pub(super) fn new(
        name: &CapabilityName,
        url: &str,
        bucket: &str,
        quota: Option<u64>,
        credentials: Option<SecretHandle>,
    ) -> Self {
        let mut options = ConnectOptions::new(url, format!("heddle/blobstore/{name}"));
        options.request_timeout = REQUEST_TIME_MAX;
        Self {
            link: LazyLink::new(options),
            credentials,
            bucket: bucket.to_owned(),
            quota,
            found: Mutex::default(),
        }
    }

    /// The bucket, with a connection that is up.
    pub(super) async fn bucket(&self) -> Result<Arc<Bucket>, Error> {
        let credentials = self.login()?;
        let client = self.link.client(&credentials).await.map_err(unavailable)?;
        let known = self.lock().clone();
        // One that gave an error may have been removed.
        if let Some((_, bucket)) = known.filter(|(version, bucket)| *version == credentials.version && bucket.is_fine())
        {
            return Ok(bucket);
        }
        let bucket = Arc::new(self.find(&jetstream::new(client)).await?);
        *self.lock() = Some((credentials.version, Arc::clone(&bucket)));
        Ok(bucket)
    }

    async fn find(&self, context: &jetstream::Context) -> Result<Bucket, Error> {
        let stream = format!("OBJ_{}", self.bucket);
        if context.get_object_store(&self.bucket).await.is_err() {
            let config = object_store::Config {
                bucket: self.bucket.clone(),
                description: Some("Blobs of workloads".to_owned()),
                max_bytes: self.quota.map_or(-1, |quota| i64::try_from(quota).unwrap_or(i64::MAX)),
                num_replicas: 1,
                ..object_store::Config::default()
            };
            let made = context.create_object_store(config).await;
            // Somebody else may have been faster, with another configuration.
            if let Err(error) = made {
                context
                    .get_object_store(&self.bucket)
                    .await
                    .map_err(|_| unavailable(error))?;
            }
        }
        let stream = context.get_stream(stream).await.map_err(unavailable)?;
        Ok(Bucket::new(&self.bucket, context.clone(), stream))
    }

    fn login(&self) -> Result<Credentials, Error> {
        let Some(handle) = &self.credentials else {
            return Ok(Credentials::default());
        };
        let missing = |why: &str| Error::Unavailable(format!("its secret `credentials` {why}"));
        let value = handle.get().ok_or_else(|| missing("has not come yet"))?;
        Ok(Credentials {
            version: value.version().to_owned(),
            login: Some(Login::new(value.reveal()).ok_or_else(|| missing("is no text"))?),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error of the server, with its causes.
pub(super) fn unavailable(error: impl std::error::Error) -> Error {
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
    if text.contains("maximum bytes exceeded") || text.contains("insufficient storage") {
        return Error::Full(text);
    }
    Error::Unavailable(text)
}
