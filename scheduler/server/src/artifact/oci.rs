//! Fetches components from OCI registries: the tag is resolved to bytes once, when a manifest is applied.

use super::login::Logins;
use bytes::Bytes;
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::defaults::ARTIFACT_BYTES_MAX;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::OciDescriptor;
use oci_client::{Client, Reference};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWrite;

/// Layers of these media types hold a component.
const MEDIA_TYPES: &[&str] = &["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];
/// How long one fetch may take in all: large components over slow links.
const FETCH_WITHIN: Duration = Duration::from_secs(120);

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
    pub(super) async fn fetch(&self, reference: &str) -> Result<Bytes, ApiError> {
        match tokio::time::timeout(FETCH_WITHIN, self.fetch_now(reference)).await {
            Ok(result) => result,
            Err(_) => Err(failed(reference, &format!("it took longer than {FETCH_WITHIN:?}"))),
        }
    }

    async fn fetch_now(&self, text: &str) -> Result<Bytes, ApiError> {
        let reference: Reference = text.parse().map_err(|e: oci_client::ParseError| failed(text, &e))?;
        let auth = self.logins.of(reference.resolve_registry());
        let (manifest, _digest) = self
            .client
            .pull_image_manifest(&reference, &auth)
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
        // The registry's word on the size is not trusted: the sink stops at the limit. The digest is checked on the way.
        let mut sink = Sink {
            bytes: Vec::with_capacity(size as usize),
            bytes_max: size as usize,
        };
        self.client
            .pull_blob(&reference, layer, &mut sink)
            .await
            .map_err(|e| failed(text, &e))?;
        Ok(sink.bytes.into())
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
