//! The config capability: `wasi:config/store@0.2.0-rc.1`, with the component's own values.
//!
//! In: the configuration that the spec resolved for a component. Out: `get` and `get-all`, which see exactly that.

#![forbid(unsafe_code)]

use heddle_capability::{Capability, CapabilityError, Ctx, Import, Lending, Lent};
use heddle_protocol::host_spec::{CapabilityOffer, Feature};
use heddle_protocol::id::CapabilityName;
use std::collections::BTreeMap;
use std::sync::Arc;
use wasmtime::component::{ComponentType, LinkerInstance, Lower};

/// The interfaces that it meets.
const MEETS: &[&str] = &["wasi:config/store@0.2.0-rc.1"];

/// Lends configuration values.
#[derive(Debug, Clone, Copy, Default)]
pub struct Config;

/// `wasi:config/store.error`. Values come with the spec, so reading them does not fail.
#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    #[allow(
        dead_code,
        reason = "a case of the interface that this implementation has no use for"
    )]
    Upstream(String),
    #[component(name = "io")]
    #[allow(
        dead_code,
        reason = "a case of the interface that this implementation has no use for"
    )]
    Io(String),
}

impl Capability for Config {
    fn feature(&self) -> Feature {
        Feature::CONFIG
    }

    fn configure(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        _lending: &Lending,
    ) -> Result<Arc<dyn Lent>, CapabilityError> {
        match offer {
            CapabilityOffer::Config {} => Ok(Arc::new(Self)),
            _ => Err(CapabilityError::OtherKind {
                name: name.clone(),
                feature: Feature::CONFIG,
            }),
        }
    }
}

impl Lent for Config {
    fn prepare(&self, import: &Import<'_>, linker: &mut LinkerInstance<'_, Ctx>) -> Result<(), CapabilityError> {
        if !MEETS.contains(&import.interface) {
            return Err(CapabilityError::NotMet {
                interface: import.interface.to_owned(),
                meets: MEETS.iter().map(ToString::to_string).collect(),
            });
        }
        link(Arc::new(import.config.clone()), linker).map_err(CapabilityError::link(import))
    }
}

fn link(values: Arc<BTreeMap<String, String>>, linker: &mut LinkerInstance<'_, Ctx>) -> wasmtime::Result<()> {
    let all = Arc::clone(&values);
    linker.func_wrap("get", move |_, (key,): (String,)| {
        Ok((Ok::<_, Error>(values.get(&key).cloned()),))
    })?;
    linker.func_wrap("get-all", move |_, (): ()| {
        let pairs: Vec<(String, String)> = all.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok((Ok::<_, Error>(pairs),))
    })
}
