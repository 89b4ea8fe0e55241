//! What a blob store does, seen as one scope of it. In: names that a guest chose, and files with what it wrote. Out:
//! objects as readers, or an error in words, which is all that the interface has for one.

use crate::spool::{Spool, Spooled};
use async_trait::async_trait;
use futures::stream::BoxStream;
use std::sync::Arc;
use tokio::io::AsyncRead;

/// The name of a container or an object, in bytes.
pub const NAME_BYTES_MAX: usize = 1 << 10;
/// The name of a container, in bytes: together with an object's it must fit into one subject of NATS.
pub const CONTAINER_NAME_BYTES_MAX: usize = 255;

/// Why something cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such container.
    #[error("there is no container {0:?}; create it first")]
    NoContainer(String),
    /// There is one already.
    #[error("there is a container {0:?} already")]
    ContainerExists(String),
    /// There is no such object.
    #[error("there is no object {0:?}")]
    NoObject(String),
    /// A name is too long.
    #[error("a name has at most {max} bytes, and this one {bytes}")]
    Name {
        /// What it has.
        bytes: usize,
        /// What it may have.
        max: usize,
    },
    /// The store has no room for it.
    #[error("the store is full: {0}")]
    Full(String),
    /// The store did not answer in time: whether it did what was asked is unknown.
    #[error("the store did not answer within {0} ms; whether it did what was asked is unknown")]
    Late(u128),
    /// A file cannot be used.
    #[error("failed to use the store's files: {0}")]
    Files(#[from] std::io::Error),
    /// The server cannot be used.
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// When it was written, in seconds since 1970.
    pub created_at: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// Which bytes of an object: from the first to the last, both included.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// The first.
    pub start: u64,
    /// The last; one that is behind the end means the end.
    pub end: u64,
}

impl Range {
    /// All of an object.
    pub const ALL: Self = Self {
        start: 0,
        end: u64::MAX,
    };

    /// How many bytes that is of an object of a size.
    pub fn bytes_of(&self, size: u64) -> u64 {
        match size.checked_sub(1) {
            Some(last) if self.start <= self.end.min(last) => self.end.min(last) - self.start + 1,
            _ => 0,
        }
    }
}

/// Bytes of an object.
pub struct Reader {
    /// How many there are.
    pub size: u64,
    /// They themselves.
    pub bytes: Box<dyn AsyncRead + Send + Unpin>,
}

/// One scope of one store.
pub type Store = Arc<dyn Blobs>;

/// A blob store, seen as one scope of it.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Where what a guest writes is kept until it is whole.
    fn spool(&self) -> &Arc<Spool>;
    /// Makes a container.
    async fn create_container(&self, container: &str) -> Result<(), Error>;
    /// When a container was made, in seconds since 1970; none if there is no such container.
    async fn container_created(&self, container: &str) -> Result<Option<u64>, Error>;
    /// Removes a container with all that is in it; it need not be there.
    async fn delete_container(&self, container: &str) -> Result<(), Error>;
    /// Removes all objects of a container.
    async fn clear(&self, container: &str) -> Result<(), Error>;
    /// The names of all objects of a container, in any order.
    async fn list(&self, container: &str) -> Result<BoxStream<'static, Result<String, Error>>, Error>;
    /// What is known of an object; none if there is no such object.
    async fn info(&self, container: &str, object: &str) -> Result<Option<ObjectInfo>, Error>;
    /// Opens an object.
    async fn read(&self, container: &str, object: &str, range: Range) -> Result<Reader, Error>;
    /// Makes a written file the object of that name, as one step.
    async fn write(&self, container: &str, object: &str, value: Spooled) -> Result<(), Error>;
    /// Removes an object; it need not be there.
    async fn delete(&self, container: &str, object: &str) -> Result<(), Error>;
    /// Copies an object.
    async fn copy(&self, from: (&str, &str), to: (&str, &str)) -> Result<(), Error>;
    /// Moves an object. Where that takes two steps the new one is there before the old one goes.
    async fn rename(&self, from: (&str, &str), to: (&str, &str)) -> Result<(), Error>;
}

/// Whether a container's name has a fit size.
pub(crate) fn check_container(name: &str) -> Result<(), Error> {
    check(name, CONTAINER_NAME_BYTES_MAX)
}

/// Whether an object's name has a fit size.
pub(crate) fn check_object(name: &str) -> Result<(), Error> {
    check(name, NAME_BYTES_MAX)
}

fn check(name: &str, max: usize) -> Result<(), Error> {
    let bytes = name.len();
    if bytes > max {
        Err(Error::Name { bytes, max })
    } else {
        Ok(())
    }
}

/// Now, in seconds since 1970.
pub(crate) fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_both_its_ends_and_no_more_than_there_is() {
        let bytes = |start, end, size| Range { start, end }.bytes_of(size);
        assert_eq!(bytes(0, 0, 5), 1);
        assert_eq!(bytes(1, 3, 5), 3);
        assert_eq!(bytes(3, u64::MAX, 5), 2);
        assert_eq!(bytes(5, 9, 5), 0);
        assert_eq!(bytes(3, 2, 5), 0);
        assert_eq!(Range::ALL.bytes_of(0), 0);
    }
}
