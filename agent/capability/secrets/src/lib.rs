//! The secrets capability: `wasmcloud:secrets/{store,reveal}@0.1.0-draft`.
//!
//! In: the secrets of one component, by the names that its manifest gives them. Out: handles, and only on an explicit
//! `reveal` their values. A handle is the version that was newest when the guest asked for it; asking again gives the
//! newest. Nothing of a value reaches a log or an error.

#![forbid(unsafe_code)]

use heddle_capability::{Capability, CapabilityError, Ctx, Import, Lending, Lent, SecretHandle, SecretValue};
use heddle_protocol::host_spec::{CapabilityOffer, Feature};
use heddle_protocol::id::CapabilityName;
use std::collections::BTreeMap;
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, LinkerInstance, Lower, Resource, ResourceType};

const STORE: &str = "wasmcloud:secrets/store@0.1.0-draft";
const REVEAL: &str = "wasmcloud:secrets/reveal@0.1.0-draft";
/// Handles that one instance holds at the same time: a guest that drops none must not fill the host.
const HANDLES_MAX: usize = 1_024;

/// Hands out the secrets that a component's manifest names.
pub struct Secrets;

/// `wasmcloud:secrets/store.secret`.
struct Secret(Arc<SecretValue>);

/// `wasmcloud:secrets/store.secrets-error`.
#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    #[allow(
        dead_code,
        reason = "a case of the interface: values are in memory already, so nothing is read"
    )]
    Io(String),
    #[component(name = "not-found")]
    NotFound,
}

/// `wasmcloud:secrets/store.secret-value`.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum Value {
    #[component(name = "string")]
    Text(String),
    #[component(name = "bytes")]
    Bytes(Vec<u8>),
}

impl Capability for Secrets {
    fn feature(&self) -> Feature {
        Feature::SECRETS
    }

    fn configure(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        _lending: &Lending,
    ) -> Result<Arc<dyn Lent>, CapabilityError> {
        match offer {
            CapabilityOffer::Secrets {} => Ok(Arc::new(Self)),
            _ => Err(CapabilityError::OtherKind {
                name: name.clone(),
                feature: self.feature(),
            }),
        }
    }
}

impl Lent for Secrets {
    fn prepare(&self, import: &Import<'_>, linker: &mut LinkerInstance<'_, Ctx>) -> Result<(), CapabilityError> {
        let linked = match import.interface {
            STORE => store(import.secrets.clone(), linker),
            REVEAL => reveal(linker),
            other => {
                return Err(CapabilityError::NotMet {
                    interface: other.to_owned(),
                    meets: vec![STORE.to_owned(), REVEAL.to_owned()],
                });
            }
        };
        linked.map_err(CapabilityError::link(import))
    }
}

/// What an instance counts its handles with.
#[derive(Default)]
struct Held(usize);

fn store(secrets: BTreeMap<String, SecretHandle>, linker: &mut LinkerInstance<'_, Ctx>) -> wasmtime::Result<()> {
    linker.resource("secret", ResourceType::host::<Secret>(), |mut store, rep| {
        let ctx: &mut Ctx = store.data_mut();
        ctx.table.delete(Resource::<Secret>::new_own(rep))?;
        let held = ctx.slots.get_or_default::<Held>();
        held.0 = held.0.saturating_sub(1);
        Ok(())
    })?;
    linker.func_wrap("get", move |mut store: StoreContextMut<'_, Ctx>, (key,): (String,)| {
        Ok((get(&secrets, &key, store.data_mut())?,))
    })
}

/// A handle to the newest version; a name that the manifest does not give is not found, whatever the backend has.
fn get(
    secrets: &BTreeMap<String, SecretHandle>,
    key: &str,
    ctx: &mut Ctx,
) -> wasmtime::Result<Result<Resource<Secret>, Error>> {
    let Some(handle) = secrets.get(key) else {
        return Ok(Err(Error::NotFound));
    };
    let Some(value) = handle.get() else {
        let text = "the secret has not come to this host yet; ask again later";
        return Ok(Err(Error::Upstream(text.to_owned())));
    };
    let held = ctx.slots.get_or_default::<Held>();
    if held.0 >= HANDLES_MAX {
        let text = format!("an instance may hold {HANDLES_MAX} secrets at the same time; drop some");
        return Ok(Err(Error::Upstream(text)));
    }
    held.0 += 1;
    Ok(Ok(ctx.table.push(Secret(value))?))
}

fn reveal(linker: &mut LinkerInstance<'_, Ctx>) -> wasmtime::Result<()> {
    // The type is the store's; a linker wants to be told of it under each name that a component imports it by.
    linker.func_wrap(
        "reveal",
        |mut store: StoreContextMut<'_, Ctx>, (secret,): (Resource<Secret>,)| {
            let secret = store.data_mut().table.get(&secret)?;
            let bytes = secret.0.reveal();
            Ok((match std::str::from_utf8(bytes) {
                Ok(text) => Value::Text(text.to_owned()),
                Err(_) => Value::Bytes(bytes.to_vec()),
            },))
        },
    )
}
