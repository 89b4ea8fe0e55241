//! Where secrets come from: backends behind one trait, and the service that asks them with care.
//!
//! In: an [`Ask`], which says who asks for which secret. Out: its value with its version, or a typed reason why not. A
//! slow or dead backend costs a bounded time, and only those who ask it. Values are wiped from memory when they are let
//! go, and stand in no error, log line or `Debug`.

mod backend;
mod config;
mod credentials;
mod env;
mod field;
mod file;
mod jwt;
mod nats;
mod service;
mod vault;

pub use backend::{Ask, Backend, BackendError, Secret};
pub use config::{BackendConfig, ConfigError, SecretsConfig, entity_of};
pub use credentials::{CredentialsError, Permissions, WorkloadSigner};
pub use env::EnvBackend;
pub use file::FileBackend;
pub use nats::{NatsBackend, NatsSettings};
pub use service::{Secrets, ServiceOptions};
pub use vault::{VaultAuth, VaultBackend, VaultSettings};
