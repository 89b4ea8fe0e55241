//! The words all sides of Heddle share.
//!
//! Plain types and codecs: what a person writes (`manifest`), what is kept in the store (`record`, `key`), what one
//! host should run (`host_spec`), what it says it runs (`host_report`), and what a client may ask (`api`). Nothing in
//! here waits, reads a clock or opens a socket.

#![forbid(unsafe_code)]

pub mod api;
pub mod artifact;
pub mod chunk;
pub mod compile;
pub mod defaults;
pub mod delta;
pub mod digest;
pub mod envelope;
pub mod error;
pub mod host_report;
pub mod host_spec;
pub mod id;
pub mod key;
pub mod label;
pub mod manifest;
pub mod mutant;
pub mod offer;
pub mod record;
pub mod report;
pub mod seal;
pub mod sign;
pub mod subject;
pub mod time;
pub mod wit;
