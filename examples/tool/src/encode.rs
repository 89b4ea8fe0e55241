//! Core module → component. In: a module that carries its world in a custom section, as bindings generators put it
//! there. Out: a validated component.

use anyhow::{Context, Result};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::ComponentEncoder;

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
