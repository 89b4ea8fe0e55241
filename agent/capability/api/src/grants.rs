//! What a component is granted beside WASI itself: nothing, unless its manifest says so.

use crate::cpu::{CpuBudget, Interrupts};
use crate::egress::Egress;
use crate::secret::SecretHandle;
use std::sync::Arc;

/// What a component may see and reach. The default is nothing.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Environment variables that show secrets, because the manifest says so.
    pub env: Vec<(String, SecretHandle)>,
    /// The destinations that it may call.
    pub egress: Arc<Egress>,
    /// The processor time of its unit.
    pub cpu: Arc<CpuBudget>,
    /// How often its calls were interrupted.
    pub interrupts: Arc<Interrupts>,
}

impl Grants {
    /// The environment as it is now. A secret that is no text, or has not come, is left out.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let value = |(name, secret): &(String, SecretHandle)| {
            let value = secret.get()?;
            Some((name.clone(), std::str::from_utf8(value.reveal()).ok()?.to_owned()))
        };
        self.env.iter().filter_map(value).collect()
    }
}
