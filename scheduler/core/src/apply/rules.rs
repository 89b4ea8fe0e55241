//! The names of the rules that only the fleet can check. Each stands in the problems that it finds.

/// An import that no link, capability or WASI meets.
pub const IMPORT_UNMET: &str = "import-unmet";
/// A link for an import that the component does not have.
pub const IMPORT_UNKNOWN: &str = "import-unknown";
/// An import that several capabilities meet, so that a link must say which.
pub const IMPORT_AMBIGUOUS: &str = "import-ambiguous";
/// A link to a capability that does not meet the import.
pub const LINK_MISMATCH: &str = "link-mismatch";
/// A capability that no platform lends.
pub const CAPABILITY_UNKNOWN: &str = "capability-unknown";
/// An HTTP trigger on a capability that is no listener.
pub const CAPABILITY_NOT_HTTP: &str = "capability-not-http";
/// A capability that workloads use and that would no longer be lent.
pub const CAPABILITY_IN_USE: &str = "capability-in-use";
/// One name that means different capabilities on different platforms.
pub const CAPABILITY_KIND: &str = "capability-kind";
/// Two platforms that give the same name or address to one host.
pub const PLATFORM_CLASH: &str = "platform-clash";
/// A component that serves no HTTP and is to be called by it.
pub const HANDLER_MISSING: &str = "handler-missing";
/// Several components that serve HTTP, so that the trigger must say which.
pub const HANDLER_AMBIGUOUS: &str = "handler-ambiguous";
/// A route that another workload owns.
pub const ROUTE_TAKEN: &str = "route-taken";
/// Several calls at once in an instance that takes one at a time.
pub const CONCURRENCY_UNSUPPORTED: &str = "concurrency-unsupported";
/// A config that does not exist.
pub const CONFIG_UNKNOWN: &str = "config-unknown";
/// An image that was not resolved.
pub const IMAGE_UNRESOLVED: &str = "image-unresolved";

/// A link to a workload that is not there.
pub const WORKLOAD_UNKNOWN: &str = "workload-unknown";
/// A link to a component or workload that does not export what is imported.
pub const EXPORT_MISSING: &str = "export-missing";
/// A link or trigger for which several components would do, so that it must be said which.
pub const EXPORT_AMBIGUOUS: &str = "export-ambiguous";
/// A call over the network to a component that is only a part of others.
pub const CALLEE_NOT_AN_ENTRY: &str = "callee-not-an-entry";
/// A call over the network whose functions or values do not fit.
pub const CALL_UNFIT: &str = "call-unfit";
/// Components that cannot be made one.
pub const COMPOSE_FAILED: &str = "compose-failed";
/// Too many components in one, or embedded too deep.
pub const COMPOSE_TOO_LARGE: &str = "compose-too-large";
/// Workloads that embed each other in a circle.
pub const EMBED_CYCLE: &str = "embed-cycle";
/// A messaging trigger on a capability that is no messaging.
pub const CAPABILITY_NOT_MESSAGING: &str = "capability-not-messaging";
/// A subject that the messaging capability does not give to workloads.
pub const SUBJECT_NOT_ALLOWED: &str = "subject-not-allowed";
/// A SecretRef that does not exist.
pub const SECRET_UNKNOWN: &str = "secret-unknown";
/// An image that is not signed as a Policy of its namespace asks.
pub const IMAGE_UNSIGNED: &str = "image-unsigned";
/// A secret that its backend does not give.
pub const SECRET_REFUSED: &str = "secret-refused";
/// A secret whose backend cannot be asked.
pub const SECRET_UNREACHABLE: &str = "secret-unreachable";
/// More than the namespace's Quota allows.
pub const QUOTA_EXCEEDED: &str = "quota-exceeded";
/// A second Quota of a namespace.
pub const QUOTA_TAKEN: &str = "quota-taken";

/// The rules that say that an object is in another's way, rather than that the manifest is wrong.
pub const CONFLICTS: &[&str] = &[
    CAPABILITY_IN_USE,
    CAPABILITY_KIND,
    PLATFORM_CLASH,
    ROUTE_TAKEN,
    QUOTA_TAKEN,
    QUOTA_EXCEEDED,
];

/// The rules that say that something outside cannot be asked now, rather than that the manifest is wrong.
pub const UNAVAILABLE: &[&str] = &[SECRET_UNREACHABLE];
