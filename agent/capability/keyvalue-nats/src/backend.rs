//! One scope of one NATS bucket. In: calls with a guest's names. Out: the same on keys of the NATS bucket.
//!
//! Values are written as they are, so any client of NATS reads them. What is removed is purged, marker and all: a bucket
//! does not fill up with the traces of keys that were there once.

use crate::connection::{Connection, unavailable};
use crate::list;
use async_nats::jetstream::kv::{self, Operation, UpdateErrorKind};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use heddle_capability_keyvalue::{ANSWER_BYTES_MAX, Backend, Page, Pair, Refused, token};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Requests of one batch that are on their way at the same time.
const BATCH_AT_ONCE: usize = 16;
/// Locks that keep the units of this host from racing each other for one number; other hosts they meet at the server.
const LOCKS: usize = 64;
/// Attempts at adding to a number while other hosts do, too.
const ATTEMPTS_MAX: usize = 100;

/// One scope.
pub(crate) struct Scope {
    connection: Arc<Connection>,
    /// The scope's token.
    scope: String,
    locks: Vec<Mutex<()>>,
    hash: RandomState,
}

impl Scope {
    pub(crate) fn new(connection: Arc<Connection>, scope: &str) -> Self {
        Self {
            connection,
            scope: token(scope),
            locks: (0..LOCKS).map(|_| Mutex::default()).collect(),
            hash: RandomState::new(),
        }
    }

    fn key(&self, bucket: &str, key: &str) -> String {
        format!("{}.{}.{}", self.scope, token(bucket), token(key))
    }

    /// Says what an error means, and looks for the bucket again the next time.
    fn failed(&self, error: impl std::error::Error) -> Refused {
        self.connection.look_again();
        unavailable(error)
    }

    async fn get_one(&self, store: &kv::Store, bucket: &str, key: &str) -> Result<Option<Bytes>, Refused> {
        store.get(self.key(bucket, key)).await.map_err(|e| self.failed(e))
    }

    async fn set_one(&self, store: &kv::Store, bucket: &str, key: &str, value: Vec<u8>) -> Result<(), Refused> {
        let stored = store.put(self.key(bucket, key), value.into()).await;
        stored.map(drop).map_err(|e| self.failed(e))
    }

    async fn delete_one(&self, store: &kv::Store, bucket: &str, key: &str) -> Result<(), Refused> {
        let subject = format!("{}{}", store.prefix, self.key(bucket, key));
        let purged = store.stream.purge().filter(subject).await;
        purged.map(drop).map_err(|e| self.failed(e))
    }
}

#[async_trait]
impl Backend for Scope {
    async fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, Refused> {
        let store = self.connection.bucket().await?;
        Ok(self.get_one(&store, bucket, key).await?.map(Vec::from))
    }

    async fn set(&self, bucket: &str, key: &str, value: Vec<u8>) -> Result<(), Refused> {
        let store = self.connection.bucket().await?;
        self.set_one(&store, bucket, key, value).await
    }

    async fn delete(&self, bucket: &str, key: &str) -> Result<(), Refused> {
        let store = self.connection.bucket().await?;
        self.delete_one(&store, bucket, key).await
    }

    async fn exists(&self, bucket: &str, key: &str) -> Result<bool, Refused> {
        let store = self.connection.bucket().await?;
        Ok(self.get_one(&store, bucket, key).await?.is_some())
    }

    async fn list(&self, bucket: &str, cursor: Option<u64>) -> Result<Page, Refused> {
        let store = self.connection.bucket().await?;
        let prefix = format!("{}{}.{}.", store.prefix, self.scope, token(bucket));
        list::page(&store, &prefix, cursor)
            .await
            .inspect_err(|_| self.connection.look_again())
    }

    async fn increment(&self, bucket: &str, key: &str, delta: u64) -> Result<u64, Refused> {
        let store = self.connection.bucket().await?;
        let subject = self.key(bucket, key);
        let lock = self.hash.hash_one(&subject) as usize % LOCKS;
        let _mine = match self.locks.get(lock) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        for _ in 0..ATTEMPTS_MAX {
            let entry = store.entry(&subject).await.map_err(|e| self.failed(e))?;
            // A marker of a key that others removed has a revision, too, and the next value must follow it.
            let revision = entry.as_ref().map_or(0, |entry| entry.revision);
            let before = match entry.filter(|entry| entry.operation == Operation::Put) {
                None => 0,
                Some(entry) => number(key, &entry.value)?,
            };
            let after = before.checked_add(delta).ok_or(Refused::Overflow)?;
            match store.update(&subject, after.to_string().into(), revision).await {
                Ok(_) => return Ok(after),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(Refused::Contended(key.to_owned()))
    }

    async fn get_many(&self, bucket: &str, keys: &[String]) -> Result<Vec<Option<Pair>>, Refused> {
        let store = self.connection.bucket().await?;
        let mut values = stream::iter(keys.iter().cloned())
            .map(|key| {
                let store = &store;
                async move {
                    let value = self.get_one(store, bucket, &key).await?;
                    Ok::<_, Refused>(value.map(|value| (key, Vec::from(value))))
                }
            })
            .buffered(BATCH_AT_ONCE);
        let (mut found, mut bytes) = (Vec::with_capacity(keys.len()), 0);
        while let Some(pair) = values.try_next().await? {
            bytes += pair.as_ref().map_or(0, |(key, value)| key.len() + value.len());
            if bytes > ANSWER_BYTES_MAX {
                return Err(Refused::Answer);
            }
            found.push(pair);
        }
        Ok(found)
    }

    async fn set_many(&self, bucket: &str, pairs: Vec<Pair>) -> Result<(), Refused> {
        let store = self.connection.bucket().await?;
        // One after the other where a key comes twice: the last value is the one that stays.
        let last: std::collections::BTreeMap<String, Vec<u8>> = pairs.into_iter().collect();
        stream::iter(last.into_iter().map(Ok::<_, Refused>))
            .try_for_each_concurrent(BATCH_AT_ONCE, |(key, value)| {
                let store = &store;
                async move { self.set_one(store, bucket, &key, value).await }
            })
            .await
    }

    async fn delete_many(&self, bucket: &str, keys: &[String]) -> Result<(), Refused> {
        let store = self.connection.bucket().await?;
        stream::iter(keys.iter().cloned().map(Ok::<_, Refused>))
            .try_for_each_concurrent(BATCH_AT_ONCE, |key| {
                let store = &store;
                async move { self.delete_one(store, bucket, &key).await }
            })
            .await
    }
}

fn number(key: &str, value: &[u8]) -> Result<u64, Refused> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Refused::NoNumber(key.to_owned()))
}
