//! What the shell is told to do: commands, each complete in itself.

use crate::running::RunId;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_spec::{CapabilityOffer, Compile, Template, Wasi};
use heddle_protocol::id::{CapabilityName, UnitId};
use heddle_protocol::time::Mono;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One command to the shell. All but the last few take time and come back as facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Lend a capability, or lend it as it is described now.
    SetCapability {
        /// Its name.
        name: CapabilityName,
        /// What it is.
        offer: CapabilityOffer,
    },
    /// Have an artifact's bytes on this host.
    FetchArtifact {
        /// The artifact.
        digest: Digest,
        /// Its size, in bytes.
        bytes: u64,
    },
    /// Have an artifact's code in memory: as the scheduler compiled it, or compiled here, or as it was found on the disk.
    CompileArtifact {
        /// The artifact.
        digest: Digest,
        /// Its size, in bytes.
        bytes: u64,
        /// The engine to compile for.
        wasi: Wasi,
        /// Who compiles.
        by: Compile,
    },
    /// Link a unit's components and try a first instance.
    PrepareUnit {
        /// The run.
        run: RunId,
        /// The unit.
        unit: UnitId,
        /// How it is run.
        template: Arc<Template>,
        /// Its replicas here.
        count: u32,
    },
    /// Tell a prepared unit how many replicas it stands for.
    ResizeUnit {
        /// The run.
        run: RunId,
        /// The unit.
        unit: UnitId,
        /// Its replicas here.
        count: u32,
    },
    /// Make exactly these runs live: the spec's routes lead to them, they serve what the spec says and take messages, and
    /// what runs by itself runs. Done at once, in one step; runs that were live and are not named serve nobody new.
    SetRoutes {
        /// The run of each unit that is ready.
        serving: BTreeMap<UnitId, RunId>,
    },
    /// Let a run's calls in flight finish. Its routes are gone already.
    DrainUnit {
        /// The run.
        run: RunId,
        /// The unit.
        unit: UnitId,
        /// When it is dropped all the same.
        deadline: Mono,
    },
    /// Let go of everything that a run holds.
    DropUnit {
        /// The run.
        run: RunId,
        /// The unit.
        unit: UnitId,
    },
    /// Lend a capability no more.
    RemoveCapability {
        /// Its name.
        name: CapabilityName,
    },
    /// Let go of compiled code that no unit has used for a while. Its files stay.
    ForgetComponent {
        /// The artifact.
        digest: Digest,
        /// The engine that it was compiled for.
        wasi: Wasi,
    },
}
