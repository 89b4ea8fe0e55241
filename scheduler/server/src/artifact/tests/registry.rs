//! A registry that can be told to fail: one image under every tag, which it may describe wrongly.

use bytes::Bytes;
use heddle_protocol::digest::Digest;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

pub(super) struct Registry {
    pub(super) host: String,
    shelf: Arc<Mutex<Shelf>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shelf {
    component: Bytes,
    digest: Option<String>,
    size: Option<u64>,
    every_reference: bool,
    blobs_served: u32,
    /// Signatures of the image: the annotation, and what was signed.
    signatures: Vec<(String, Bytes)>,
}

impl Registry {
    pub(super) async fn start(component: Bytes) -> Self {
        let shelf = Arc::new(Mutex::new(Shelf {
            component,
            ..Shelf::default()
        }));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(serve(listener, Arc::clone(&shelf)));
        Self { host, shelf, task }
    }

    pub(super) fn image(&self, tag: &str) -> String {
        format!("oci://{}/demo/component:{tag}", self.host)
    }

    /// Serves another component from now on.
    pub(super) fn serve(&self, component: Bytes) {
        self.shelf.lock().unwrap().component = component;
    }

    /// Says of the component that it has another digest, or size.
    pub(super) fn claim(&self, digest: String, size: Option<u64>) {
        let mut shelf = self.shelf.lock().unwrap();
        (shelf.digest, shelf.size) = (Some(digest), size);
    }

    /// Gives its manifest under digests that it has not.
    pub(super) fn answer_every_reference(&self) {
        self.shelf.lock().unwrap().every_reference = true;
    }

    /// The digest of the image's manifest, which signatures are of.
    pub(super) fn manifest_digest(&self) -> String {
        Digest::of(&self.shelf.lock().unwrap().manifest()).to_string()
    }

    /// Has signatures of the image from now on, under its signature tag.
    pub(super) fn sign(&self, signatures: Vec<(String, Bytes)>) {
        self.shelf.lock().unwrap().signatures = signatures;
    }

    pub(super) fn blobs_served(&self) -> u32 {
        self.shelf.lock().unwrap().blobs_served
    }

    /// Nobody listens from then on.
    pub(super) async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn serve(listener: TcpListener, shelf: Arc<Mutex<Shelf>>) {
    // Connections end with their listener.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shelf = Arc::clone(&shelf);
        let service = service_fn(move |request: Request<Incoming>| {
            let response = shelf.lock().unwrap().answer(request.uri().path());
            async move { Ok::<_, Infallible>(response) }
        });
        connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl Shelf {
    fn manifest(&self) -> Bytes {
        let digest = self.digest.clone();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": "application/vnd.wasm.config.v0+json",
                "digest": Digest::of(b"{}").to_string(),
                "size": 2,
            },
            "layers": [{
                "mediaType": "application/wasm",
                "digest": digest.unwrap_or_else(|| Digest::of(&self.component).to_string()),
                "size": self.size.unwrap_or(self.component.len() as u64),
            }],
        });
        manifest.to_string().into()
    }

    fn signatures_manifest(&self) -> Bytes {
        let layers = self.signatures.iter().map(|(signature, payload)| {
            json!({
                "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
                "digest": Digest::of(payload).to_string(),
                "size": payload.len(),
                "annotations": { "dev.cosignproject.cosign/signature": signature },
            })
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": Digest::of(b"{}").to_string(),
                "size": 2,
            },
            "layers": layers.collect::<Vec<_>>(),
        });
        manifest.to_string().into()
    }

    fn answer(&mut self, path: &str) -> Response<Full<Bytes>> {
        let found = |body: Bytes| {
            Response::builder()
                .header("content-type", MANIFEST_TYPE)
                .body(Full::new(body))
        };
        let wanted = path
            .strip_prefix("/v2/demo/component/")
            .and_then(|rest| rest.split_once('/'));
        let tag = format!("sha256-{}.sig", Digest::of(&self.manifest()).hex());
        match wanted {
            Some(("manifests", name)) if name.ends_with(".sig") && (self.signatures.is_empty() || name != tag) => {
                Response::builder().status(StatusCode::NOT_FOUND).body(Full::default())
            }
            Some(("manifests", name)) if name == tag => found(self.signatures_manifest()),
            Some(("manifests", name)) if self.every_reference || !name.contains(':') => found(self.manifest()),
            Some(("blobs", digest)) => {
                self.blobs_served += 1;
                let payload = self
                    .signatures
                    .iter()
                    .find(|(_, payload)| digest == Digest::of(payload).to_string());
                found(payload.map_or_else(|| self.component.clone(), |(_, payload)| payload.clone()))
            }
            _ if path.trim_end_matches('/') == "/v2" => found(Bytes::from_static(b"{}")),
            _ => Response::builder().status(StatusCode::NOT_FOUND).body(Full::default()),
        }
        .unwrap()
    }
}
