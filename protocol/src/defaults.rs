//! Every number that a fleet runs with unless it is told otherwise: its unit, and why it is that number.

/// How often an agent says that it lives, in milliseconds. Small fleets want quick failover; a heartbeat costs NATS
/// about 32 µs, so large fleets raise it.
pub const HEARTBEAT_MS: u64 = 1_000;
/// Silence after which a host counts as lost, in milliseconds: three missed heartbeats.
pub const HOST_LOST_AFTER_MS: u64 = 3_000;
/// A zone that loses more hosts than this at once is cut off rather than dead (see `PARTITION_SHARE_PERCENT`).
pub const PARTITION_HOSTS_MIN: usize = 3;
/// Share of a zone's hosts, in percent, above which their loss counts as a partition.
pub const PARTITION_SHARE_PERCENT: usize = 20;
/// The window in which losses count as "at once", in milliseconds.
pub const PARTITION_WINDOW_MS: u64 = 60_000;
/// Memory of one instance when the manifest names none, in bytes: enough for Rust, Go and C guests.
pub const LIMIT_MEMORY_BYTES: u64 = 64 << 20;
/// Wall time of one call when the manifest names none, in milliseconds.
pub const LIMIT_TIME_MS: u64 = 30_000;
/// Calls in flight per replica when the manifest names none.
pub const LIMIT_CONCURRENCY: u32 = 100;
/// Connections of one listener when the platform names no number.
pub const LISTENER_CONNECTIONS_MAX: u32 = 10_000;
/// Largest body of one HTTP request, in bytes, that a listener passes on to a guest.
pub const HTTP_BODY_BYTES_MAX: u64 = 32 << 20;
/// Replicas that one host takes unless its agent says otherwise.
pub const HOST_REPLICA_SLOTS: u32 = 1_000;
/// Largest message that is sent whole, in bytes: half of NATS's default payload limit. Larger ones go in chunks.
pub const MESSAGE_BYTES_MAX: usize = 512 << 10;
/// Bytes in one chunk: leaves room for headers below `MESSAGE_BYTES_MAX`.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Largest artifact, in bytes.
pub const ARTIFACT_BYTES_MAX: u64 = 64 << 20;
/// Largest chunked message other than an artifact (an apply, a spec), in bytes.
pub const CHUNKED_BYTES_MAX: u64 = 64 << 20;
/// How long an agent goes on serving after SIGTERM, in milliseconds, if its work is not taken over earlier.
pub const LEAVING_DEADLINE_MS: u64 = 30_000;
/// How long a stopping unit waits for its calls in flight, in milliseconds.
pub const DRAIN_MS: u64 = 10_000;
/// Generations kept per workload for `heddle undo`.
pub const GENERATIONS_KEPT: usize = 10;
/// How long a scheduler remembers request ids, in milliseconds: one day.
pub const REQUEST_ID_TTL_MS: u64 = 86_400_000;
/// Items on one page of a list.
pub const PAGE_ITEMS: usize = 500;
/// Lines of a workload's log that an agent keeps per unit.
pub const LOG_LINES_KEPT: usize = 1_000;
/// Longest kept log line, in bytes.
pub const LOG_LINE_BYTES_MAX: usize = 8 << 10;
/// Events that a scheduler keeps in memory.
pub const EVENTS_KEPT: usize = 10_000;
/// Largest native code of one artifact, in bytes: compiled code is about three times its component.
pub const CODE_BYTES_MAX: u64 = 256 << 20;
/// Processor time that compiling one artifact may take, in seconds; what takes longer is refused.
pub const COMPILE_CPU_SECONDS_MAX: u64 = 60;
/// Memory that compiling one artifact may take, in bytes.
pub const COMPILE_MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Wall time of one call over wRPC when the link names none, in milliseconds.
pub const CALL_TIMEOUT_MS: u64 = 5_000;
/// Calls in flight over one link per replica when the link names no number.
pub const CALL_IN_FLIGHT: u32 = 128;
/// Largest arguments or results of one call over wRPC, in bytes.
pub const CALL_BYTES_MAX: usize = 16 << 20;
/// Messages in work at the same time per replica when the trigger names no number.
pub const MESSAGES_IN_FLIGHT: u32 = 16;
/// Deliveries of one message before it is given up, when the trigger names no number.
pub const MESSAGE_ATTEMPTS: u32 = 5;
/// Runs of a job before it is given up, when it names no number.
pub const JOB_ATTEMPTS: u32 = 3;
/// Largest secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 64 << 10;
/// How often the scheduler asks a backend for newer versions of secrets that name none, in milliseconds.
pub const SECRET_POLL_MS: u64 = 30_000;
