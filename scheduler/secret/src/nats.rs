//! Secrets from another process over NATS, in the protocol that wasmCloud's backends of secrets speak (`v1alpha1`): such a
//! backend serves a scheduler unchanged.
//!
//! A request is sealed to the backend's xkey, and its answer to an xkey made for that request alone. The backend's key is
//! asked of whoever answers first, unless the settings pin it. The scheduler signs who asks: a component's token in the
//! workload's name and a host's token in its own.

mod wire;

use crate::backend::{Ask, Backend, BackendError, Secret};
use crate::config::entity_key;
use crate::jwt;
use async_nats::{Client, HeaderMap, RequestErrorKind};
use async_trait::async_trait;
use heddle_protocol::digest::Digest;
use heddle_protocol::id::Realm;
use nkeys::{KeyPair, KeyPairType, XKey};
use serde_json::json;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;
use wire::{Application, Context, Refusal, Request};

/// The header with the asker's key.
const HOST_XKEY: &str = "WasmCloud-Host-Xkey";
/// The header with the key that an answer is sealed with.
const RESPONSE_XKEY: &str = "Server-Response-Xkey";
/// The version of the protocol.
const API: &str = "v1alpha1";
/// What every subject begins with, unless the settings say otherwise.
const PREFIX: &str = "wasmcloud.secrets";
/// How long a token that names the asker is good for, in seconds.
const TOKEN_LIFE_S: u64 = 300;
/// The largest answer, in bytes: a value may come as a list of numbers.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Which backend, and how far it is trusted.
pub struct NatsSettings {
    /// The realm that asks.
    pub realm: Realm,
    /// What its subjects begin with; none is `wasmcloud.secrets`.
    pub prefix: Option<String>,
    /// Its name, as it stands in its subjects.
    pub backend: String,
    /// Its public xkey. Without one, whoever answers first is taken for it.
    pub server_xkey: Option<String>,
    /// Whether answers must be sealed with the pinned key. The published backends use a new key for each answer.
    pub same_reply_key: bool,
    /// The key that signs who asks; none makes one for this start.
    pub signing_key: Option<KeyPair>,
    /// What the backend's own rules need to know, such as the name of a role.
    pub policy: serde_json::Map<String, serde_json::Value>,
    /// How long one request may take.
    pub timeout: Duration,
}

/// A backend behind NATS.
pub struct NatsBackend {
    client: Client,
    settings: NatsSettings,
    issuer: KeyPair,
    /// The backend's key, once it said it.
    learned: Mutex<Option<XKey>>,
}

impl fmt::Debug for NatsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBackend")
            .field("backend", &self.settings.backend)
            .field("pinned", &self.settings.server_xkey)
            .finish_non_exhaustive()
    }
}

/// What came of one request.
enum Answered {
    Secret(Secret),
    Refused(Refusal),
}

impl NatsBackend {
    /// A backend; nothing is asked of it yet.
    ///
    /// # Errors
    /// When its name or a key makes no sense.
    pub fn new(client: Client, mut settings: NatsSettings) -> Result<Self, BackendError> {
        let bad = |what: &str| BackendError::Malformed(what.to_owned());
        let token =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if !token(&settings.backend) || !settings.prefix.iter().all(|prefix| prefix.split('.').all(token)) {
            return Err(bad("its name and subjects are made of letters, digits, `-` and `_`"));
        }
        if let Some(key) = &settings.server_xkey {
            XKey::from_public_key(key).map_err(|_| bad("its key is no public xkey (X…)"))?;
        }
        if settings.same_reply_key && settings.server_xkey.is_none() {
            return Err(bad(
                "answers can only have to be sealed with its key when that is pinned",
            ));
        }
        let issuer = settings.signing_key.take().unwrap_or_else(KeyPair::new_account);
        if issuer.key_pair_type() != KeyPairType::Account {
            return Err(bad("the key that signs who asks is no account key (SA…)"));
        }
        Ok(Self {
            client,
            settings,
            issuer,
            learned: Mutex::new(None),
        })
    }

    fn subject(&self, verb: &str) -> String {
        let prefix = self.settings.prefix.as_deref().unwrap_or(PREFIX);
        format!("{prefix}.{API}.{}.{verb}", self.settings.backend)
    }

    async fn server_key(&self) -> Result<XKey, BackendError> {
        let read = |text: &str| {
            XKey::from_public_key(text)
                .map_err(|_| BackendError::Malformed("it names a key that is no xkey".to_owned()))
        };
        if let Some(pinned) = &self.settings.server_xkey {
            return read(pinned);
        }
        if let Some(learned) = self.learned().clone() {
            return Ok(learned);
        }
        let answer = self.request("server_xkey", HeaderMap::new(), Vec::new()).await?;
        let key = read(std::str::from_utf8(&answer.payload).unwrap_or_default().trim())?;
        *self.learned() = Some(key.clone());
        Ok(key)
    }

    fn learned(&self) -> std::sync::MutexGuard<'_, Option<XKey>> {
        self.learned.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn request(
        &self,
        verb: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<async_nats::Message, BackendError> {
        let request = async_nats::Request::new()
            .headers(headers)
            .payload(body.into())
            .timeout(Some(self.settings.timeout));
        let answer = self.client.send_request(self.subject(verb), request).await;
        let answer = answer.map_err(|e| match e.kind() {
            RequestErrorKind::NoResponders => BackendError::Unreachable("nobody answers for this backend".to_owned()),
            _ => BackendError::Unreachable(e.to_string()),
        })?;
        match answer.payload.len() > ANSWER_BYTES_MAX {
            true => Err(BackendError::Malformed(format!(
                "its answer has more than {ANSWER_BYTES_MAX} bytes"
            ))),
            false => Ok(answer),
        }
    }

    async fn exchange(&self, ask: &Ask) -> Result<Answered, BackendError> {
        let server = self.server_key().await?;
        let own = XKey::new();
        let failed = |what: &str| BackendError::Malformed(what.to_owned());
        let body = wire::write(&self.ask_of(ask)?)?;
        let sealed = own
            .seal(&body, &server)
            .map_err(|_| failed("the request cannot be sealed"))?;
        let mut headers = HeaderMap::new();
        headers.insert(HOST_XKEY, own.public_key().as_str());
        let answer = self.request("get", headers, sealed).await?;
        let Some(key) = answer.headers.as_ref().and_then(|headers| headers.get(RESPONSE_XKEY)) else {
            // Only refusals come open: a value that does is not taken.
            return Ok(Answered::Refused(wire::read_refusal(&answer.payload)?));
        };
        if self.settings.same_reply_key && key.as_str() != server.public_key() {
            return Err(failed("its answer is sealed with another key than the pinned one"));
        }
        let key = XKey::from_public_key(key.as_str()).map_err(|_| failed("its answer names no xkey"))?;
        let opened = own.open(&answer.payload, &key);
        let opened = zeroize::Zeroizing::new(opened.map_err(|_| failed("its answer was not sealed to this request"))?);
        wire::read_answer(&opened, ask).map(|answer| match answer {
            Ok(secret) => Answered::Secret(secret),
            Err(refusal) => Answered::Refused(refusal),
        })
    }

    fn ask_of(&self, ask: &Ask) -> Result<Request, BackendError> {
        let tokens = self.tokens(ask);
        let (entity_jwt, host_jwt) =
            tokens.map_err(|e| BackendError::Malformed(format!("no token can be signed: {e}")))?;
        let policy = json!({
            "type": "properties.secret.wasmcloud.dev/v1alpha1",
            "properties": self.settings.policy,
        });
        Ok(Request {
            key: ask.path.clone(),
            field: ask.field.clone(),
            version: ask.version.clone(),
            context: Context {
                entity_jwt,
                host_jwt,
                application: Application {
                    name: ask.workload.as_ref().map(ToString::to_string),
                    policy: policy.to_string(),
                },
            },
        })
    }

    /// Who asks, as hosts of wasmCloud would say it: a component and a host, both signed by this scheduler's account.
    fn tokens(&self, ask: &Ask) -> Result<(String, String), String> {
        let realm = &self.settings.realm;
        let entity = entity_key(realm, ask.workload.as_ref())?;
        let name = ask
            .workload
            .as_ref()
            .map_or_else(|| "platform".to_owned(), ToString::to_string);
        let component = json!({
            "name": name, "hash": Digest::of(name.as_bytes()).hex().to_uppercase(), "tags": [], "caps": [],
            "rev": 0, "ver": env!("CARGO_PKG_VERSION"), "prov": false,
        });
        let host = Digest::of(format!("heddle/v1/host\0{realm}").as_bytes());
        let host = KeyPair::new_from_raw(KeyPairType::Server, *host.as_bytes()).map_err(|e| e.to_string())?;
        let labels = json!({ "name": format!("heddle-scheduler-{realm}"), "labels": { "heddle.dev/realm": realm } });
        Ok((
            self.token(&entity.public_key(), &component)?,
            self.token(&host.public_key(), &labels)?,
        ))
    }

    fn token(&self, subject: &str, metadata: &serde_json::Value) -> Result<String, String> {
        let now = jwt::now();
        let claims = json!({
            "exp": now + TOKEN_LIFE_S, "jti": format!("{:032x}", rand::random::<u128>()), "iat": now,
            "iss": self.issuer.public_key(), "sub": subject, "wascap": metadata, "wascap_revision": 3,
        });
        jwt::sign(&json!({ "typ": "jwt", "alg": "Ed25519" }), &claims, &self.issuer)
    }
}

#[async_trait]
impl Backend for NatsBackend {
    async fn get(&self, ask: &Ask) -> Result<Secret, BackendError> {
        match self.exchange(ask).await? {
            Answered::Secret(secret) => Ok(secret),
            // It was started again, with another key: that is asked for once more.
            Answered::Refused(refusal) if refusal.is_about_keys() && self.learned().take().is_some() => {
                match self.exchange(ask).await? {
                    Answered::Secret(secret) => Ok(secret),
                    Answered::Refused(refusal) => Err(refusal.into()),
                }
            }
            Answered::Refused(refusal) => Err(refusal.into()),
        }
    }

    /// The protocol has no word for it: the newest value says which version it is.
    async fn newest(&self, ask: &Ask) -> Result<String, BackendError> {
        let ask = Ask {
            version: None,
            ..ask.clone()
        };
        self.get(&ask).await.map(|secret| secret.version)
    }
}
