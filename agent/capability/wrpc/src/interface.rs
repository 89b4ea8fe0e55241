//! The functions of an interface, as it is imported or exported.
//!
//! In: a component's type. Out: every function with its signature, or the one thing in the interface that cannot go over
//! the network, by name.

use crate::shape::{Signature, Unsupported};
use wasmtime::component::types::ComponentItem;

/// Why an import cannot be a call over the network, or an export cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The component does not have it.
    #[error("failed to link {interface} over the network: the component has no interface of this name")]
    Missing {
        /// The interface.
        interface: String,
    },
    /// One of its functions cannot go over the network.
    #[error("failed to link {interface} over the network: function {function}: {why}; link it with `via: local`")]
    Unsupported {
        /// The interface.
        interface: String,
        /// The function.
        function: String,
        /// Why.
        why: Unsupported,
    },
    /// It has something that is no function.
    #[error("failed to link {interface} over the network: {name} is a resource, which stays inside one host")]
    Resource {
        /// The interface.
        interface: String,
        /// What it is called.
        name: String,
    },
    /// The linker refused it.
    #[error("failed to link {interface}")]
    Link {
        /// The interface.
        interface: String,
        /// Why.
        source: wasmtime::Error,
    },
}

/// The functions of an interface with their signatures, in order.
pub(crate) fn functions(
    interface: &str,
    item: Option<ComponentItem>,
    engine: &wasmtime::Engine,
) -> Result<Vec<(String, Signature)>, PlanError> {
    let Some(ComponentItem::ComponentInstance(instance)) = item else {
        return Err(PlanError::Missing {
            interface: interface.to_owned(),
        });
    };
    let mut functions = Vec::new();
    for (name, item) in instance.exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(ty) => {
                let signature = Signature::of(&ty).map_err(|why| PlanError::Unsupported {
                    interface: interface.to_owned(),
                    function: name.to_owned(),
                    why,
                })?;
                functions.push((name.to_owned(), signature));
            }
            ComponentItem::Type(_) => {}
            _ => {
                return Err(PlanError::Resource {
                    interface: interface.to_owned(),
                    name: name.to_owned(),
                });
            }
        }
    }
    Ok(functions)
}
