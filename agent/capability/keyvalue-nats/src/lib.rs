//! Key-value stores in NATS buckets: `wasi:keyvalue/{store,atomics,batch}@0.2.0-draft`.
//!
//! In: an offer that names a JetStream key-value bucket, imports with the scope that each may see, and credentials as
//! secret `credentials` where the server asks for them. Out: the buckets of a guest, as keys
//! `<scope>.<bucket>.<key>` of the NATS bucket, each part as a [`token`](heddle_capability_keyvalue::token), so no name
//! that a guest chooses leaves its scope. The connection is the capability's own and is opened by the first call.
//!
//! A bucket that is not there is made, with one replica and a history of one. One that is there stays as it is.

#![forbid(unsafe_code)]

mod backend;
mod connection;
mod list;

use backend::Scope;
use connection::Connection;
use heddle_capability::{Capability, CapabilityError, Ctx, Import, Lending, Lent};
use heddle_capability_keyvalue::{Store, prepare, scope_of};
use heddle_protocol::host_spec::{CapabilityOffer, Feature};
use heddle_protocol::id::CapabilityName;
use std::sync::Arc;
use wasmtime::component::LinkerInstance;

/// Lends key-value stores in NATS buckets.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyvalueNats;

struct LentBucket {
    connection: Arc<Connection>,
    shared: bool,
}

/// The store of one scope, without a linker: for tests and for embedding.
///
/// # Errors
/// When the offer is of another kind, names no fit bucket, or no server is known.
pub fn open(
    name: &CapabilityName,
    offer: &CapabilityOffer,
    lending: &Lending,
    scope: &str,
) -> Result<Store, CapabilityError> {
    Ok(lend(name, offer, lending)?.store(scope))
}

fn lend(name: &CapabilityName, offer: &CapabilityOffer, lending: &Lending) -> Result<LentBucket, CapabilityError> {
    let CapabilityOffer::KeyvalueNats { bucket, url, shared } = offer else {
        return Err(CapabilityError::OtherKind {
            name: name.clone(),
            feature: Feature::KEYVALUE_NATS,
        });
    };
    let wrong = |why: &str| CapabilityError::Offer {
        name: name.clone(),
        why: why.to_owned(),
    };
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if bucket.is_empty() || !bucket.chars().all(fit) {
        return Err(wrong("a bucket's name has letters, digits, `-` and `_` only"));
    }
    let Some(url) = url.as_ref().or(lending.nats_url.as_ref()) else {
        return Err(wrong("no NATS server is known; give the platform's capability a `url`"));
    };
    let connection = Connection::new(name, url, bucket, lending.secrets.get("credentials").cloned());
    Ok(LentBucket {
        connection: Arc::new(connection),
        shared: *shared,
    })
}

impl Capability for KeyvalueNats {
    fn feature(&self) -> Feature {
        Feature::KEYVALUE_NATS
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

impl LentBucket {
    fn store(&self, scope: &str) -> Store {
        Store::remote(Arc::new(Scope::new(Arc::clone(&self.connection), scope)))
    }
}

impl Lent for LentBucket {
    fn prepare(&self, import: &Import<'_>, linker: &mut LinkerInstance<'_, Ctx>) -> Result<(), CapabilityError> {
        prepare(&self.store(scope_of(self.shared, import)), import, linker)
    }
}
