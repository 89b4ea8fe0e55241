//! Imports that are calls over the network.
//!
//! In: an import of a component and whom it calls. Out: functions in its linker. A call has one deadline for everything
//! that it does, goes to the newest generation that takes it, and ends with results or a typed error: never by hanging.

use crate::interface::{PlanError, functions};
use crate::plain::{self, PlainList, PlainResult, Visit};
use crate::shape::Signature;
use crate::value;
use bytes::Bytes;
use futures::future::BoxFuture;
use heddle_capability::Ctx;
use heddle_protocol::host_spec::Call;
use heddle_wrpc::codec::CodecError;
use heddle_wrpc::{CallError, Connection, Target};
use rand::Rng as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, Component, LinkerInstance, Val};

/// How often a call is offered to all callees again when each of them refused it unexecuted: one replica of several may
/// be full or leaving.
const ROUNDS_MAX: u32 = 3;
/// The pause before that, in milliseconds: long enough for a call to end, with jitter so that callers part.
const ROUND_PAUSE_MS: std::ops::Range<u64> = 5..25;

/// Where the calls of one import go.
pub trait Route: Send + Sync + 'static {
    /// What the subjects of the callees begin with, the newest generation first.
    fn prefixes(&self) -> Arc<[String]>;

    /// The connection of the caller's workload. The caller bounds how long it waits for it.
    fn connection(&self) -> BoxFuture<'_, Connection>;

    /// Replicas of the caller that there are here.
    fn replicas(&self) -> u32;
}

/// Why a call has no results.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// As many calls as the link may have are in flight.
    #[error(
        "failed to call: {max} calls over this link are in flight already; \
         call less at once, or raise the link's max-in-flight"
    )]
    InFlight {
        /// How many there may be.
        max: u32,
    },
    /// The time is up before there was a connection.
    #[error("failed to call: there is no connection to NATS for this workload yet; check NATS and its credentials")]
    NoConnection,
    /// No generation of the callee is known.
    #[error("failed to reach the callee: no generation of it runs; deploy it, then call again")]
    NoCallee,
    /// The call itself failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The results are not what the interface says.
    #[error(transparent)]
    Results(#[from] CodecError),
    /// The arguments are not what the interface says.
    #[error(transparent)]
    Arguments(#[from] value::EncodeError),
}

/// What a guest is trapped with when its function's type cannot tell an error.
#[derive(Debug, thiserror::Error)]
#[error("the call of {function} over the network failed")]
pub struct CallTrap {
    function: String,
    source: LinkError,
}

impl CallTrap {
    /// Why.
    pub fn error(&self) -> &LinkError {
        &self.source
    }
}

/// Links one import of a component to whoever `route` leads to. `linker` is the instance under the import's name.
pub fn link(
    component: &Component,
    import: &str,
    call: &Call,
    route: Arc<dyn Route>,
    linker: &mut LinkerInstance<'_, Ctx>,
) -> Result<(), PlanError> {
    let engine = component.engine();
    let ty = component.component_type();
    let item = ty.get_import(engine, import).map(|item| item.ty);
    let link = Arc::new(Link {
        route,
        instance: call.instance.clone(),
        timeout: Duration::from_millis(call.timeout_ms),
        idempotent: call.idempotent,
        max_in_flight: call.max_in_flight,
        in_flight: AtomicU32::new(0),
    });
    for (name, signature) in functions(import, item, engine)? {
        let function = Arc::new(Function {
            link: Arc::clone(&link),
            name,
            signature,
        });
        function.add_to(linker).map_err(|source| PlanError::Link {
            interface: import.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// One import of one prepared component.
struct Link {
    route: Arc<dyn Route>,
    instance: String,
    timeout: Duration,
    idempotent: bool,
    max_in_flight: u32,
    in_flight: AtomicU32,
}

/// One function of it.
struct Function {
    link: Arc<Link>,
    name: String,
    signature: Signature,
}

/// One call in flight.
struct Permit<'a>(&'a AtomicU32);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Link {
    fn admit(&self) -> Result<Permit<'_>, LinkError> {
        let max = self.max_in_flight.saturating_mul(self.route.replicas().max(1));
        let before = self.in_flight.fetch_add(1, Ordering::AcqRel);
        let permit = Permit(&self.in_flight);
        match before < max {
            true => Ok(permit),
            false => Err(LinkError::InFlight { max }),
        }
    }
}

/// Whether the callee may or may not have executed the call.
fn outcome_unknown(error: &LinkError) -> bool {
    let LinkError::Call(error) = error else { return false };
    matches!(
        error,
        CallError::Deadline | CallError::Connection(_) | CallError::Cancelled
    )
}

impl Function {
    /// Calls, within the time that the link and the caller's own call leave.
    async fn call(&self, params: Bytes, callers_deadline: Instant) -> Result<Bytes, LinkError> {
        let link = &self.link;
        let _permit = link.admit()?;
        let now = Instant::now();
        let deadline = callers_deadline.min(now + link.timeout);
        if link.idempotent {
            // Half the time for the first attempt, so that there is as much for the second.
            let half = now + deadline.saturating_duration_since(now) / 2;
            match self.attempt(&params, half).await {
                Err(error) if outcome_unknown(&error) => {}
                ended => return ended,
            }
        }
        self.attempt(&params, deadline).await
    }

    /// Offers the call to the callees until one executes it.
    async fn attempt(&self, params: &Bytes, deadline: Instant) -> Result<Bytes, LinkError> {
        let Ok(connection) = tokio::time::timeout_at(deadline.into(), self.link.route.connection()).await else {
            return Err(LinkError::NoConnection);
        };
        let mut round = 1;
        loop {
            let error = match self.round(&connection, params, deadline).await {
                Err(LinkError::Call(error @ CallError::Refused(_))) => error,
                ended => return ended,
            };
            let pause = Duration::from_millis(rand::rng().random_range(ROUND_PAUSE_MS));
            if round >= ROUNDS_MAX || Instant::now() + pause >= deadline {
                return Err(error.into());
            }
            tokio::time::sleep(pause).await;
            round += 1;
        }
    }

    /// Offers the call once to every generation, the newest first.
    async fn round(&self, connection: &Connection, params: &Bytes, deadline: Instant) -> Result<Bytes, LinkError> {
        let mut refused = None;
        let prefixes = self.link.route.prefixes();
        for prefix in prefixes.iter() {
            let mut target = Target::new(prefix, &self.link.instance, &self.name);
            if self.signature.result.is_none() {
                target = target.without_results();
            }
            match connection.call(&target, params.clone(), deadline).await {
                // A refusal says more than silence.
                Err(error @ CallError::NoResponders) => refused = refused.or(Some(error)),
                Err(error) if error.is_not_executed() => refused = Some(error),
                ended => return Ok(ended?),
            }
        }
        Err(refused.map_or(LinkError::NoCallee, LinkError::Call))
    }

    fn trap(&self, source: LinkError) -> wasmtime::Error {
        let function = format!("{}#{}", self.link.instance, self.name);
        wasmtime::Error::new(CallTrap { function, source })
    }

    fn add_to(self: Arc<Self>, linker: &mut LinkerInstance<'_, Ctx>) -> wasmtime::Result<()> {
        let plain = AddPlain {
            function: Arc::clone(&self),
            linker,
        };
        match plain::visit(&self.signature, plain) {
            Some(added) => added,
            None => self.add_dynamic(linker),
        }
    }

    fn add_dynamic(self: Arc<Self>, linker: &mut LinkerInstance<'_, Ctx>) -> wasmtime::Result<()> {
        let name = self.name.clone();
        if self.signature.is_async {
            return linker.func_new_concurrent(&name, move |store: &Accessor<Ctx>, _, params, results| {
                let deadline = store.with(|mut access| access.data_mut().deadline());
                let function = Arc::clone(&self);
                Box::pin(async move { function.call_dynamic(params, results, deadline).await })
            });
        }
        linker.func_new_async(&name, move |store, _, params, results| {
            let deadline = store.data().deadline();
            let function = Arc::clone(&self);
            Box::new(async move { function.call_dynamic(params, results, deadline).await })
        })
    }

    async fn call_dynamic(&self, params: &[Val], results: &mut [Val], deadline: Instant) -> wasmtime::Result<()> {
        let called = async {
            let params = value::encode(&self.signature.params, params)?;
            let bytes = self.call(params, deadline).await?;
            Ok(value::decode(&self.signature.result, bytes)?)
        };
        let values = match called.await {
            Ok(values) => values,
            Err(error) => vec![self.told(error)?],
        };
        for (result, value) in results.iter_mut().zip(values) {
            *result = value;
        }
        Ok(())
    }

    /// The result that tells the guest about an error, or the trap if its type has no room for it.
    fn told(&self, error: LinkError) -> wasmtime::Result<Val> {
        match self.signature.tells_errors() {
            true => Ok(Val::Result(Err(Some(Box::new(Val::String(error.to_string())))))),
            false => Err(self.trap(error)),
        }
    }

    async fn call_plain<P: PlainList, R: PlainResult>(&self, params: P, deadline: Instant) -> wasmtime::Result<R> {
        let called = async {
            let encoded = plain::encode(&params)?;
            drop(params);
            Ok(plain::decode(self.call(encoded, deadline).await?)?)
        };
        called
            .await
            .or_else(|error| R::of_error(&error).ok_or_else(|| self.trap(error)))
    }
}

/// Adds a function whose types are known to the compiler.
struct AddPlain<'a, 'b> {
    function: Arc<Function>,
    linker: &'a mut LinkerInstance<'b, Ctx>,
}

impl Visit for AddPlain<'_, '_> {
    type Out = wasmtime::Result<()>;

    fn visit<P: PlainList, R: PlainResult>(self) -> Self::Out {
        let Self { function, linker } = self;
        let name = function.name.clone();
        if function.signature.is_async {
            return linker.func_wrap_concurrent(&name, move |store: &Accessor<Ctx>, params: P| {
                let deadline = store.with(|mut access| access.data_mut().deadline());
                let function = Arc::clone(&function);
                Box::pin(async move { function.call_plain::<P, R>(params, deadline).await })
            });
        }
        linker.func_wrap_async(&name, move |store: StoreContextMut<'_, Ctx>, params: P| {
            let deadline = store.data().deadline();
            let function = Arc::clone(&function);
            Box::new(async move { function.call_plain::<P, R>(params, deadline).await })
        })
    }
}
