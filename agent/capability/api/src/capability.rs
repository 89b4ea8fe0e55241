//! The three hooks of a capability: `init` once per engine, `configure` once per offer, `prepare` once per import.
//!
//! In: a platform's offer and the import that it meets. Out: functions in the linker of one component. What a binding
//! needs (its values, its scope) is captured when it is linked, so a call looks nothing up.

use crate::callable::Callable;
use crate::ctx::Ctx;
use crate::log::Log;
use crate::secret::SecretHandle;
use heddle_protocol::host_spec::{CapabilityOffer, Consume, Feature, Wasi};
use heddle_protocol::id::{CapabilityName, ComponentName, UnitId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use wasmtime::component::{Linker, LinkerInstance};

/// A kind of capability, such as "key-value stores in memory".
pub trait Capability: Send + Sync + 'static {
    /// The feature that an agent with this capability says it has.
    fn feature(&self) -> Feature;

    /// Adds what all components of an engine share, whatever they are bound to. Most capabilities need nothing here.
    fn init(&self, linker: &mut Linker<Ctx>, wasi: Wasi) -> wasmtime::Result<()> {
        let _ = (linker, wasi);
        Ok(())
    }

    /// Takes what a platform lends under a name. Called again when the offer changes; data that the name holds stays.
    ///
    /// It must not wait: what takes time (a connection, say) begins with the first call that needs it.
    fn configure(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        lending: &Lending,
    ) -> Result<Arc<dyn Lent>, CapabilityError>;

    /// Forgets a name, and whatever data it holds. Units that are bound to it keep what they have until they end.
    fn forget(&self, name: &CapabilityName) {
        let _ = name;
    }
}

/// What a capability is given beside its offer.
#[derive(Debug, Clone, Default)]
pub struct Lending {
    /// The secrets that the platform names for it. A value may come later than the offer, and change.
    pub secrets: BTreeMap<String, SecretHandle>,
    /// The NATS server of the fleet, for capabilities that are told of no other; none where the agent runs without.
    pub nats_url: Option<String>,
    /// The folder for whatever it keeps on this host.
    pub data: PathBuf,
}

/// A capability as a platform lends it under one name.
pub trait Lent: Send + Sync + 'static {
    /// Adds the functions of one interface for one import of one component.
    ///
    /// `linker` is the instance under the import's own name, which in a composed group is not the interface's name.
    fn prepare(&self, import: &Import<'_>, linker: &mut LinkerInstance<'_, Ctx>) -> Result<(), CapabilityError>;

    /// Takes messages for a component, for as long as the guard lives. Only messaging can.
    fn consume(&self, consume: &Consume, component: Arc<dyn Callable>) -> Result<Guard, CapabilityError> {
        let _ = component;
        Err(CapabilityError::NoMessages(consume.capability.clone()))
    }
}

/// Something that goes on until this is dropped.
pub struct Guard(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Guard {
    /// Calls this when it is dropped. It must not block.
    pub fn new(stop: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(stop)))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(stop) = self.0.take() {
            stop();
        }
    }
}

/// One import of one component, to be met by a capability.
#[derive(Debug, Clone, Copy)]
pub struct Import<'a> {
    /// The interface with version, such as `wasi:config/store@0.2.0-rc.1`; its name in the linker may be another.
    pub interface: &'a str,
    /// The unit that the component belongs to.
    pub unit: &'a UnitId,
    /// The component.
    pub component: &'a ComponentName,
    /// The configuration of the component, or of the part of it that imports this, resolved.
    pub config: &'a BTreeMap<String, String>,
    /// The secrets of the component, or of the part of it that imports this, by the name it knows them by.
    pub secrets: &'a BTreeMap<String, SecretHandle>,
    /// Whose data it sees: a namespace, or empty where everybody shares one store.
    pub scope: &'a str,
    /// Where the component's log lines go.
    pub log: &'a Arc<Log>,
}

/// Why a capability cannot be lent or bound.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// This agent was built without that kind.
    #[error("failed to lend {name}: this agent was built without {feature:?}; use an agent that lists the feature")]
    NoSuchKind {
        /// The capability.
        name: CapabilityName,
        /// The feature that lends it.
        feature: Feature,
    },
    /// The offer is of another kind.
    #[error("failed to lend {name}: {feature:?} does not take this offer; give it a name of its own")]
    OtherKind {
        /// The capability.
        name: CapabilityName,
        /// The feature that was asked.
        feature: Feature,
    },
    /// No platform lends it on this host.
    #[error("failed to bind {interface}: no platform lends {name} on this host")]
    NotLent {
        /// The capability.
        name: CapabilityName,
        /// The import.
        interface: String,
    },
    /// The capability does not have that interface.
    #[error("failed to bind {interface}: the capability meets {}", meets.join(", "))]
    NotMet {
        /// The import.
        interface: String,
        /// The interfaces that it has.
        meets: Vec<String>,
    },
    /// It has no messages to give.
    #[error("failed to take messages: {0} is no messaging capability")]
    NoMessages(CapabilityName),
    /// The offer cannot be lent as it is.
    #[error("failed to lend {name}: {why}")]
    Offer {
        /// The capability.
        name: CapabilityName,
        /// What is wrong with it, and what to change.
        why: String,
    },
    /// The linker refused it.
    #[error("failed to link {interface}")]
    Link {
        /// The import.
        interface: String,
        /// Why.
        source: wasmtime::Error,
    },
}

impl CapabilityError {
    /// Wraps what a linker said about an import.
    pub fn link(import: &Import<'_>) -> impl Fn(wasmtime::Error) -> Self {
        let interface = import.interface.to_owned();
        move |source| Self::Link {
            interface: interface.clone(),
            source,
        }
    }
}
