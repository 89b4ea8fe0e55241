//! Local links: components that call each other become one component before they reach a host.
//!
//! In: the bytes of the parts, new names for some of their imports, and which import is met by which export. Out: the
//! bytes of the whole, the same ones for the same input, or in words why the parts do not fit. Pure functions that run
//! nothing; the method is in docs/decisions/0002-composed-groups.md.

mod call;
mod error;
mod outcome;
mod part;
mod rename;
mod resource;
mod whole;

pub use call::check_call;
pub use error::{ComposeError, Ends};
pub use rename::rename_imports;

use heddle_protocol::defaults::ARTIFACT_BYTES_MAX;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Parts of one whole. More is no group that people wrote.
const PARTS_MAX: usize = 100;
/// Links of one whole.
const LINKS_MAX: usize = 10_000;

/// One component that becomes a part.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The component's bytes.
    pub bytes: &'a [u8],
    /// The names that its imports have in the whole, where they are others.
    pub rename: &'a BTreeMap<String, String>,
}

/// An import of one part that an export of another meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link<'a> {
    /// The part that imports.
    pub from: &'a str,
    /// The interface that it imports, under the component's own name for it.
    pub import: &'a str,
    /// The part that exports.
    pub to: &'a str,
    /// The interface that it exports.
    pub export: &'a str,
}

/// Makes one component of several: each part is instantiated once, links are wired, imports that no link meets become
/// imports of the whole (of the same name: one), and the entry's interfaces are the exports of the whole.
///
/// # Errors
/// Whatever keeps the parts from fitting, as data that prints as a sentence.
pub fn compose(entry: &str, parts: &BTreeMap<&str, Part<'_>>, links: &[Link<'_>]) -> Result<Vec<u8>, ComposeError> {
    let bytes: usize = parts.values().map(|part| part.bytes.len()).sum();
    if parts.len() > PARTS_MAX || links.len() > LINKS_MAX || bytes as u64 > ARTIFACT_BYTES_MAX {
        return Err(ComposeError::TooLarge {
            parts: parts.len(),
            links: links.len(),
            bytes,
        });
    }
    guarded(|| whole::compose(entry, parts, links)).unwrap_or_else(|why| Err(ComposeError::Unsupported(why)))
}

/// The libraries that read components stop with a panic at a few rare shapes. A component of somebody else's must not
/// end more than its own composition.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a part has a shape that cannot be read".to_owned())
    })
}
