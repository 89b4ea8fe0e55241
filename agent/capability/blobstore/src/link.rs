//! The functions of the three interfaces, over any store. In: calls of a guest. Out: its containers and objects.

use crate::backend::{Error, Range, Store, check_container, check_object};
use crate::value::{Incoming, Outgoing};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use heddle_capability::{CapabilityError, Ctx, Import};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use wasmtime::component::{
    ComponentNamedList, ComponentType, Lift, LinkerInstance, Lower, Resource, ResourceTable, ResourceType,
};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::p2::pipe::AsyncReadStream;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

const BLOBSTORE: &str = "wasi:blobstore/blobstore@0.2.0-draft";
const CONTAINER: &str = "wasi:blobstore/container@0.2.0-draft";
const TYPES: &str = "wasi:blobstore/types@0.2.0-draft";
const MEETS: &[&str] = &[BLOBSTORE, CONTAINER, TYPES];

/// Longest wait of one call that moves no data.
const CALL_TIME_MAX: Duration = Duration::from_secs(5);
/// What `incoming-value-consume-sync` gives at most, in bytes: it is held twice while it is handed over.
const SYNC_BYTES_MAX: u64 = 8 << 20;
/// Names that one call gives or skips at most.
const NAMES_MAX: u64 = 1_000;
/// Names of one call to remove.
const DELETE_MAX: usize = 1_000;

type Caller<'a> = StoreContextMut<'a, Ctx>;
/// What goes back to the guest.
type Returned<T> = (std::result::Result<T, String>,);

/// One container of one scope.
#[derive(Clone)]
pub(crate) struct Container {
    store: Store,
    name: Arc<str>,
}

/// Names that are still to come.
struct Names {
    names: Option<BoxStream<'static, std::result::Result<String, Error>>>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct ContainerMetadata {
    name: String,
    #[component(name = "created-at")]
    created_at: u64,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct ObjectMetadata {
    name: String,
    container: String,
    #[component(name = "created-at")]
    created_at: u64,
    size: u64,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct ObjectId {
    container: String,
    object: String,
}

/// Meets one import of the three interfaces with a store.
pub(crate) fn prepare(
    store: &Store,
    import: &Import<'_>,
    linker: &mut LinkerInstance<'_, Ctx>,
) -> std::result::Result<(), CapabilityError> {
    let linked = match import.interface {
        BLOBSTORE => add_blobstore(store, linker),
        CONTAINER => add_container(linker),
        TYPES => add_types(store, linker),
        other => {
            return Err(CapabilityError::NotMet {
                interface: other.to_owned(),
                meets: MEETS.iter().map(ToString::to_string).collect(),
            });
        }
    };
    linked.map_err(CapabilityError::link(import))
}

fn time_left(ctx: &Ctx) -> Duration {
    ctx.deadline().saturating_duration_since(Instant::now()) * 4 / 5
}

/// Links a function that asks the store and needs nothing of the guest's while it waits.
fn ask<P, T, F>(
    linker: &mut LinkerInstance<'_, Ctx>,
    name: &str,
    call: impl Fn(&Ctx, P) -> Result<F> + Send + Sync + 'static,
) -> Result<()>
where
    P: ComponentNamedList + Lift + Send + Sync + 'static,
    T: ComponentType + Lower + Send + Sync + 'static,
    F: Future<Output = std::result::Result<T, Error>> + Send + 'static,
{
    linker.func_wrap_async(name, move |store: Caller<'_>, params: P| {
        let (answer, time) = (call(store.data(), params), time_left(store.data()).min(CALL_TIME_MAX));
        Box::new(async move {
            let returned: Returned<T> = (within(time, answer?).await.map_err(|e| e.to_string()),);
            Ok(returned)
        })
    })
}

async fn within<T>(
    time: Duration,
    answer: impl Future<Output = std::result::Result<T, Error>>,
) -> std::result::Result<T, Error> {
    match tokio::time::timeout(time, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Late(time.as_millis())),
    }
}

fn container(table: &ResourceTable, handle: &Resource<Container>) -> Result<Container> {
    Ok(table.get(handle)?.clone())
}

fn add_blobstore(store: &Store, linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    let of = Arc::clone(store);
    linker.func_wrap_async("create-container", move |mut caller: Caller<'_>, (name,): (String,)| {
        let store = Arc::clone(&of);
        Box::new(async move {
            let time = time_left(caller.data()).min(CALL_TIME_MAX);
            let made = within(time, async {
                check_container(&name)?;
                store.create_container(&name).await
            });
            give_container(&mut caller, made.await, Arc::clone(&store), name)
        })
    })?;
    let of = Arc::clone(store);
    linker.func_wrap_async("get-container", move |mut caller: Caller<'_>, (name,): (String,)| {
        let store = Arc::clone(&of);
        Box::new(async move {
            let time = time_left(caller.data()).min(CALL_TIME_MAX);
            let found = within(time, created(&store, &name)).await.map(drop);
            give_container(&mut caller, found, Arc::clone(&store), name)
        })
    })?;
    let of = Arc::clone(store);
    ask(linker, "delete-container", move |_, (name,): (String,)| {
        let store = Arc::clone(&of);
        Ok(async move {
            check_container(&name)?;
            store.delete_container(&name).await
        })
    })?;
    let of = Arc::clone(store);
    ask(linker, "container-exists", move |_, (name,): (String,)| {
        let store = Arc::clone(&of);
        Ok(async move {
            check_container(&name)?;
            Ok(store.container_created(&name).await?.is_some())
        })
    })?;
    let of = Arc::clone(store);
    transfer(linker, "copy-object", move |from, to| {
        let store = Arc::clone(&of);
        async move {
            store
                .copy((&from.container, &from.object), (&to.container, &to.object))
                .await
        }
    })?;
    let of = Arc::clone(store);
    transfer(linker, "move-object", move |from, to| {
        let store = Arc::clone(&of);
        async move {
            store
                .rename((&from.container, &from.object), (&to.container, &to.object))
                .await
        }
    })
}

/// Links a function that moves an object's bytes: it may take as long as the guest itself.
fn transfer<F>(
    linker: &mut LinkerInstance<'_, Ctx>,
    name: &str,
    call: impl Fn(ObjectId, ObjectId) -> F + Send + Sync + 'static,
) -> Result<()>
where
    F: Future<Output = std::result::Result<(), Error>> + Send + 'static,
{
    linker.func_wrap_async(name, move |caller: Caller<'_>, (from, to): (ObjectId, ObjectId)| {
        let time = time_left(caller.data());
        let checked = [&from, &to].into_iter().try_for_each(|id| {
            check_container(&id.container)?;
            check_object(&id.object)
        });
        let call = call(from, to);
        Box::new(async move {
            let moved = within(time, async {
                checked?;
                call.await
            });
            let returned: Returned<()> = (moved.await.map_err(|e| e.to_string()),);
            Ok(returned)
        })
    })
}

async fn created(store: &Store, name: &str) -> std::result::Result<u64, Error> {
    check_container(name)?;
    let created = store.container_created(name).await?;
    created.ok_or_else(|| Error::NoContainer(name.to_owned()))
}

fn give_container(
    caller: &mut Caller<'_>,
    there: std::result::Result<(), Error>,
    store: Store,
    name: String,
) -> Result<Returned<Resource<Container>>> {
    let container = Container {
        store,
        name: name.into(),
    };
    Ok(match there {
        Ok(()) => (Ok(caller.data_mut().table.push(container)?),),
        Err(error) => (Err(error.to_string()),),
    })
}

fn add_container(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    resource::<Container>(linker, "container")?;
    resource::<Names>(linker, "stream-object-names")?;
    linker.func_wrap(
        "[method]container.name",
        |caller: Caller<'_>, (this,): (Resource<Container>,)| {
            let returned: Returned<String> = (Ok(container(&caller.data().table, &this)?.name.to_string()),);
            Ok(returned)
        },
    )?;
    ask(
        linker,
        "[method]container.info",
        |ctx, (this,): (Resource<Container>,)| {
            let this = container(&ctx.table, &this)?;
            Ok(async move {
                Ok(ContainerMetadata {
                    created_at: created(&this.store, &this.name).await?,
                    name: this.name.to_string(),
                })
            })
        },
    )?;
    add_objects(linker)?;
    add_reading(linker)?;
    add_names(linker)
}

fn add_objects(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    type Named = (Resource<Container>, String);
    ask(linker, "[method]container.delete-object", |ctx, (this, name): Named| {
        let this = container(&ctx.table, &this)?;
        Ok(async move {
            check_object(&name)?;
            this.store.delete(&this.name, &name).await
        })
    })?;
    ask(
        linker,
        "[method]container.delete-objects",
        |ctx, (this, names): (Resource<Container>, Vec<String>)| {
            let this = container(&ctx.table, &this)?;
            Ok(async move {
                if names.len() > DELETE_MAX {
                    return Err(Error::Full(format!("one call removes at most {DELETE_MAX} objects")));
                }
                for name in names {
                    check_object(&name)?;
                    this.store.delete(&this.name, &name).await?;
                }
                Ok(())
            })
        },
    )?;
    ask(linker, "[method]container.has-object", |ctx, (this, name): Named| {
        let this = container(&ctx.table, &this)?;
        Ok(async move {
            check_object(&name)?;
            Ok(this.store.info(&this.name, &name).await?.is_some())
        })
    })?;
    ask(linker, "[method]container.object-info", |ctx, (this, name): Named| {
        let this = container(&ctx.table, &this)?;
        Ok(async move {
            check_object(&name)?;
            let info = this.store.info(&this.name, &name).await?;
            let info = info.ok_or_else(|| Error::NoObject(name.clone()))?;
            Ok(ObjectMetadata {
                name,
                container: this.name.to_string(),
                created_at: info.created_at,
                size: info.size,
            })
        })
    })?;
    ask(
        linker,
        "[method]container.clear",
        |ctx, (this,): (Resource<Container>,)| {
            let this = container(&ctx.table, &this)?;
            Ok(async move { this.store.clear(&this.name).await })
        },
    )?;
    linker.func_wrap(
        "[method]container.write-data",
        |mut caller: Caller<'_>, (this, name, value): (Resource<Container>, String, Resource<Outgoing>)| {
            let table = &mut caller.data_mut().table;
            let this = container(table, &this)?;
            // It becomes the object when it is finished: the guest may write all of it before this call or after.
            let returned: Returned<()> = match check_object(&name) {
                Ok(()) => {
                    table.get_mut(&value)?.to = Some((this.name.to_string(), name));
                    (Ok(()),)
                }
                Err(error) => (Err(error.to_string()),),
            };
            Ok(returned)
        },
    )
}

fn add_reading(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    linker.func_wrap_async(
        "[method]container.get-data",
        |mut caller: Caller<'_>, (this, name, start, end): (Resource<Container>, String, u64, u64)| {
            Box::new(async move {
                let this = container(&caller.data().table, &this)?;
                let time = time_left(caller.data());
                let read = within(time, async {
                    check_object(&name)?;
                    this.store.read(&this.name, &name, Range { start, end }).await
                });
                let returned: Returned<Resource<Incoming>> = match read.await {
                    Ok(reader) => (Ok(caller.data_mut().table.push(Incoming(reader))?),),
                    Err(error) => (Err(error.to_string()),),
                };
                Ok(returned)
            })
        },
    )?;
    linker.func_wrap_async(
        "[method]container.list-objects",
        |mut caller: Caller<'_>, (this,): (Resource<Container>,)| {
            Box::new(async move {
                let this = container(&caller.data().table, &this)?;
                let time = time_left(caller.data()).min(CALL_TIME_MAX);
                let returned: Returned<Resource<Names>> = match within(time, this.store.list(&this.name)).await {
                    Ok(names) => (Ok(caller.data_mut().table.push(Names { names: Some(names) })?),),
                    Err(error) => (Err(error.to_string()),),
                };
                Ok(returned)
            })
        },
    )
}

/// Some more names, and whether those were the last.
async fn more(names: &mut Names, wanted: u64) -> std::result::Result<(Vec<String>, bool), Error> {
    let mut found = Vec::new();
    while (found.len() as u64) < wanted.min(NAMES_MAX) {
        let Some(stream) = &mut names.names else {
            return Ok((found, true));
        };
        match stream.next().await {
            Some(name) => found.push(name?),
            None => names.names = None,
        }
    }
    Ok((found, names.names.is_none()))
}

fn add_names(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    linker.func_wrap_async(
        "[method]stream-object-names.read-stream-object-names",
        |mut caller: Caller<'_>, (this, wanted): (Resource<Names>, u64)| {
            Box::new(async move {
                let time = time_left(caller.data()).min(CALL_TIME_MAX);
                let names = caller.data_mut().table.get_mut(&this)?;
                let returned: Returned<(Vec<String>, bool)> =
                    (within(time, more(names, wanted)).await.map_err(|e| e.to_string()),);
                Ok(returned)
            })
        },
    )?;
    linker.func_wrap_async(
        "[method]stream-object-names.skip-stream-object-names",
        |mut caller: Caller<'_>, (this, wanted): (Resource<Names>, u64)| {
            Box::new(async move {
                let time = time_left(caller.data()).min(CALL_TIME_MAX);
                let names = caller.data_mut().table.get_mut(&this)?;
                let skipped = within(time, more(names, wanted)).await;
                let returned: Returned<(u64, bool)> = (skipped
                    .map(|(names, end)| (names.len() as u64, end))
                    .map_err(|e| e.to_string()),);
                Ok(returned)
            })
        },
    )
}

fn add_types(store: &Store, linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    resource::<Outgoing>(linker, "outgoing-value")?;
    resource::<Incoming>(linker, "incoming-value")?;
    let of = Arc::clone(store);
    linker.func_wrap(
        "[static]outgoing-value.new-outgoing-value",
        move |mut caller: Caller<'_>, (): ()| Ok((caller.data_mut().table.push(Outgoing::new(of.spool()))?,)),
    )?;
    linker.func_wrap(
        "[method]outgoing-value.outgoing-value-write-body",
        |mut caller: Caller<'_>, (this,): (Resource<Outgoing>,)| {
            let table = &mut caller.data_mut().table;
            let returned: (std::result::Result<Resource<DynOutputStream>, ()>,) =
                match table.get_mut(&this)?.take_body() {
                    Some(body) => {
                        let stream: DynOutputStream = Box::new(body);
                        // A child: a value that is finished before its stream is dropped traps, as the interface says.
                        (Ok(table.push_child(stream, &this)?),)
                    }
                    None => (Err(()),),
                };
            Ok(returned)
        },
    )?;
    let of = Arc::clone(store);
    linker.func_wrap_async(
        "[static]outgoing-value.finish",
        move |mut caller: Caller<'_>, (this,): (Resource<Outgoing>,)| {
            let store = Arc::clone(&of);
            Box::new(async move {
                let time = time_left(caller.data());
                let mut value = caller.data_mut().table.delete(this)?;
                let stored = within(time, async {
                    let whole = value.whole().await?;
                    match value.to.take() {
                        Some((container, object)) => store.write(&container, &object, whole).await,
                        None => Err(Error::Unavailable(
                            "the value was never given a name with `write-data`".to_owned(),
                        )),
                    }
                });
                let returned: Returned<()> = (stored.await.map_err(|e| e.to_string()),);
                Ok(returned)
            })
        },
    )?;
    add_incoming(linker)
}

fn add_incoming(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    linker.func_wrap(
        "[method]incoming-value.size",
        |caller: Caller<'_>, (this,): (Resource<Incoming>,)| Ok((caller.data().table.get(&this)?.0.size,)),
    )?;
    linker.func_wrap_async(
        "[static]incoming-value.incoming-value-consume-sync",
        |mut caller: Caller<'_>, (this,): (Resource<Incoming>,)| {
            Box::new(async move {
                let time = time_left(caller.data());
                let mut value = caller.data_mut().table.delete(this)?;
                let read = within(time, async {
                    if value.0.size > SYNC_BYTES_MAX {
                        let why =
                            format!("it has more than {SYNC_BYTES_MAX} bytes; use `incoming-value-consume-async`");
                        return Err(Error::Unavailable(why));
                    }
                    let mut bytes = Vec::with_capacity(value.0.size as usize);
                    value.0.bytes.read_to_end(&mut bytes).await?;
                    Ok(bytes)
                });
                let returned: Returned<Vec<u8>> = (read.await.map_err(|e| e.to_string()),);
                Ok(returned)
            })
        },
    )?;
    linker.func_wrap(
        "[static]incoming-value.incoming-value-consume-async",
        |mut caller: Caller<'_>, (this,): (Resource<Incoming>,)| {
            let table = &mut caller.data_mut().table;
            let stream: DynInputStream = Box::new(AsyncReadStream::new(table.delete(this)?.0.bytes));
            let returned: Returned<Resource<DynInputStream>> = (Ok(table.push(stream)?),);
            Ok(returned)
        },
    )
}

/// Declares a resource that goes from the table when the guest drops its handle.
fn resource<T: Send + 'static>(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<()> {
    linker.resource(name, ResourceType::host::<T>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<T>::new_own(rep))?;
        Ok(())
    })
}
