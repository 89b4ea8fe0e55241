//! Exports that are served over the network.
//!
//! In: an exported interface of a prepared component. Out: one subscription for each of its functions, whose calls run
//! in instances within the workload's limits. A guest's own words never reach a caller: they are in its log.

use crate::interface::{PlanError, functions};
use crate::plain::{self, PlainList, PlainResult, Visit};
use crate::shape::Signature;
use crate::value;
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use heddle_capability::{CallFailure, Callable, Work};
use heddle_protocol::defaults::CALL_BYTES_MAX;
use heddle_wrpc::codec::CodecError;
use heddle_wrpc::{Connection, Fault, Handler, Incoming, Limits, ServeError, Service, Serving};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;
use wasmtime::component::{ComponentExportIndex, Val};

/// Calls that one function may have at once whatever the workload's own limit is: each holds its arguments.
const IN_FLIGHT_MAX: usize = 1_024;

/// An exported interface that can be served.
pub struct Export {
    interface: String,
    functions: Vec<Arc<ExportedFunction>>,
}

struct ExportedFunction {
    name: String,
    signature: Signature,
    index: ComponentExportIndex,
    component: Arc<dyn Callable>,
    /// The fast way, where there is one.
    plain: Option<PlainWork>,
}

/// Takes the arguments, and gives the work of calling with them.
type PlainWork = fn(ComponentExportIndex, Bytes, Done) -> Result<Work, CodecError>;

/// Where the results of a call go.
type Done = oneshot::Sender<Result<Bytes, Fault>>;

/// The subscriptions of an export. Dropping them stops at once; calls in flight end with a fault.
pub struct ServedExport(Vec<Serving>);

impl ServedExport {
    /// Takes no new calls, and returns when those in flight are answered.
    pub async fn drain(self) {
        join_all(self.0.into_iter().map(Serving::drain)).await;
    }
}

impl Export {
    /// Finds the functions of an interface that a component exports.
    pub fn of(component: &Arc<dyn Callable>, interface: &str) -> Result<Self, PlanError> {
        let code = component.code();
        let ty = code.component_type();
        let item = ty.get_export(code.engine(), interface).map(|item| item.ty);
        let missing = || PlanError::Missing {
            interface: interface.to_owned(),
        };
        let instance = code.get_export_index(None, interface).ok_or_else(missing)?;
        let functions = functions(interface, item, code.engine())?
            .into_iter()
            .map(|(name, signature)| {
                Ok(Arc::new(ExportedFunction {
                    index: code.get_export_index(Some(&instance), &name).ok_or_else(missing)?,
                    plain: plain::visit(&signature, FindPlain),
                    component: Arc::clone(component),
                    name,
                    signature,
                }))
            });
        Ok(Self {
            interface: interface.to_owned(),
            functions: functions.collect::<Result<_, _>>()?,
        })
    }

    /// Serves all functions under a prefix, and returns when calls reach them. Who serves the same in one queue group
    /// shares the calls.
    pub async fn serve(
        &self,
        connection: &Connection,
        prefix: &str,
        queue_group: &str,
    ) -> Result<ServedExport, ServeError> {
        let mut served = Vec::with_capacity(self.functions.len());
        for function in &self.functions {
            let service = Service {
                prefix: prefix.to_owned(),
                instance: self.interface.clone(),
                function: function.name.clone(),
                queue_group: Some(queue_group.to_owned()),
            };
            let limits = Limits {
                in_flight: IN_FLIGHT_MAX,
                params_bytes: CALL_BYTES_MAX,
                results_bytes: CALL_BYTES_MAX,
                wall: function.component.time_limit(),
            };
            let handler = Arc::new(Handle(Arc::clone(function)));
            served.push(connection.serve(service, handler, limits).await?);
        }
        Ok(ServedExport(served))
    }
}

struct Handle(Arc<ExportedFunction>);

impl Handler for Handle {
    fn call(&self, incoming: Incoming) -> BoxFuture<'static, Result<Bytes, Fault>> {
        let function = Arc::clone(&self.0);
        Box::pin(async move { function.call(incoming).await })
    }
}

impl ExportedFunction {
    async fn call(&self, incoming: Incoming) -> Result<Bytes, Fault> {
        let own = Instant::now() + self.component.time_limit();
        let deadline = incoming.deadline.map_or(own, |callers| callers.min(own));
        let (done, results) = oneshot::channel();
        let work = match self.plain {
            Some(plain) => plain(self.index, incoming.params, done),
            None => self.dynamic(incoming.params, done),
        };
        let work = work.map_err(|error| Fault::Protocol(error.to_string()))?;
        let ended = Arc::clone(&self.component).call(deadline, work).await;
        ended.map_err(fault)?;
        results
            .await
            .unwrap_or_else(|_| Err(Fault::Failed("the call ended without results".to_owned())))
    }

    fn dynamic(&self, params: Bytes, done: Done) -> Result<Work, CodecError> {
        let params = value::decode(&self.signature.params, params)?;
        let (index, result) = (self.index, self.signature.result.clone());
        Ok(Box::new(move |store, instance| {
            Box::pin(async move {
                let function = instance.get_func(&mut *store, index).ok_or_else(gone)?;
                let mut results = vec![Val::Bool(false); usize::from(result.is_some())];
                function.call_async(&mut *store, &params, &mut results).await?;
                // The caller may have gone away meanwhile.
                let _ = done.send(value::encode(&result, &results).map_err(|e| Fault::Failed(e.to_string())));
                Ok(())
            })
        }))
    }
}

/// What a caller is told. Why a component trapped is its workload's own business.
fn fault(failure: CallFailure) -> Fault {
    match failure {
        CallFailure::Overloaded => Fault::Refused("it has as many calls in flight as it may".to_owned()),
        CallFailure::Draining => Fault::Refused("it is going away".to_owned()),
        CallFailure::HostFull => Fault::Refused("its host has no room for another instance".to_owned()),
        CallFailure::TimeLimit => Fault::Deadline,
        CallFailure::Trapped(_) => Fault::Failed("the component trapped".to_owned()),
    }
}

/// An export that was there when the component was linked is always there.
fn gone() -> wasmtime::Error {
    wasmtime::Error::msg("the exported function is not there")
}

/// Finds the way of calling a function whose types are known to the compiler.
struct FindPlain;

impl Visit for FindPlain {
    type Out = PlainWork;

    fn visit<P: PlainList, R: PlainResult>(self) -> Self::Out {
        plain_work::<P, R>
    }
}

fn plain_work<P: PlainList, R: PlainResult>(
    index: ComponentExportIndex,
    params: Bytes,
    done: Done,
) -> Result<Work, CodecError> {
    let params: P = plain::decode(params)?;
    Ok(Box::new(move |store, instance| {
        Box::pin(async move {
            let function = instance.get_typed_func::<P, R>(&mut *store, index)?;
            let result = function.call_async(&mut *store, params).await?;
            // The caller may have gone away meanwhile.
            let _ = done.send(plain::encode(&result).map_err(|e| Fault::Failed(e.to_string())));
            Ok(())
        })
    }))
}
