//! Blob stores: `wasi:blobstore/{blobstore,container,types}@0.2.0-draft`, in folders of the host and in NATS object stores.
//!
//! In: an offer, and imports with the scope that each may see. Out: containers and objects of any size. What a guest
//! writes goes to a file first and becomes the object when the guest says that it is whole; what it reads comes in
//! pieces. So neither the guest's memory nor the agent's grows with an object, and nobody ever sees half of one.

#![forbid(unsafe_code)]

mod backend;
mod filesystem;
mod lend;
mod link;
mod nats;
mod spool;
mod value;

pub use backend::{Blobs, Error, NAME_BYTES_MAX, ObjectInfo, Range, Reader, Store};
pub use filesystem::BlobstoreFilesystem;
pub use lend::open;
pub use nats::BlobstoreNats;
pub use spool::{OBJECT_BYTES_MAX, Spool, Spooled};
