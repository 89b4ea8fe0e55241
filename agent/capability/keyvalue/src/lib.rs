//! The key-value capability in memory: `wasi:keyvalue/{store,atomics,batch}@0.2.0-draft`.
//!
//! In: an offer, and imports with the scope that each may see. Out: buckets. What is stored is gone when the agent is;
//! until then it outlives instances, units and generations. Each scope (a namespace, or everybody where the platform
//! shares the store) has its own buckets and its own bound, so none can take another's room.

#![forbid(unsafe_code)]

mod link;
mod space;

use heddle_capability::{Capability, CapabilityError, Ctx, Import, Lent};
use heddle_protocol::host_spec::{CapabilityOffer, Feature};
use heddle_protocol::id::CapabilityName;
use space::Space;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use wasmtime::component::LinkerInstance;

const STORE: &str = "wasi:keyvalue/store@0.2.0-draft";
const ATOMICS: &str = "wasi:keyvalue/atomics@0.2.0-draft";
const BATCH: &str = "wasi:keyvalue/batch@0.2.0-draft";
/// The interfaces that it meets.
const MEETS: &[&str] = &[STORE, ATOMICS, BATCH];

/// Lends key-value stores in the agent's memory.
#[derive(Default)]
pub struct KeyvalueMemory {
    /// The data, by the name it is lent under: an offer that changes keeps it.
    lent: Mutex<HashMap<CapabilityName, Arc<Scopes>>>,
}

/// The data of one name, by scope.
#[derive(Default)]
struct Scopes(Mutex<HashMap<String, Arc<Space>>>);

impl Scopes {
    fn space(&self, scope: &str) -> Arc<Space> {
        let mut scopes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(scopes.entry(scope.to_owned()).or_default())
    }
}

struct LentStore {
    scopes: Arc<Scopes>,
    shared: bool,
}

impl Capability for KeyvalueMemory {
    fn feature(&self) -> Feature {
        Feature::KeyvalueMemory
    }

    fn configure(&self, name: &CapabilityName, offer: &CapabilityOffer) -> Result<Arc<dyn Lent>, CapabilityError> {
        let CapabilityOffer::KeyvalueMemory { shared } = offer else {
            return Err(CapabilityError::OtherKind {
                name: name.clone(),
                feature: self.feature(),
            });
        };
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        let scopes = Arc::clone(lent.entry(name.clone()).or_default());
        Ok(Arc::new(LentStore {
            scopes,
            shared: *shared,
        }))
    }

    fn forget(&self, name: &CapabilityName) {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl Lent for LentStore {
    fn prepare(&self, import: &Import<'_>, linker: &mut LinkerInstance<'_, Ctx>) -> Result<(), CapabilityError> {
        let scope = match (self.shared, import.scope) {
            (true, _) => "",
            // A store that is not shared is never seen whole, whatever the binding leaves out.
            (false, "") => import.unit.workload.namespace.as_str(),
            (false, scope) => scope,
        };
        let linked = match import.interface {
            STORE => link::store(self.scopes.space(scope), linker),
            ATOMICS => link::atomics(linker),
            BATCH => link::batch(linker),
            other => {
                return Err(CapabilityError::NotMet {
                    interface: other.to_owned(),
                    meets: MEETS,
                });
            }
        };
        linked.map_err(CapabilityError::link(import))
    }
}
