//! What both kinds of store have in common when they are lent: the scope of an import, and a name's place on this host.

use crate::backend::Store;
use crate::{BlobstoreFilesystem, BlobstoreNats, link};
use heddle_capability::{CapabilityError, Ctx, Import, Lending, Lent};
use heddle_protocol::host_spec::CapabilityOffer;
use heddle_protocol::id::CapabilityName;
use wasmtime::component::LinkerInstance;

/// A store, of which each scope is another.
pub(crate) struct LentStore {
    /// Opens one.
    pub(crate) scope: Box<dyn Fn(&str) -> Store + Send + Sync>,
    pub(crate) shared: bool,
}

impl Lent for LentStore {
    fn prepare(&self, import: &Import<'_>, linker: &mut LinkerInstance<'_, Ctx>) -> Result<(), CapabilityError> {
        let scope = heddle_capability_keyvalue::scope_of(self.shared, import);
        link::prepare(&(self.scope)(scope), import, linker)
    }
}

/// The store of one scope, without a linker: for tests and for embedding.
///
/// # Errors
/// When the offer is of another kind or cannot be lent.
pub fn open(
    name: &CapabilityName,
    offer: &CapabilityOffer,
    lending: &Lending,
    scope: &str,
) -> Result<Store, CapabilityError> {
    match offer {
        CapabilityOffer::BlobstoreNats { .. } => Ok((BlobstoreNats.lend(name, offer, lending)?.scope)(scope)),
        _ => Ok((BlobstoreFilesystem::default().lend(name, offer, lending)?.scope)(
            scope,
        )),
    }
}

/// An offer that cannot be lent.
pub(crate) fn wrong(name: &CapabilityName, why: impl Into<String>) -> CapabilityError {
    CapabilityError::Offer {
        name: name.clone(),
        why: why.into(),
    }
}
