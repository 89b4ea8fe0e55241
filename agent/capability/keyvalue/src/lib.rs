//! Key-value stores: `wasi:keyvalue/{store,atomics,batch}@0.2.0-draft`, over whatever keeps the data.
//!
//! In: an offer, imports with the scope that each may see, and a [`Backend`] for stores that are not in this process.
//! Out: the functions of the three interfaces, with the same bounds and the same errors for all stores. The one in the
//! agent's memory is here ([`KeyvalueMemory`]) and answers at once; the others are crates of their own.

#![forbid(unsafe_code)]

mod bounds;
mod link;
mod memory;
mod space;
mod store;
mod token;

pub use bounds::{ANSWER_BYTES_MAX, BATCH_KEYS_MAX, CALL_TIME_MAX, KEY_BYTES_MAX, PAGE_KEYS, Refused, VALUE_BYTES_MAX};
pub use link::{prepare, scope_of};
pub use memory::KeyvalueMemory;
pub use store::{Answer, Backend, Bucket, Page, Pair, Store};
pub use token::{text, token};
