//! What a person writes: Platforms, Configs, SecretRefs, Policies, Quotas and Workloads, in YAML or JSON.
//!
//! In: text. Out: typed objects that keep every rule, or all problems at once, each with its place, its rule and, where
//! one suggests itself, what was probably meant. Whether references to other objects can be met is not decided here:
//! that needs the fleet.

mod canonical;
mod config;
mod document;
mod json;
mod object;
mod placement;
mod platform;
mod policy;
mod problem;
mod quantity;
mod quota;
pub mod rule;
mod scalar;
mod schema;
mod structure;
mod tree;
mod trust;
mod unsupported;
mod validate;
mod workload;

pub use config::{Config, ConfigSource, Rotate, SecretRef, SecretRefSpec, SecretSource};
pub use document::{Document, load, parse, parse_bytes, values};
pub use object::{ApiVersion, DEFAULT_NAMESPACE, Kind, Metadata, Object, PlatformMetadata};
pub use placement::{Company, LabelRule, Placement, Preference, Selector, Spread, Strategy, Toleration};
pub use platform::{
    BlobstoreCapability, Capability, CapabilityKind, Compile, ConfigCapability, CustomCapability, Engines,
    FilesystemBlobstore, HttpCapability, JetstreamMessaging, KeyvalueCapability, LoggingCapability, MemoryKeyvalue,
    MessagingCapability, NatsBlobstore, NatsKeyvalue, NatsMessaging, Platform, PlatformSpec, PostgresCapability,
    RedisKeyvalue, WrpcCapability,
};
pub use policy::{Canary, Disconnect, Health, HttpProbe, Job, OnFailure, Probe, Reconcile, Rollout, RolloutStrategy};
pub use problem::{FieldPath, PROBLEMS_MAX, Position, Problem, Step};
pub use quantity::{Cpu, Duration, QuantityError, Size};
pub use quota::{Quota, QuotaSpec};
pub use schema::schema;
pub use tree::{DEPTH_MAX, DOCUMENTS_MAX, NODES_MAX, TEXT_BYTES_MAX};
pub use trust::{CosignKey, Policy, PolicySpec, Signatures};
pub use unsupported::unsupported;
pub use validate::{is_label_key, is_label_value, validate};
pub use workload::{
    Component, CronTrigger, HttpTrigger, Instances, Limits, Link, LinkTarget, MessagingTrigger, Method, Reserve, Scale,
    ServiceTrigger, Target, Trigger, Via, Workload, WorkloadSpec, WrpcTrigger,
};
