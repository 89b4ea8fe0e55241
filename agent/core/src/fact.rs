//! What the shell did and what it met: facts, in the past tense.

use crate::running::RunId;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{CapabilityOffer, Wasi};
use heddle_protocol::id::{CapabilityName, UnitId};

/// Something that happened. A fact about an action that nobody waits for any more changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A spec became what this host should run.
    SpecAccepted,
    /// An artifact's bytes are on this host and have its digest.
    ArtifactFetched {
        /// The artifact.
        digest: Digest,
    },
    /// An artifact could not be fetched.
    ArtifactFetchFailed {
        /// The artifact.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// An artifact that was fetched cannot be used: its file is gone or damaged.
    ArtifactLost {
        /// The artifact.
        digest: Digest,
        /// The engine that it was to be compiled for.
        wasi: Wasi,
    },
    /// An artifact's code is in memory.
    ComponentCompiled {
        /// The artifact.
        digest: Digest,
        /// The engine that it is for.
        wasi: Wasi,
    },
    /// An artifact could not be compiled.
    ComponentCompileFailed {
        /// The artifact.
        digest: Digest,
        /// The engine that it was for.
        wasi: Wasi,
        /// Why.
        reason: String,
        /// Whether trying again would end the same way.
        for_good: bool,
    },
    /// A unit is linked, and its first instance came up.
    UnitPrepared {
        /// The run.
        run: RunId,
        /// The unit.
        unit: UnitId,
        /// The replicas that it was told of.
        count: u32,
    },
    /// A unit could not be linked, or its first instance did not come up.
    UnitPrepareFailed {
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
        /// Whether trying again would end the same way.
        for_good: bool,
        /// Whether it failed for want of a secret.
        lacks_secret: bool,
    },
    /// How far what a unit runs by itself is: a job's runs, or a service's restarts.
    UnitProgressed {
        /// The run.
        run: RunId,
        /// Of a job: runs that ended well.
        completed: u32,
        /// Of a job: runs that were given up. Of a service: how often it was begun again.
        failed: u32,
        /// How the last one ended, if badly.
        reason: Option<String>,
        /// Whether all of a job's runs have ended.
        ended: bool,
    },
    /// Secrets came that were not here before.
    SecretsArrived,
    /// A draining unit's last call has ended.
    UnitDrained {
        /// The run.
        run: RunId,
    },
    /// A capability can be used.
    CapabilitySet {
        /// Its name.
        name: CapabilityName,
        /// What it was set to.
        offer: CapabilityOffer,
        /// The address that it is bound to, if it listens.
        bound: Option<String>,
    },
    /// A capability could not be set up.
    CapabilityFailed {
        /// Its name.
        name: CapabilityName,
        /// What it was to be set to.
        offer: CapabilityOffer,
        /// Why.
        reason: String,
    },
    /// The link over which artifacts come is up again.
    LinkRestored,
    /// Nothing else: time has passed.
    TimePassed,
}
