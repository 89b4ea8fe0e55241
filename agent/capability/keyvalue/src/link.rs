//! The functions of the three interfaces, over any [`Store`]. In: calls of a guest. Out: its buckets' contents.
//!
//! Each function is written once. For a store in this process it is linked as a plain function; for others as one that
//! waits, for no longer than the guest itself may. A bucket handle carries the store that it was opened in, so `atomics`
//! and `batch` need no binding of their own.

use crate::bounds::{CALL_TIME_MAX, Refused};
use crate::store::{Answer, Bucket, Pair, Store};
use heddle_capability::{CapabilityError, Ctx, Import};
use std::time::{Duration, Instant};
use wasmtime::component::{ComponentNamedList, ComponentType, Lift, LinkerInstance, Lower, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut, format_err};

const STORE: &str = "wasi:keyvalue/store@0.2.0-draft";
const ATOMICS: &str = "wasi:keyvalue/atomics@0.2.0-draft";
const BATCH: &str = "wasi:keyvalue/batch@0.2.0-draft";
/// The interfaces that are met.
const MEETS: &[&str] = &[STORE, ATOMICS, BATCH];

/// Meets one import of the three interfaces with a store.
pub fn prepare(
    store: &Store,
    import: &Import<'_>,
    linker: &mut LinkerInstance<'_, Ctx>,
) -> Result<(), CapabilityError> {
    let immediate = store.is_immediate();
    let linked = match import.interface {
        STORE => add_store(store.clone(), linker),
        ATOMICS => add_atomics(immediate, linker),
        BATCH => add_batch(immediate, linker),
        other => {
            return Err(CapabilityError::NotMet {
                interface: other.to_owned(),
                meets: MEETS.iter().map(ToString::to_string).collect(),
            });
        }
    };
    linked.map_err(CapabilityError::link(import))
}

/// Whose data an import sees: a store that is not shared is never seen whole, whatever the binding leaves out.
pub fn scope_of<'a>(shared: bool, import: &Import<'a>) -> &'a str {
    match (shared, import.scope) {
        (true, _) => "",
        (false, "") => import.unit.workload.namespace.as_str(),
        (false, scope) => scope,
    }
}

/// `wasi:keyvalue/store.error`.
#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
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
        match refused {
            Refused::NoSuchStore => Self::NoSuchStore,
            Refused::AccessDenied => Self::AccessDenied,
            other => Self::Other(other.to_string()),
        }
    }
}

type Caller<'a> = StoreContextMut<'a, Ctx>;
type Handle = Resource<Bucket>;
/// What goes back to the guest: an answer, or a refusal that it can read.
type Returned<T> = (std::result::Result<T, Error>,);

/// The bucket of a handle. A handle that stands for nothing is the guest's fault and traps.
fn bucket<'a>(ctx: &'a Ctx, handle: &Handle) -> Result<&'a Bucket> {
    Ok(ctx.table.get(handle)?)
}

/// How long a call may wait: four fifths of what is left, so that the guest can still say what went wrong.
fn time_left(ctx: &Ctx) -> Duration {
    let left = ctx.deadline().saturating_duration_since(Instant::now());
    CALL_TIME_MAX.min(left * 4 / 5)
}

/// Links one function.
fn add<P, T>(
    linker: &mut LinkerInstance<'_, Ctx>,
    name: &str,
    immediate: bool,
    call: impl Fn(&Ctx, P) -> Result<Answer<T>> + Send + Sync + 'static,
) -> Result<()>
where
    P: ComponentNamedList + Lift + Send + Sync + 'static,
    T: ComponentType + Lower + Send + Sync + 'static,
{
    if immediate {
        return linker.func_wrap(name, move |store: Caller<'_>, params: P| -> Result<Returned<T>> {
            match call(store.data(), params)? {
                Answer::Now(answer) => Ok((answer.map_err(Error::from),)),
                Answer::Later(_) => Err(format_err!("the bucket is of another store than the function")),
            }
        });
    }
    linker.func_wrap_async(name, move |store: Caller<'_>, params: P| {
        let (answer, time) = (call(store.data(), params), time_left(store.data()));
        Box::new(async move {
            let returned: Returned<T> = (answer?.within(time).await.map_err(Error::from),);
            Ok(returned)
        })
    })
}

fn map<A: Send + 'static, B: Send + 'static>(answer: Answer<A>, to: fn(A) -> B) -> Answer<B> {
    match answer {
        Answer::Now(answer) => Answer::Now(answer.map(to)),
        Answer::Later(answer) => Answer::Later(Box::pin(async move { answer.await.map(to) })),
    }
}

fn add_store(store: Store, linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    let now = store.is_immediate();
    linker.resource("bucket", ResourceType::host::<Bucket>(), |mut store, rep| {
        store.data_mut().table.delete(Handle::new_own(rep))?;
        Ok(())
    })?;
    linker.func_wrap("open", move |mut caller: Caller<'_>, (name,): (String,)| {
        let opened: Returned<Handle> = match store.open(name) {
            Ok(bucket) => (Ok(caller.data_mut().table.push(bucket)?),),
            Err(refused) => (Err(refused.into()),),
        };
        Ok(opened)
    })?;
    add(
        linker,
        "[method]bucket.get",
        now,
        |ctx, (handle, key): (Handle, String)| Ok(bucket(ctx, &handle)?.get(key)),
    )?;
    add(
        linker,
        "[method]bucket.set",
        now,
        |ctx, (handle, key, value): (Handle, String, Vec<u8>)| Ok(bucket(ctx, &handle)?.set(key, value)),
    )?;
    add(
        linker,
        "[method]bucket.delete",
        now,
        |ctx, (handle, key): (Handle, String)| Ok(bucket(ctx, &handle)?.delete(key)),
    )?;
    add(
        linker,
        "[method]bucket.exists",
        now,
        |ctx, (handle, key): (Handle, String)| Ok(bucket(ctx, &handle)?.exists(key)),
    )?;
    add(
        linker,
        "[method]bucket.list-keys",
        now,
        |ctx, (handle, cursor): (Handle, Option<u64>)| {
            Ok(map(bucket(ctx, &handle)?.list(cursor), |page| KeyResponse {
                keys: page.keys,
                cursor: page.next,
            }))
        },
    )
}

fn add_atomics(now: bool, linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    add(
        linker,
        "increment",
        now,
        |ctx, (handle, key, delta): (Handle, String, u64)| Ok(bucket(ctx, &handle)?.increment(key, delta)),
    )
}

fn add_batch(now: bool, linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    add(linker, "get-many", now, |ctx, (handle, keys): (Handle, Vec<String>)| {
        Ok(bucket(ctx, &handle)?.get_many(keys))
    })?;
    add(linker, "set-many", now, |ctx, (handle, pairs): (Handle, Vec<Pair>)| {
        Ok(bucket(ctx, &handle)?.set_many(pairs))
    })?;
    add(
        linker,
        "delete-many",
        now,
        |ctx, (handle, keys): (Handle, Vec<String>)| Ok(bucket(ctx, &handle)?.delete_many(keys)),
    )
}
