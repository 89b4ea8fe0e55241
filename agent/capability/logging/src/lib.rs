//! The logging capability: `wasi:logging/logging@0.1.0-draft`, into the component's log.
//!
//! In: lines with level and context. Out: the same lines in the agent's log of that component, under its rate limit.

#![forbid(unsafe_code)]

use heddle_capability::{Capability, CapabilityError, Ctx, Import, Lending, Lent};
use heddle_protocol::host_spec::{CapabilityOffer, Feature};
use heddle_protocol::id::CapabilityName;
use std::sync::Arc;
use wasmtime::component::{ComponentType, Lift, LinkerInstance};

/// The interfaces that it meets.
const MEETS: &[&str] = &["wasi:logging/logging@0.1.0-draft"];

/// Takes log lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct Logging;

/// `wasi:logging/logging.level`.
#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "guests make them; the host only reads them")]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl From<Level> for heddle_capability::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
            Level::Critical => Self::Critical,
        }
    }
}

impl Capability for Logging {
    fn feature(&self) -> Feature {
        Feature::LOGGING
    }

    fn configure(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        _lending: &Lending,
    ) -> Result<Arc<dyn Lent>, CapabilityError> {
        match offer {
            CapabilityOffer::Logging {} => Ok(Arc::new(Self)),
            _ => Err(CapabilityError::OtherKind {
                name: name.clone(),
                feature: Feature::LOGGING,
            }),
        }
    }
}

impl Lent for Logging {
    fn prepare(&self, import: &Import<'_>, linker: &mut LinkerInstance<'_, Ctx>) -> Result<(), CapabilityError> {
        if !MEETS.contains(&import.interface) {
            return Err(CapabilityError::NotMet {
                interface: import.interface.to_owned(),
                meets: MEETS.iter().map(ToString::to_string).collect(),
            });
        }
        let log = Arc::clone(import.log);
        let write = move |_: wasmtime::StoreContextMut<'_, Ctx>, (level, context, message): (Level, String, String)| {
            let text = if context.is_empty() {
                message
            } else {
                format!("{context}: {message}")
            };
            log.write(level.into(), &text);
            Ok(())
        };
        linker.func_wrap("log", write).map_err(CapabilityError::link(import))
    }
}
