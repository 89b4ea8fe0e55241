//! One request to a server and its answer: sizes and times bounded, states told apart.

use super::VaultSettings;
use crate::backend::BackendError;
use crate::field::{Fields, malformed};
use reqwest::{Certificate, Client, Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use zeroize::Zeroizing;

/// The largest answer: a secret with all its fields in JSON.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The longest text that is taken over from a server's own words.
const WORDS_MAX: usize = 200;
/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// A client for one server.
#[derive(Debug)]
pub(super) struct Wire {
    client: Client,
    base: Url,
    namespace: Option<String>,
}

/// The value of a secret at a version.
#[derive(Deserialize)]
pub(super) struct Data {
    pub(super) data: Fields,
    pub(super) metadata: DataMetadata,
}

/// Which version it is.
#[derive(Deserialize)]
pub(super) struct DataMetadata {
    pub(super) version: u64,
}

/// What is known of all versions.
#[derive(Deserialize)]
pub(super) struct Metadata {
    pub(super) current_version: u64,
}

/// An answer's bytes, wiped when dropped.
pub(super) struct Body(Zeroizing<Vec<u8>>);

impl Body {
    /// Reads what is under `data`.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, BackendError> {
        #[derive(Deserialize)]
        struct Outer<T> {
            data: T,
        }
        let outer = serde_json::from_slice::<Outer<T>>(&self.0);
        let outer = outer.map_err(|e| malformed("the answer is not that of a key-value engine of version 2", &e))?;
        Ok(outer.data)
    }

    /// Reads what is under `auth`.
    pub(super) fn read_auth<T: DeserializeOwned>(&self) -> Result<T, BackendError> {
        #[derive(Deserialize)]
        struct Outer<T> {
            auth: T,
        }
        let outer = serde_json::from_slice::<Outer<T>>(&self.0);
        Ok(outer
            .map_err(|e| malformed("the answer to a login makes no sense", &e))?
            .auth)
    }
}

impl Wire {
    pub(super) fn new(settings: &VaultSettings) -> Result<Self, BackendError> {
        let bad = |why: String| BackendError::Malformed(why);
        let base = Url::parse(&settings.url).map_err(|e| bad(format!("its address {:?}: {e}", settings.url)))?;
        if !matches!(base.scheme(), "http" | "https") || base.password().is_some() || !base.username().is_empty() {
            return Err(bad(format!(
                "its address is `http://…` or `https://…` without a login, not {}://…",
                base.scheme()
            )));
        }
        let mut client = Client::builder()
            .timeout(settings.timeout)
            .connect_timeout(CONNECT_WITHIN)
            // A token must not follow wherever an answer points, nor pass through whatever proxy the environment names.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Some(path) = &settings.ca_file {
            let pem = std::fs::read(path).map_err(|e| bad(format!("certificates in {}: {e}", path.display())))?;
            let certificates = Certificate::from_pem_bundle(&pem);
            let certificates = certificates.map_err(|e| bad(format!("certificates in {}: {e}", path.display())))?;
            client = client.tls_certs_merge(certificates);
        }
        Ok(Self {
            client: client.build().map_err(|e| bad(chain(&e)))?,
            base,
            namespace: settings.namespace.clone(),
        })
    }

    /// The URL of a path below `/v1`.
    pub(super) fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Result<Url, BackendError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| BackendError::Malformed("its address cannot have a path".to_owned()))?
            .pop_if_empty()
            .push("v1")
            .extend(parts);
        Ok(url)
    }

    /// Sends a request, and takes its answer in if it is a good one.
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        token: Option<&str>,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Body, BackendError> {
        let mut request = self.client.request(method, url).header("X-Vault-Request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(token) = token {
            let value = reqwest::header::HeaderValue::from_str(token);
            let mut value =
                value.map_err(|_| BackendError::Denied("the token holds bytes that none can".to_owned()))?;
            value.set_sensitive(true);
            request = request.header("X-Vault-Token", value);
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_vec());
        }
        // Without the URL: it is long, and tells nothing that the caller does not.
        let unreachable = |e: reqwest::Error| BackendError::Unreachable(chain(&e.without_url()));
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let bytes = read_bounded(answer).await?;
        match status {
            StatusCode::OK => Ok(Body(bytes)),
            _ => Err(refusal(status, &bytes)),
        }
    }
}

async fn read_bounded(mut answer: Response) -> Result<Zeroizing<Vec<u8>>, BackendError> {
    let too_large = || BackendError::Malformed(format!("its answer has more than {ANSWER_BYTES_MAX} bytes"));
    let said = usize::try_from(answer.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
    if said > ANSWER_BYTES_MAX {
        return Err(too_large());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(said));
    loop {
        match answer.chunk().await {
            Ok(None) => return Ok(bytes),
            Ok(Some(chunk)) if bytes.len() + chunk.len() > ANSWER_BYTES_MAX => return Err(too_large()),
            Ok(Some(chunk)) => append(&mut bytes, &chunk),
            Err(e) => return Err(BackendError::Unreachable(chain(&e.without_url()))),
        }
    }
}

/// Appends without leaving a copy behind where the room has to grow.
fn append(bytes: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    if bytes.capacity() - bytes.len() < chunk.len() {
        let room = (bytes.len() + chunk.len()).next_power_of_two();
        let mut larger = Zeroizing::new(Vec::with_capacity(room));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
    bytes.extend_from_slice(chunk);
}

fn refusal(status: StatusCode, body: &[u8]) -> BackendError {
    #[derive(Deserialize, Default)]
    struct Errors {
        #[serde(default)]
        errors: Vec<String>,
    }
    let said = serde_json::from_slice::<Errors>(body)
        .unwrap_or_default()
        .errors
        .join("; ");
    let said: String = said.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
    let text = match said.is_empty() {
        true => format!("the server answers {}", status.as_u16()),
        false => format!("the server answers {}: {said}", status.as_u16()),
    };
    match status.as_u16() {
        404 => BackendError::NotFound("there is no such secret or version, or it was deleted".to_owned()),
        401 | 403 => BackendError::Denied(text),
        300..=399 => BackendError::Unreachable(format!(
            "{text} with a redirect, which a token does not follow; name the active server"
        )),
        412 | 429 | 472 | 473 | 500..=599 => BackendError::Unreachable(text),
        _ => BackendError::Malformed(text),
    }
}

/// An error with all its causes: that a connection was refused stands in the last of them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
