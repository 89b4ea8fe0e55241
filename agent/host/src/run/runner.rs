//! What the control loop needs of the part that runs components. `wasm` does it with wasmtime; tests do it with a
//! pretence.

use crate::compile::{NotCompiled, Wanted};
use crate::source::Uplink;
use async_trait::async_trait;
use futures::future::BoxFuture;
use heddle_agent_core::{Fact, RunId};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::{Fire, FireAnswer};
use heddle_protocol::host_spec::{CapabilityOffer, HostSpecBody, SecretUse, Template, Wasi};
use heddle_protocol::id::{CapabilityName, UnitId};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Runs components.
#[async_trait]
pub(crate) trait Runner: Send + Sync + 'static {
    /// Lends a capability, or lends it as it is described now. Does not wait.
    fn set_capability(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        secrets: &BTreeMap<String, SecretUse>,
    ) -> Result<Option<SocketAddr>, String>;

    /// Lends a capability no more. Does not wait; one that is not lent is left alone.
    fn remove_capability(&self, name: &CapabilityName);

    /// Has an artifact's code in memory: from the disk, from the scheduler, or compiled here.
    async fn compile(&self, wanted: Wanted, uplink: &dyn Uplink) -> Result<(), NotCompiled>;

    /// Lets go of an artifact's code.
    fn forget_component(&self, digest: Digest, wasi: Wasi);

    /// Links a unit's components and tries a first instance; then the unit is held under its run.
    async fn prepare(&self, run: RunId, unit: UnitId, template: Arc<Template>, count: u32) -> Result<(), Failure>;

    /// Tells a unit that is held how many replicas it stands for.
    fn resize(&self, run: RunId, count: u32);

    /// Makes exactly these runs live, in one step: routes lead to them, they serve what the spec says and take messages,
    /// and what runs by itself runs. Does not wait.
    fn set_live(&self, spec: &Arc<HostSpecBody>, serving: &BTreeMap<UnitId, RunId>);

    /// Begins one run that is due now, in a unit that is live. Does not wait for its end.
    fn fire(&self, fire: &Fire) -> FireAnswer;

    /// Says where word of what units run by themselves goes. Told once, before anything is live.
    fn report_to(&self, facts: mpsc::Sender<Fact>);

    /// Begins to drain a unit that is held, at once; the future ends with its last call.
    fn drain(&self, run: RunId) -> BoxFuture<'static, ()>;

    /// Lets go of a unit, if it is held.
    fn drop_unit(&self, run: RunId);

    /// How busy it is.
    fn load(&self) -> Load;

    /// Closes all listeners and waits for the requests in flight.
    async fn close(&self);
}

/// Why something failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Why.
    pub(crate) reason: String,
    /// Whether trying again would end the same way.
    pub(crate) for_good: bool,
    /// Whether it is for want of a secret that has not come yet.
    pub(crate) lacks_secret: bool,
}

impl Failure {
    /// One whose cause may pass.
    pub(crate) fn passing(reason: String) -> Self {
        Self {
            reason,
            for_good: false,
            lacks_secret: false,
        }
    }
}

/// How busy a runner is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Calls in flight.
    pub(crate) in_flight: u32,
    /// Calls taken since the agent started.
    pub(crate) calls: u64,
    /// Calls of those that the host answered in a guest's place.
    pub(crate) failed_calls: u64,
    /// Open connections.
    pub(crate) connections: usize,
    /// Linear memory of all instances, in bytes.
    pub(crate) instance_memory_bytes: u64,
}
