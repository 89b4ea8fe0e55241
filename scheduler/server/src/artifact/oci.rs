//! Fetches components from OCI registries: the tag is resolved to bytes once, when a manifest is applied.

use super::login::Logins;
use crate::signature::Claim;
use bytes::Bytes;
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::defaults::ARTIFACT_BYTES_MAX;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::OciDescriptor;
use oci_client::{Client, Reference};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWrite;

/// Layers of these media types hold a component.
const MEDIA_TYPES: &[&str] = &["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];
/// How long one fetch may take in all: large components over slow links.
const FETCH_WITHIN: Duration = Duration::from_secs(120);

/// The annotation that a signature is in, of the layer that holds what was signed.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Signatures of one image that are looked at.
const SIGNATURES_MAX: usize = 32;
/// What is signed is a few hundred bytes.
const PAYLOAD_BYTES_MAX: u64 = 64 << 10;

/// An image, fetched.
pub(super) struct Fetched {
    /// The component.
    pub(super) component: Bytes,
    /// The digests by which a signature may name the image: its manifest, and the index that it was found in.
    pub(super) manifests: Vec<String>,
}

/// A client of OCI registries.
#[derive(Clone)]
pub struct Fetcher {
    client: Client,
    logins: Arc<Logins>,
}

impl Fetcher {
    /// A client with some logins, and some registries that are spoken to without TLS.
    pub fn new(logins: Logins, plain_http: Vec<String>) -> Self {
        let config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(plain_http),
            connect_timeout: Some(Duration::from_secs(5)),
            read_timeout: Some(Duration::from_secs(30)),
            ..ClientConfig::default()
        };
        Self {
            client: Client::new(config),
            logins: Arc::new(logins),
        }
    }

    /// Fetches the component that a reference such as `registry.example/shop/cart:1.2` names.
    pub(super) async fn fetch(&self, reference: &str) -> Result<Fetched, ApiError> {
        within(reference, self.fetch_now(reference)).await
    }

    /// Fetches what a registry says of who signed an image that was fetched. Nothing of it is verified yet.
    pub(super) async fn claims(&self, reference: &str, manifests: &[String]) -> Result<Vec<Claim>, ApiError> {
        within(reference, self.claims_now(reference, manifests)).await
    }

    async fn fetch_now(&self, text: &str) -> Result<Fetched, ApiError> {
        let reference: Reference = text.parse().map_err(|e: oci_client::ParseError| failed(text, &e))?;
        let auth = self.logins.of(reference.resolve_registry());
        let (manifest, digest, index) = self
            .client
            .pull_image_manifest_and_list_digest(&reference, &auth)
            .await
            .map_err(|e| failed(text, &e))?;
        let layer = component_layer(&manifest.layers).ok_or_else(|| {
            let found: Vec<&str> = manifest.layers.iter().map(|l| l.media_type.as_str()).collect();
            failed(text, &format!("it holds no component; its layers are {found:?}"))
        })?;
        let size = u64::try_from(layer.size).unwrap_or(u64::MAX);
        if size > ARTIFACT_BYTES_MAX {
            return Err(failed(
                text,
                &format!("it has {size} bytes; at most {ARTIFACT_BYTES_MAX} are allowed"),
            ));
        }
        let component = self.blob(&reference, layer, size).await.map_err(|e| failed(text, &e))?;
        Ok(Fetched {
            component,
            manifests: [Some(digest), index].into_iter().flatten().collect(),
        })
    }

    /// One layer. The registry's word on the size is not trusted: the sink stops at the limit. The digest is checked on the
    /// way.
    async fn blob(
        &self,
        reference: &Reference,
        layer: &OciDescriptor,
        size: u64,
    ) -> Result<Bytes, OciDistributionError> {
        let mut sink = Sink {
            bytes: Vec::with_capacity(size as usize),
            bytes_max: size as usize,
        };
        self.client.pull_blob(reference, layer, &mut sink).await?;
        Ok(sink.bytes.into())
    }

    async fn claims_now(&self, text: &str, manifests: &[String]) -> Result<Vec<Claim>, ApiError> {
        let image: Reference = text.parse().map_err(|e: oci_client::ParseError| failed(text, &e))?;
        let auth = self.logins.of(image.resolve_registry());
        let mut claims = Vec::new();
        for digest in manifests {
            let tag = format!("{}.sig", digest.replacen(':', "-", 1));
            let at = Reference::with_tag(image.registry().to_owned(), image.repository().to_owned(), tag);
            let manifest = match self.client.pull_image_manifest(&at, &auth).await {
                Ok((manifest, _)) => manifest,
                Err(e) if is_missing(&e) => continue,
                Err(e) => return Err(failed(text, &format!("its signatures cannot be read: {e}"))),
            };
            for layer in manifest.layers.iter().take(SIGNATURES_MAX) {
                let signature = layer.annotations.as_ref().and_then(|all| all.get(SIGNATURE));
                let size = u64::try_from(layer.size).unwrap_or(u64::MAX);
                let (Some(signature), true) = (signature, size <= PAYLOAD_BYTES_MAX) else {
                    continue;
                };
                let payload = self.blob(&at, layer, size).await;
                let payload = payload.map_err(|e| failed(text, &format!("its signatures cannot be read: {e}")))?;
                let signature = signature.clone();
                claims.push(Claim { signature, payload });
            }
        }
        Ok(claims)
    }
}

async fn within<T>(reference: &str, call: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    match tokio::time::timeout(FETCH_WITHIN, call).await {
        Ok(result) => result,
        Err(_) => Err(failed(reference, &format!("it took longer than {FETCH_WITHIN:?}"))),
    }
}

/// Whether a registry says that there is no such tag, rather than that it cannot say.
fn is_missing(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) => true,
        OciDistributionError::ServerError { code, .. } => *code == 404,
        OciDistributionError::RegistryError { envelope, .. } => envelope.errors.iter().any(|e| {
            matches!(
                e.code,
                OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound
            )
        }),
        _ => false,
    }
}

fn component_layer(layers: &[OciDescriptor]) -> Option<&OciDescriptor> {
    layers
        .iter()
        .find(|layer| MEDIA_TYPES.contains(&layer.media_type.as_str()))
}

fn failed(reference: &str, why: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(
        ErrorCode::Artifact,
        format!("failed to fetch image oci://{reference}: {why}"),
        "check the name and tag, that the registry is up, and the scheduler's --registry-config for its login",
    )
}

/// Memory that takes so many bytes and no more.
struct Sink {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl AsyncWrite for Sink {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        part: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        if self.bytes.len() + part.len() > self.bytes_max {
            return std::task::Poll::Ready(Err(std::io::Error::other("the layer is larger than its manifest says")));
        }
        self.bytes.extend_from_slice(part);
        std::task::Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}
