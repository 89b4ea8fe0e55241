//! Choosing hosts: who may take a replica ([`filter`]), who should ([`spread`], [`score`]), and what is left
//! ([`capacity`]).

pub mod capacity;
pub mod filter;
pub mod fleet;
pub mod score;
pub mod spread;

pub use filter::Need;
pub use fleet::{Fleet, HostView};
