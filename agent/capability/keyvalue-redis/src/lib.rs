//! Key-value stores in Redis: `wasi:keyvalue/{store,atomics,batch}@0.2.0-draft`.
//!
//! In: an offer with a server's URL, imports with the scope that each may see, and a password as secret `password` where
//! the server asks for one. Out: the buckets of a guest, as keys `<prefix><scope>:<bucket>:<key>`. Scope and bucket are
//! [`token`](heddle_capability_keyvalue::token)s and have no colon, so no name that a guest chooses leaves its scope.
//! The connection is opened by the first call and comes back by itself.

#![forbid(unsafe_code)]

mod backend;
mod connection;

use backend::Scope;
use connection::Connection;
use heddle_capability::{Capability, CapabilityError, Ctx, Import, Lending, Lent};
use heddle_capability_keyvalue::{Store, prepare, scope_of};
use heddle_protocol::host_spec::{CapabilityOffer, Feature};
use heddle_protocol::id::CapabilityName;
use std::sync::Arc;
use wasmtime::component::LinkerInstance;

/// Lends key-value stores in Redis.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyvalueRedis;

struct LentRedis {
    connection: Arc<Connection>,
    prefix: String,
    shared: bool,
}

/// The store of one scope, without a linker: for tests and for embedding.
///
/// # Errors
/// When the offer is of another kind or its URL is none.
pub fn open(
    name: &CapabilityName,
    offer: &CapabilityOffer,
    lending: &Lending,
    scope: &str,
) -> Result<Store, CapabilityError> {
    Ok(lend(name, offer, lending)?.store(scope))
}

fn lend(name: &CapabilityName, offer: &CapabilityOffer, lending: &Lending) -> Result<LentRedis, CapabilityError> {
    let CapabilityOffer::KeyvalueRedis { url, prefix, shared } = offer else {
        return Err(CapabilityError::OtherKind {
            name: name.clone(),
            feature: Feature::KEYVALUE_REDIS,
        });
    };
    let connection = Connection::new(name, url, lending.secrets.get("password").cloned())?;
    Ok(LentRedis {
        connection: Arc::new(connection),
        prefix: prefix.clone(),
        shared: *shared,
    })
}

impl Capability for KeyvalueRedis {
    fn feature(&self) -> Feature {
        Feature::KEYVALUE_REDIS
    }

    fn configure(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        lending: &Lending,
    ) -> Result<Arc<dyn Lent>, CapabilityError> {
        Ok(Arc::new(lend(name, offer, lending)?))
    }
}

impl LentRedis {
    fn store(&self, scope: &str) -> Store {
        Store::remote(Arc::new(Scope::new(Arc::clone(&self.connection), &self.prefix, scope)))
    }
}

impl Lent for LentRedis {
    fn prepare(&self, import: &Import<'_>, linker: &mut LinkerInstance<'_, Ctx>) -> Result<(), CapabilityError> {
        prepare(&self.store(scope_of(self.shared, import)), import, linker)
    }
}
