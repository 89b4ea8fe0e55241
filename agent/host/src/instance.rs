//! Units that are ready to serve: linked, tried once, and called.
//!
//! In: a unit of the spec, its template, and its components as compiled code. Out: a [`PreparedUnit`] that answers
//! requests within its limits. Each call runs in a store of its own, so what one guest does to itself, a neighbour does
//! not feel; instances are used again only as often as the template says.

mod body;
mod bulk;
mod call;
mod component;
mod p2;
mod p3;
mod prepare;

use crate::engine::CompiledComponent;
use crate::instance::component::PreparedComponent;
use crate::limits::Admission;
use crate::links::Links;
use crate::secrets::SecretStore;
use heddle_capability::{AddressPolicy, Callable, CapabilitySet, LogLines};
use heddle_capability_http::{Refusal, Reply};
use heddle_protocol::host_spec::Template;
use heddle_protocol::id::{ComponentName, UnitId};
use http::{Request, Response};
use hyper::body::Incoming;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use body::GuestBody;
pub use prepare::{PrepareError, prepare};

/// What it takes to prepare a unit.
pub struct PrepareRequest {
    /// The unit.
    pub unit: UnitId,
    /// How many replicas it stands for.
    pub count: u32,
    /// How it is run.
    pub template: Arc<Template>,
    /// The template's components as compiled code, by name.
    pub components: BTreeMap<ComponentName, CompiledComponent>,
    /// What meets the imports that are not WASI itself.
    pub capabilities: Arc<CapabilitySet>,
    /// Where its calls over the network go.
    pub links: Links,
    /// The secrets that its components use.
    pub secrets: SecretStore,
    /// Which addresses the guests of this host may reach.
    pub addresses: Arc<AddressPolicy>,
    /// Where log lines go.
    pub logs: Arc<dyn LogLines>,
}

/// A unit that is ready to serve.
pub struct PreparedUnit {
    id: UnitId,
    template: Arc<Template>,
    admission: Arc<Admission>,
    components: BTreeMap<ComponentName, Arc<PreparedComponent>>,
}

/// One component of one prepared unit, as a route's target. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint(Arc<PreparedComponent>);

impl PreparedUnit {
    /// The unit's id.
    pub fn id(&self) -> &UnitId {
        &self.id
    }

    /// Changes how many replicas the unit stands for. Calls in flight go on.
    pub fn set_count(&self, count: u32) {
        self.admission.set_count(count);
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> u32 {
        self.admission.in_flight()
    }

    /// Calls taken since the unit was prepared.
    pub fn calls(&self) -> u64 {
        self.components
            .values()
            .map(|component| component.calls.load(Ordering::Relaxed))
            .sum()
    }

    /// Calls of those that the host answered in the guest's place.
    pub fn failed_calls(&self) -> u64 {
        self.components
            .values()
            .map(|component| component.failed_calls.load(Ordering::Relaxed))
            .sum()
    }

    /// Says that the unit is going away. Take its routes away first; calls that still reach it are served.
    pub fn begin_drain(&self) {
        self.admission.begin_drain();
    }

    /// Waits until the unit drains and no call is in flight.
    pub async fn drained(&self) {
        self.admission.drained().await;
    }

    /// The component of that name, to route to.
    pub fn endpoint(&self, component: &ComponentName) -> Option<Endpoint> {
        self.components
            .get(component)
            .map(|component| Endpoint(Arc::clone(component)))
    }

    /// The component of that name, to be called by what is not HTTP.
    pub fn callable(&self, component: &ComponentName) -> Option<Arc<dyn Callable>> {
        let component = self.components.get(component)?;
        Some(Arc::clone(component) as Arc<dyn Callable>)
    }

    /// How it is run.
    pub fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// Serves one request with the component of that name.
    pub async fn handle(&self, component: &ComponentName, request: Request<Incoming>) -> Response<Reply<GuestBody>> {
        match self.endpoint(component) {
            Some(endpoint) => heddle_capability_http::Endpoint::handle(endpoint, request).await,
            None => Refusal::NoHandler.response(),
        }
    }
}

impl heddle_capability_http::Endpoint for Endpoint {
    type Body = GuestBody;

    async fn handle(self, request: Request<Incoming>) -> Response<Reply<GuestBody>> {
        let component = self.0;
        component.calls.fetch_add(1, Ordering::Relaxed);
        let served = PreparedComponent::serve(&component, request).await;
        served.unwrap_or_else(|refusal| {
            component.failed_calls.fetch_add(1, Ordering::Relaxed);
            refusal.response()
        })
    }
}
