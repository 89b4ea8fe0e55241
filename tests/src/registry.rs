//! The smallest OCI registry that a fleet can be sent to: one image, behind a login.
//!
//! In: the bytes of a component. Out: an address that serves its manifest and its blob to whoever has the password, and
//! counts who has not.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use heddle_protocol::digest::Digest;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// `user:secret`, as HTTP writes it.
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";
/// The same, as docker's `config.json` writes it.
const DOCKER_AUTH: &str = "dXNlcjpzZWNyZXQ=";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry with one image, `demo/component:1`.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    shelf: Arc<Shelf>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shelf {
    component: Bytes,
    config: Bytes,
    manifest: Bytes,
    refused: AtomicU32,
}

impl Registry {
    /// Serves a component.
    pub async fn start(component: Vec<u8>) -> Result<Self> {
        let config = Bytes::from_static(b"{}");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": "application/vnd.wasm.config.v0+json",
                "digest": Digest::of(&config).to_string(),
                "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/wasm",
                "digest": Digest::of(&component).to_string(),
                "size": component.len(),
            }],
        });
        let shelf = Arc::new(Shelf {
            component: component.into(),
            config,
            manifest: serde_json::to_vec(&manifest)?.into(),
            refused: AtomicU32::new(0),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("failed to bind a registry")?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, Arc::clone(&shelf)));
        Ok(Self { address, shelf, task })
    }

    /// Its host and port.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The image, as a manifest names it.
    pub fn image(&self) -> String {
        format!("oci://{}/demo/component:1", self.address)
    }

    /// A `config.json` with the login.
    pub fn docker_config(&self) -> String {
        json!({ "auths": { self.host(): { "auth": DOCKER_AUTH } } }).to_string()
    }

    /// Requests that came without the password.
    pub fn refused(&self) -> u32 {
        self.shelf.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, shelf: Arc<Shelf>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shelf = Arc::clone(&shelf);
        let service = service_fn(move |request: Request<Incoming>| {
            let response = shelf.answer(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl Shelf {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let login = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        if login != Some(BASIC) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let mut response = plain(StatusCode::UNAUTHORIZED, Bytes::from_static(b"{}"));
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static("Basic realm=\"test\""),
            );
            return response;
        }
        let path = request.uri().path();
        if path == "/v2/" || path == "/v2" {
            return plain(StatusCode::OK, Bytes::from_static(b"{}"));
        }
        let wanted = path
            .strip_prefix("/v2/demo/component/")
            .and_then(|rest| rest.split_once('/'));
        match wanted {
            Some(("manifests", name)) if name == "1" || name == Digest::of(&self.manifest).to_string() => {
                let mut response = plain(StatusCode::OK, self.manifest.clone());
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(MANIFEST_TYPE));
                if let Ok(digest) = Digest::of(&self.manifest).to_string().parse() {
                    headers.insert("docker-content-digest", digest);
                }
                response
            }
            Some(("blobs", digest)) => {
                let found = [&self.component, &self.config]
                    .into_iter()
                    .find(|b| Digest::of(b).to_string() == digest);
                match found {
                    Some(blob) => plain(StatusCode::OK, blob.clone()),
                    None => plain(StatusCode::NOT_FOUND, Bytes::new()),
                }
            }
            _ => plain(StatusCode::NOT_FOUND, Bytes::new()),
        }
    }
}

fn plain(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}
