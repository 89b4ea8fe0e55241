//! Blob stores in NATS object stores: objects `<scope>/<container>/<object>` of one bucket.
//!
//! In: an offer that names a bucket, and credentials as secret `credentials` where the server asks for them. Out: stores
//! that any client of NATS object stores reads. Scope and container are tokens without a slash, so no name that a guest
//! chooses leaves its scope. A bucket that is not there is made, with one replica and the quota as its bound; one that is
//! there stays as it is. The connection is the capability's own and is opened by the first call.
//!
//! Large objects go through in chunks, a few at a time. A guest that reads an object while another replaces it gets an
//! error, never a mixture.

mod bucket;
mod chunks;
mod connection;

use crate::backend::{Blobs, Error, ObjectInfo, Range, Reader, Store, check_container, check_object, now};
use crate::lend::{LentStore, wrong};
use crate::spool::{Spool, Spooled};
use async_trait::async_trait;
use connection::Connection;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use heddle_capability::{Capability, CapabilityError, Lending, Lent};
use heddle_capability_keyvalue::token;
use heddle_protocol::host_spec::{CapabilityOffer, Feature};
use heddle_protocol::id::CapabilityName;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Objects of a container that are removed at the same time.
const REMOVE_AT_ONCE: usize = 16;

/// Lends blob stores in NATS object stores.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlobstoreNats;

impl BlobstoreNats {
    pub(crate) fn lend(
        self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        lending: &Lending,
    ) -> Result<LentStore, CapabilityError> {
        let CapabilityOffer::BlobstoreNats {
            bucket,
            url,
            quota_bytes,
            shared,
        } = offer
        else {
            return Err(CapabilityError::OtherKind {
                name: name.clone(),
                feature: Feature::BLOBSTORE_NATS,
            });
        };
        let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if bucket.is_empty() || !bucket.chars().all(fit) {
            return Err(wrong(name, "a bucket's name has letters, digits, `-` and `_` only"));
        }
        let Some(url) = url.as_ref().or(lending.nats_url.as_ref()) else {
            return Err(wrong(
                name,
                "no NATS server is known; give the platform's capability a `url`",
            ));
        };
        let credentials = lending.secrets.get("credentials").cloned();
        let connection = Arc::new(Connection::new(name, url, bucket, *quota_bytes, credentials));
        // What is stored is counted by the server; here only what is on its way.
        let spool = Spool::open(
            lending.data.join("blobstore-unfinished").join(name.as_str()),
            *quota_bytes,
            || 0,
        );
        let spool = spool.map_err(|e| wrong(name, e.to_string()))?;
        Ok(LentStore {
            scope: Box::new(move |scope| -> Store {
                Arc::new(Scope {
                    connection: Arc::clone(&connection),
                    scope: token(scope),
                    spool: Arc::clone(&spool),
                })
            }),
            shared: *shared,
        })
    }
}

impl Capability for BlobstoreNats {
    fn feature(&self) -> Feature {
        Feature::BLOBSTORE_NATS
    }

    fn configure(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        lending: &Lending,
    ) -> Result<Arc<dyn Lent>, CapabilityError> {
        Ok(Arc::new(self.lend(name, offer, lending)?))
    }
}

struct Scope {
    connection: Arc<Connection>,
    /// The scope's token.
    scope: String,
    spool: Arc<Spool>,
}

impl Scope {
    /// The object that stands for a container itself: it has no second slash, which every other name has.
    fn marker(&self, container: &str) -> String {
        format!("{}/{}", self.scope, token(container))
    }

    fn prefix(&self, container: &str) -> String {
        format!("{}/", self.marker(container))
    }

    fn name(&self, container: &str, object: &str) -> String {
        format!("{}{object}", self.prefix(container))
    }

    async fn must_be_there(&self, container: &str) -> Result<(), Error> {
        match self.container_created(container).await? {
            Some(_) => Ok(()),
            None => Err(Error::NoContainer(container.to_owned())),
        }
    }

    async fn put(&self, container: &str, object: &str, bytes: impl AsyncRead + Send + Unpin) -> Result<(), Error> {
        check_object(object)?;
        self.must_be_there(container).await?;
        let bucket = self.connection.bucket().await?;
        bucket.put(&self.name(container, object), bytes).await
    }

    async fn remove_all(&self, container: &str) -> Result<(), Error> {
        let bucket = self.connection.bucket().await?;
        let names = bucket.names(self.prefix(container)).await?;
        names
            .try_for_each_concurrent(REMOVE_AT_ONCE, |object| {
                let (bucket, name) = (&bucket, self.name(container, &object));
                async move { bucket.delete(&name).await }
            })
            .await
    }
}

#[async_trait]
impl Blobs for Scope {
    fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    async fn create_container(&self, container: &str) -> Result<(), Error> {
        check_container(container)?;
        let bucket = self.connection.bucket().await?;
        if bucket.create_empty(&self.marker(container)).await? {
            return Ok(());
        }
        Err(Error::ContainerExists(container.to_owned()))
    }

    async fn container_created(&self, container: &str) -> Result<Option<u64>, Error> {
        let bucket = self.connection.bucket().await?;
        let marker = bucket.find(&self.marker(container)).await?;
        Ok(marker.map(|marker| marker.created_at.unwrap_or_else(now)))
    }

    async fn delete_container(&self, container: &str) -> Result<(), Error> {
        // The marker goes first: half a removal leaves no container.
        let bucket = self.connection.bucket().await?;
        bucket.delete(&self.marker(container)).await?;
        self.remove_all(container).await
    }

    async fn clear(&self, container: &str) -> Result<(), Error> {
        self.must_be_there(container).await?;
        self.remove_all(container).await
    }

    async fn list(&self, container: &str) -> Result<BoxStream<'static, Result<String, Error>>, Error> {
        self.must_be_there(container).await?;
        let bucket = self.connection.bucket().await?;
        Ok(bucket.names(self.prefix(container)).await?.boxed())
    }

    async fn info(&self, container: &str, object: &str) -> Result<Option<ObjectInfo>, Error> {
        let bucket = self.connection.bucket().await?;
        let found = bucket.find(&self.name(container, object)).await?;
        Ok(found.map(|found| ObjectInfo {
            created_at: found.created_at.unwrap_or_else(now),
            size: found.info.size as u64,
        }))
    }

    async fn read(&self, container: &str, object: &str, range: Range) -> Result<Reader, Error> {
        let bucket = self.connection.bucket().await?;
        let found = bucket.find(&self.name(container, object)).await?;
        let found = found.ok_or_else(|| Error::NoObject(object.to_owned()))?;
        let whole = found.info.size as u64;
        let size = range.bytes_of(whole);
        let mut bytes = bucket.read(found.info);
        if size > 0 {
            // The chunks say nothing of their place: those before it go by.
            tokio::io::copy(&mut (&mut bytes).take(range.start), &mut tokio::io::sink()).await?;
        }
        Ok(Reader {
            size,
            bytes: Box::new(bytes.take(size)),
        })
    }

    async fn write(&self, container: &str, object: &str, value: Spooled) -> Result<(), Error> {
        let file = tokio::fs::File::open(value.path()).await?;
        self.put(container, object, file).await
    }

    async fn delete(&self, container: &str, object: &str) -> Result<(), Error> {
        let bucket = self.connection.bucket().await?;
        bucket.delete(&self.name(container, object)).await
    }

    async fn copy(&self, from: (&str, &str), to: (&str, &str)) -> Result<(), Error> {
        if from == to {
            return self
                .info(from.0, from.1)
                .await?
                .map(drop)
                .ok_or_else(|| Error::NoObject(from.1.to_owned()));
        }
        let reader = self.read(from.0, from.1, Range::ALL).await?;
        self.put(to.0, to.1, reader.bytes).await
    }

    async fn rename(&self, from: (&str, &str), to: (&str, &str)) -> Result<(), Error> {
        self.copy(from, to).await?;
        if from == to {
            return Ok(());
        }
        self.delete(from.0, from.1).await
    }
}
