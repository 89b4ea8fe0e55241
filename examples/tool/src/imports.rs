//! What a component asks for and what it offers. In: its bytes. Out: one line for each, sorted.

use anyhow::{Result, bail};
use wit_component::DecodedWasm;

/// `import NAME` and `export NAME` lines.
pub(crate) fn list(component: &[u8]) -> Result<String> {
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
        bail!("it is a WIT package, not a component");
    };
    let world = &resolve.worlds[world];
    let mut lines: Vec<String> = Vec::new();
    lines.extend(
        world
            .imports
            .keys()
            .map(|key| format!("  import {}\n", resolve.name_world_key(key))),
    );
    lines.extend(
        world
            .exports
            .keys()
            .map(|key| format!("  export {}\n", resolve.name_world_key(key))),
    );
    lines.sort();
    Ok(lines.concat())
}
