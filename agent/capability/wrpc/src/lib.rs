//! Links that cross hosts: components as callers and as servers of wRPC.
//!
//! In: the imports and exports of components, and a connection of their workload's own. Out: functions in a linker
//! ([`link`]) and served subjects ([`Export`]). Values go over the wire as wRPC encodes them, so either side may be
//! something else than a component. Resources, streams and futures stay inside one host and are refused when a
//! component is linked, by name.

#![forbid(unsafe_code)]

mod call;
mod interface;
mod plain;
mod serve;
mod shape;
mod value;

pub use call::{CallTrap, LinkError, Route, link};
pub use interface::PlanError;
pub use serve::{Export, ServedExport};
pub use shape::{Names, Shape, Signature, Unsupported};
pub use value::{EncodeError, decode, encode};
