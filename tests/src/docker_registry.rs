//! A real OCI registry of a test's own: Debian's `docker-registry`, behind a login, on a port that it takes back when it
//! starts again.
//!
//! In: components and the names that they are pushed under. Out: an address that whoever has the password pulls from.

use crate::process::{Process, Recipe};
use crate::until::eventually;
use crate::{binary, http, port};
use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use heddle_protocol::digest::Digest;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// A registry checks passwords slowly on purpose, and its machine is busy.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// Who may pull and push.
const LOGIN: &str = "user:secret";
/// The same as `htpasswd -B` writes it, at the lowest cost: a test pays for each request.
const HTPASSWD: &str = "user:$2a$04$JVPBNYDqOyW0OoewIhAA0eG.RASM8rQxAmXg6iT5Dy.qafJgpw4Ke\n";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A `docker-registry`.
#[derive(Debug)]
pub struct DockerRegistry {
    process: Process,
    address: SocketAddr,
}

/// One layer of an image: its type, its bytes, its annotations.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The media type.
    pub media_type: String,
    /// The bytes.
    pub bytes: Bytes,
    /// What the image's manifest says beside its digest.
    pub annotations: Value,
}

impl Layer {
    /// The layer of a component.
    pub fn component(bytes: impl Into<Bytes>) -> Self {
        Self {
            media_type: "application/wasm".to_owned(),
            bytes: bytes.into(),
            annotations: json!({}),
        }
    }
}

impl DockerRegistry {
    /// Starts a registry that keeps its images in `folder`, and waits until it answers.
    pub async fn start(folder: &Path, log: &Path) -> Result<Self> {
        let address = port::free()?;
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let (config, passwords) = (folder.join("config.yml"), folder.join("htpasswd"));
        std::fs::write(&passwords, HTPASSWD).context("failed to write the passwords")?;
        std::fs::write(&config, configuration(address, folder, &passwords))
            .with_context(|| format!("failed to write {}", config.display()))?;
        let process = Process::start(Recipe {
            name: "docker-registry".to_owned(),
            program: binary::docker_registry()?,
            args: vec!["serve".into(), config.into()],
            env: Vec::new(),
            log: log.to_owned(),
        })?;
        let registry = Self { process, address };
        registry.answers().await?;
        Ok(registry)
    }

    /// Its host and port.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// An image, as a manifest names it.
    pub fn image(&self, name: &str, tag: &str) -> String {
        format!("oci://{}/{name}:{tag}", self.address)
    }

    /// A `config.json` with the right login.
    pub fn docker_config(&self) -> String {
        self.docker_config_of(LOGIN)
    }

    /// A `config.json` with any login, `user:password`.
    pub fn docker_config_of(&self, login: &str) -> String {
        json!({ "auths": { self.host(): { "auth": BASE64.encode(login) } } }).to_string()
    }

    /// Kills it: images stay, connections break.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again with the same images, on the same port.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process.start_again()?;
        self.answers().await
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.process.tail()
    }

    /// Pushes an image under a tag, and returns the digest of its manifest.
    pub async fn push(&self, name: &str, tag: &str, layers: &[Layer]) -> Result<Digest> {
        let config = Bytes::from_static(b"{}");
        self.push_blob(name, &config).await?;
        let mut described = Vec::new();
        for layer in layers {
            let digest = self.push_blob(name, &layer.bytes).await?;
            described.push(json!({
                "mediaType": layer.media_type,
                "digest": digest.to_string(),
                "size": layer.bytes.len(),
                "annotations": layer.annotations,
            }));
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": "application/vnd.wasm.config.v0+json",
                "digest": Digest::of(&config).to_string(),
                "size": config.len(),
            },
            "layers": described,
        });
        let manifest = Bytes::from(serde_json::to_vec(&manifest)?);
        let digest = Digest::of(&manifest);
        let path = format!("/v2/{name}/manifests/{tag}");
        self.send("PUT", &path, MANIFEST_TYPE, manifest, 201).await?;
        Ok(digest)
    }

    async fn push_blob(&self, name: &str, bytes: &Bytes) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let opened = self
            .send("POST", &format!("/v2/{name}/blobs/uploads/"), "", Bytes::new(), 202)
            .await?;
        let place = opened.location.context("the registry names no place for a blob")?;
        let place = place.split_once(&self.host()).map_or(place.as_str(), |(_, path)| path);
        let join = if place.contains('?') { '&' } else { '?' };
        let path = format!("{place}{join}digest={digest}");
        self.send("PUT", &path, "application/octet-stream", bytes.clone(), 201)
            .await?;
        Ok(digest)
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: Bytes, expected: u16) -> Result<http::Answer> {
        let (host, login) = (self.host(), format!("Basic {}", BASE64.encode(LOGIN)));
        let length = body.len().to_string();
        let mut headers = vec![
            ("host", host.as_str()),
            ("authorization", login.as_str()),
            ("content-length", length.as_str()),
        ];
        if !kind.is_empty() {
            headers.push(("content-type", kind));
        }
        let answer = http::send_with(self.address, method, path, &headers, body).await?;
        let status = answer.status;
        ensure!(
            status == expected,
            "the registry answers {status} to {method} {path}: {}",
            answer.text()
        );
        Ok(answer)
    }

    async fn answers(&self) -> Result<()> {
        eventually(ANSWERS_WITHIN, "docker-registry answers", async || {
            self.send("GET", "/v2/", "", Bytes::new(), 200).await.map(drop)
        })
        .await
    }
}

fn configuration(address: SocketAddr, folder: &Path, passwords: &Path) -> String {
    let quoted = |path: &Path| Value::from(path.to_string_lossy()).to_string();
    format!(
        "version: 0.1\nlog: {{ level: warn, accesslog: {{ disabled: true }} }}\n\
         storage: {{ filesystem: {{ rootdirectory: {} }}, delete: {{ enabled: true }} }}\n\
         http: {{ addr: \"{address}\", secret: of-a-test }}\n\
         auth: {{ htpasswd: {{ realm: test, path: {} }} }}\n",
        quoted(&folder.join("images")),
        quoted(passwords)
    )
}
