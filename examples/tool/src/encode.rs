//! Core module → component. In: a module that carries its world in a custom section, as bindings generators put it
//! there. Out: a validated component.

use std::path::Path;

use anyhow::{Context, Result};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_bindgen_core::wit_parser::Resolve;
use wit_component::{ComponentEncoder, StringEncoding};

/// Encodes a module. The adapter for WASI 0.1 is used only when the module imports that (a C library does).
pub(crate) fn component(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .context("failed to read the module's world: was it built with bindings?")?
        .adapter(
            WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        )
        .context("failed to read the WASI 0.1 adapter")?
        .encode()
        .context("failed to encode the component")
}

/// Puts the world that a module was written against into it, as bindings generators do; for modules without any.
pub(crate) fn add_world(module: &mut Vec<u8>, wit: &Path, world: &str) -> Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_dir(wit)
        .with_context(|| format!("failed to read the interfaces of {}", wit.display()))?;
    let world_id = resolve
        .select_world(&[package], Some(world))
        .with_context(|| format!("failed to find the world `{world}` in {}", wit.display()))?;
    wit_component::embed_component_metadata(module, &resolve, world_id, StringEncoding::UTF8, false)
        .with_context(|| format!("failed to put the world `{world}` into the module"))
}
