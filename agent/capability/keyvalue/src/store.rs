//! One scope of one store, and the buckets in it. In: calls with keys and values of any size. Out: answers, at once
//! where the data is in this process and later where it is elsewhere; never later than the caller can wait.

use crate::bounds::{Refused, check_batch, check_key, check_pair};
use crate::space::Space;
use async_trait::async_trait;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// A key and its value.
pub type Pair = (String, Vec<u8>);

/// Some keys of a bucket, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The keys.
    pub keys: Vec<String>,
    /// The cursor of the next page; none when this was the last one.
    pub next: Option<u64>,
}

/// A store that is not in this process, seen as one scope of it. Sizes were checked; a call that takes too long is
/// dropped.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// The value of a key.
    async fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, Refused>;
    /// Stores a value.
    async fn set(&self, bucket: &str, key: &str, value: Vec<u8>) -> Result<(), Refused>;
    /// Removes a key; it need not be there.
    async fn delete(&self, bucket: &str, key: &str) -> Result<(), Refused>;
    /// Whether a key is there.
    async fn exists(&self, bucket: &str, key: &str) -> Result<bool, Refused>;
    /// One page of keys. A key that is there from the first page to the last is on one of them, perhaps on two.
    async fn list(&self, bucket: &str, cursor: Option<u64>) -> Result<Page, Refused>;
    /// Adds to a number in decimal digits, as one step; a key that is not there counts as 0.
    async fn increment(&self, bucket: &str, key: &str, delta: u64) -> Result<u64, Refused>;
    /// The values of several keys, in their order, no more than fit into one answer.
    async fn get_many(&self, bucket: &str, keys: &[String]) -> Result<Vec<Option<Pair>>, Refused>;
    /// Stores several values. On an error any of them may have been stored.
    async fn set_many(&self, bucket: &str, pairs: Vec<Pair>) -> Result<(), Refused>;
    /// Removes several keys. On an error any of them may have been removed.
    async fn delete_many(&self, bucket: &str, keys: &[String]) -> Result<(), Refused>;
}

/// What a store answers.
pub enum Answer<T> {
    /// It has.
    Now(Result<T, Refused>),
    /// It will.
    Later(BoxFuture<'static, Result<T, Refused>>),
}

impl<T: Send + 'static> Answer<T> {
    fn later(answer: impl Future<Output = Result<T, Refused>> + Send + 'static) -> Self {
        Self::Later(Box::pin(answer))
    }

    /// The answer, if it comes in time.
    pub async fn within(self, time: Duration) -> Result<T, Refused> {
        match self {
            Self::Now(answer) => answer,
            Self::Later(answer) => match tokio::time::timeout(time, answer).await {
                Ok(answer) => answer,
                Err(_) => Err(Refused::Late(time)),
            },
        }
    }
}

/// One scope of one store.
#[derive(Clone)]
pub struct Store(Backing);

#[derive(Clone)]
enum Backing {
    Memory(Arc<Space>),
    Remote(Arc<dyn Backend>),
}

/// One bucket of one scope.
#[derive(Clone)]
pub struct Bucket {
    store: Store,
    name: Arc<str>,
}

impl Store {
    pub(crate) fn memory(space: Arc<Space>) -> Self {
        Self(Backing::Memory(space))
    }

    /// A store in this process, of a test's own.
    pub fn in_memory() -> Self {
        Self::memory(Arc::default())
    }

    /// A store that is elsewhere.
    pub fn remote(backend: Arc<dyn Backend>) -> Self {
        Self(Backing::Remote(backend))
    }

    /// Whether every answer is there at once.
    pub(crate) fn is_immediate(&self) -> bool {
        matches!(self.0, Backing::Memory(_))
    }

    /// A bucket, which is made when it is not there: elsewhere with the first value, so this asks no server.
    pub fn open(&self, name: String) -> Result<Bucket, Refused> {
        check_key(&name)?;
        if let Backing::Memory(space) = &self.0 {
            space.open(&name)?;
        }
        Ok(Bucket {
            store: self.clone(),
            name: name.into(),
        })
    }
}

/// Where a call goes.
enum At<'a> {
    Nowhere(Refused),
    Memory(&'a Space),
    Remote(Arc<dyn Backend>, Arc<str>),
}

impl Bucket {
    /// What does not fit reaches no server; the store in memory looks for itself.
    fn at(&self, checked: impl FnOnce() -> Result<(), Refused>) -> At<'_> {
        match &self.store.0 {
            Backing::Memory(space) => At::Memory(space),
            Backing::Remote(backend) => match checked() {
                Ok(()) => At::Remote(Arc::clone(backend), Arc::clone(&self.name)),
                Err(refused) => At::Nowhere(refused),
            },
        }
    }

    /// The value of a key.
    pub fn get(&self, key: String) -> Answer<Option<Vec<u8>>> {
        match self.at(|| check_key(&key)) {
            At::Nowhere(refused) => Answer::Now(Err(refused)),
            At::Memory(space) => Answer::Now(space.get(&self.name, &key)),
            At::Remote(to, name) => Answer::later(async move { to.get(&name, &key).await }),
        }
    }

    /// Stores a value.
    pub fn set(&self, key: String, value: Vec<u8>) -> Answer<()> {
        match self.at(|| check_pair(&key, &value)) {
            At::Nowhere(refused) => Answer::Now(Err(refused)),
            At::Memory(space) => Answer::Now(space.set_many(&self.name, vec![(key, value)])),
            At::Remote(to, name) => Answer::later(async move { to.set(&name, &key, value).await }),
        }
    }

    /// Removes a key; it need not be there.
    pub fn delete(&self, key: String) -> Answer<()> {
        match self.at(|| check_key(&key)) {
            At::Nowhere(refused) => Answer::Now(Err(refused)),
            At::Memory(space) => Answer::Now(space.delete_many(&self.name, &[key])),
            At::Remote(to, name) => Answer::later(async move { to.delete(&name, &key).await }),
        }
    }

    /// Whether a key is there.
    pub fn exists(&self, key: String) -> Answer<bool> {
        match self.at(|| check_key(&key)) {
            At::Nowhere(refused) => Answer::Now(Err(refused)),
            At::Memory(space) => Answer::Now(space.exists(&self.name, &key)),
            At::Remote(to, name) => Answer::later(async move { to.exists(&name, &key).await }),
        }
    }

    /// One page of keys.
    pub fn list(&self, cursor: Option<u64>) -> Answer<Page> {
        match self.at(|| Ok(())) {
            At::Nowhere(refused) => Answer::Now(Err(refused)),
            At::Memory(space) => Answer::Now(Ok(space.list(&self.name, cursor))),
            At::Remote(to, name) => Answer::later(async move { to.list(&name, cursor).await }),
        }
    }

    /// Adds to a number in decimal digits, as one step; a key that is not there counts as 0.
    pub fn increment(&self, key: String, delta: u64) -> Answer<u64> {
        match self.at(|| check_key(&key)) {
            At::Nowhere(refused) => Answer::Now(Err(refused)),
            At::Memory(space) => Answer::Now(space.increment(&self.name, &key, delta)),
            At::Remote(to, name) => Answer::later(async move { to.increment(&name, &key, delta).await }),
        }
    }

    /// The values of several keys, in their order.
    pub fn get_many(&self, keys: Vec<String>) -> Answer<Vec<Option<Pair>>> {
        match self.at(|| check_batch(keys.iter().map(String::as_str))) {
            At::Nowhere(refused) => Answer::Now(Err(refused)),
            At::Memory(space) => Answer::Now(space.get_many(&self.name, keys)),
            At::Remote(to, name) => Answer::later(async move { to.get_many(&name, &keys).await }),
        }
    }

    /// Stores several values.
    pub fn set_many(&self, pairs: Vec<Pair>) -> Answer<()> {
        let check = || {
            check_batch(pairs.iter().map(|(key, _)| key.as_str()))?;
            pairs.iter().try_for_each(|(key, value)| check_pair(key, value))
        };
        match self.at(check) {
            At::Nowhere(refused) => Answer::Now(Err(refused)),
            At::Memory(space) => Answer::Now(space.set_many(&self.name, pairs)),
            At::Remote(to, name) => Answer::later(async move { to.set_many(&name, pairs).await }),
        }
    }

    /// Removes several keys.
    pub fn delete_many(&self, keys: Vec<String>) -> Answer<()> {
        match self.at(|| check_batch(keys.iter().map(String::as_str))) {
            At::Nowhere(refused) => Answer::Now(Err(refused)),
            At::Memory(space) => Answer::Now(space.delete_many(&self.name, &keys)),
            At::Remote(to, name) => Answer::later(async move { to.delete_many(&name, &keys).await }),
        }
    }
}
