//! The scheduler's decisions: pure, synchronous functions over plain values.
//!
//! The line through it: [`fact`]s and committed records make the [`world`]; [`plan`] turns the world into placements and
//! a report; [`host_specs`] turns placements into one spec per host; [`workload_status`], [`host_status`] and
//! [`explain`] tell people how it fares. [`apply`] decides what a manifest changes. Time is an argument everywhere;
//! nothing here waits, reads a clock, draws a number or opens a socket, so any past decision can be made again.

#![forbid(unsafe_code)]

pub mod fact;
pub mod world;

pub mod cron;

pub mod desired;
pub mod liveness;
pub mod observed;

pub mod place;
pub mod plan;

pub mod host_specs;
pub mod host_status;
mod touched;
pub mod wait;
pub mod workload_status;

pub mod explain;

pub mod apply;
pub mod authorize;

pub mod check;
pub mod diff;
pub mod steps;
pub mod testing;

pub use apply::{
    ArtifactTask, Decision, Known, Needed, ResolvedDocument, SecretAnswer, Undecided, Write, decide_apply,
};
pub use fact::{EventDraft, Fact, Noted};
pub use host_specs::{host_spec, host_specs};
pub use host_status::{host_status, host_statuses};
pub use liveness::{HostLiveness, LivenessOptions};
pub use observed::ObservedHost;
pub use plan::rebalance::decide_rebalance;
pub use plan::{Plan, PlanReport, WorkloadReport, plan, plan_only};
pub use wait::waited;
pub use workload_status::{workload_status, workload_statuses};
pub use world::{Dirty, Premises, RecordError, World};
