//! The functions of the three interfaces, over a [`Space`]. In: calls of a guest. Out: its buckets' contents.
//!
//! A bucket handle carries the space that it was opened in, so `atomics` and `batch` need no binding of their own.

use crate::space::{Refused, Space};
use heddle_capability::Ctx;
use std::sync::Arc;
use wasmtime::component::{ComponentType, LinkerInstance, Lower, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};

/// `wasi:keyvalue/store.bucket`: one bucket of one space.
pub(crate) struct Bucket {
    space: Arc<Space>,
    name: Arc<str>,
}

/// `wasi:keyvalue/store.error`.
#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "no-such-store")]
    #[allow(
        dead_code,
        reason = "a case of the interface: here a bucket is made when it is opened"
    )]
    NoSuchStore,
    #[component(name = "access-denied")]
    #[allow(
        dead_code,
        reason = "a case of the interface: here a guest sees only what it may use"
    )]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

/// `wasi:keyvalue/store.key-response`.
#[derive(Debug, ComponentType, Lower)]
#[component(record)]
struct KeyResponse {
    keys: Vec<String>,
    cursor: Option<u64>,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::Other(refused.to_string())
    }
}

type Store<'a> = StoreContextMut<'a, Ctx>;
type Handle = Resource<Bucket>;

/// Does something with the bucket that a handle stands for. A handle that stands for nothing is the guest's fault and
/// traps; a refusal goes back to it.
fn with<T>(
    store: &Store<'_>,
    handle: &Handle,
    act: impl FnOnce(&Space, &str) -> std::result::Result<T, Refused>,
) -> Result<(std::result::Result<T, Error>,)> {
    let bucket = store.data().table.get(handle)?;
    Ok((act(&bucket.space, &bucket.name).map_err(Error::from),))
}

/// Adds `wasi:keyvalue/store`.
pub(crate) fn store(space: Arc<Space>, linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    linker.resource("bucket", ResourceType::host::<Bucket>(), |mut store, rep| {
        store.data_mut().table.delete(Handle::new_own(rep))?;
        Ok(())
    })?;
    linker.func_wrap("open", move |mut store: Store<'_>, (name,): (String,)| {
        if let Err(refused) = space.open(&name) {
            return Ok((Err(Error::from(refused)),));
        }
        let bucket = Bucket {
            space: Arc::clone(&space),
            name: name.into(),
        };
        Ok((Ok::<Handle, Error>(store.data_mut().table.push(bucket)?),))
    })?;
    linker.func_wrap(
        "[method]bucket.get",
        |store: Store<'_>, (bucket, key): (Handle, String)| {
            with(&store, &bucket, |space, name| Ok(space.get(name, &key)))
        },
    )?;
    linker.func_wrap(
        "[method]bucket.set",
        |store: Store<'_>, (bucket, key, value): (Handle, String, Vec<u8>)| {
            with(&store, &bucket, |space, name| space.set_many(name, vec![(key, value)]))
        },
    )?;
    linker.func_wrap(
        "[method]bucket.delete",
        |store: Store<'_>, (bucket, key): (Handle, String)| {
            with(&store, &bucket, |space, name| {
                space.delete_many(name, &[key]);
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        "[method]bucket.exists",
        |store: Store<'_>, (bucket, key): (Handle, String)| {
            with(&store, &bucket, |space, name| Ok(space.exists(name, &key)))
        },
    )?;
    linker.func_wrap(
        "[method]bucket.list-keys",
        |store: Store<'_>, (bucket, cursor): (Handle, Option<u64>)| {
            with(&store, &bucket, |space, name| {
                let (keys, cursor) = space.list(name, cursor);
                Ok(KeyResponse { keys, cursor })
            })
        },
    )
}

/// Adds `wasi:keyvalue/atomics`.
pub(crate) fn atomics(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    linker.func_wrap(
        "increment",
        |store: Store<'_>, (bucket, key, delta): (Handle, String, u64)| {
            with(&store, &bucket, |space, name| space.increment(name, &key, delta))
        },
    )
}

/// Adds `wasi:keyvalue/batch`.
pub(crate) fn batch(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    linker.func_wrap("get-many", |store: Store<'_>, (bucket, keys): (Handle, Vec<String>)| {
        with(&store, &bucket, |space, name| space.get_many(name, keys))
    })?;
    linker.func_wrap(
        "set-many",
        |store: Store<'_>, (bucket, pairs): (Handle, Vec<(String, Vec<u8>)>)| {
            with(&store, &bucket, |space, name| space.set_many(name, pairs))
        },
    )?;
    linker.func_wrap(
        "delete-many",
        |store: Store<'_>, (bucket, keys): (Handle, Vec<String>)| {
            with(&store, &bucket, |space, name| {
                space.delete_many(name, &keys);
                Ok(())
            })
        },
    )
}
