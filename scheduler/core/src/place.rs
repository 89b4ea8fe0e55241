//! Choosing hosts. From what is known to what is chosen: hosts by number and class ([`index`], [`class`],
//! [`ladder`], [`asked`]),
//! what a workload asks of them ([`filter`], [`shape`]), the fleet while it is planned ([`room`]), where others are
//! ([`company`]), how replicas are spread ([`tally`]), and which host is the one ([`choose`]). [`fleet`] and [`bounds`]
//! tell people of it.

pub mod capacity;
pub mod filter;
pub mod fleet;

pub(crate) mod asked;
pub(crate) mod class;
pub(crate) mod index;
mod ladder;
pub(crate) mod residents;
pub(crate) mod shape;
mod shared;

pub(crate) mod choose;
pub(crate) mod company;
pub(crate) mod room;
pub(crate) mod tally;

pub mod bounds;

pub use bounds::Bounds;
pub use filter::Need;
pub use fleet::{Fleet, HostView};
