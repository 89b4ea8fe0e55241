//! What the project's own commands are made of. The guest builder (`examples/tool`) uses the first four modules too,
//! so this crate stays small: no async runtime, nothing that takes long to compile.

pub mod cache;
pub mod debian;
pub mod process;
pub mod wheel;

pub mod bao;
pub mod bench;
pub mod chaos;
pub mod deny;
pub mod guests;
pub mod nats;
pub mod postgres;
pub mod redis;
pub mod registry;
pub mod sim;
pub mod suites;
pub mod test;
pub mod up;
pub mod workspace;
