//! Lends stores in the agent's memory. In: an offer, and the scope that each import may see. Out: buckets.
//!
//! What is stored is gone when the agent is; until then it outlives instances, units and generations. Each scope (a
//! namespace, or everybody where the platform shares the store) has its own buckets and its own bound, so none can take
//! another's room.

use crate::link;
use crate::space::Space;
use crate::store::Store;
use heddle_capability::{Capability, CapabilityError, Ctx, Import, Lending, Lent};
use heddle_protocol::host_spec::{CapabilityOffer, Feature};
use heddle_protocol::id::CapabilityName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use wasmtime::component::LinkerInstance;

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
        Feature::KEYVALUE_MEMORY
    }

    fn configure(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        _lending: &Lending,
    ) -> Result<Arc<dyn Lent>, CapabilityError> {
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
        let space = self.scopes.space(link::scope_of(self.shared, import));
        link::prepare(&Store::memory(space), import, linker)
    }
}
