//! Asking the scheduler: one typed call per verb, retried with the same request id.

use crate::chunk::{self, RequestError};
use crate::connect::{self, ConnectError, ConnectOptions, Link};
use bytes::Bytes;
use heddle_protocol::api::{self, ApiError, Request, Response, Verb};
use heddle_protocol::defaults::MESSAGE_BYTES_MAX;
use heddle_protocol::envelope::{self, Kind};
use heddle_protocol::error::ProtocolError;
use heddle_protocol::id::{Namespace, Realm, RequestId};
use heddle_protocol::sign::SigningKey;
use heddle_protocol::subject::Subject;
use rand::Rng as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a request that writes waits for its answer before it is sent again: the scheduler that took it may be gone,
/// and the one after it answers within seconds. Doubled each time, for what takes long.
const WRITE_AGAIN_AFTER: Duration = Duration::from_secs(4);

/// How the client asks.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Where NATS is.
    pub connect: ConnectOptions,
    /// The realm to ask.
    pub realm: Realm,
    /// Who asks, for the audit record.
    pub actor: String,
    /// Signs the requests, if there is a key.
    pub signer: Option<Arc<SigningKey>>,
    /// How long to go on asking before giving up.
    pub patience: Duration,
}

/// A client of one realm.
#[derive(Debug, Clone)]
pub struct Client {
    link: Link,
    options: Arc<ClientOptions>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// NATS cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The scheduler refused, and says why.
    #[error("{0}")]
    Api(ApiError),
    /// No scheduler of this realm answers; nothing was changed.
    #[error("failed to reach a scheduler of realm {realm}: {why}")]
    Unreachable {
        /// The realm.
        realm: Realm,
        /// Why.
        why: String,
    },
    /// Something answered late or not at all, and whether the change was made is not known.
    #[error("the outcome of request {request_id} is unknown: {why}")]
    Unknown {
        /// Asking again with this id tells.
        request_id: RequestId,
        /// Why.
        why: String,
    },
    /// A message cannot be written or read.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

impl Client {
    /// Connects to NATS.
    pub async fn connect(options: ClientOptions) -> Result<Self, ClientError> {
        let link = connect::connect(&options.connect).await?;
        Ok(Self {
            link,
            options: Arc::new(options),
        })
    }

    /// The NATS connection.
    pub fn nats(&self) -> &async_nats::Client {
        &self.link.client
    }

    /// The realm that is asked.
    pub fn realm(&self) -> &Realm {
        &self.options.realm
    }

    /// Asks, and waits for the answer and its attachment.
    pub async fn ask<V: Verb>(
        &self,
        namespace: &Namespace,
        body: &V,
        attachment: &[u8],
    ) -> Result<(V::Answer, Bytes), ClientError> {
        self.ask_as(
            &RequestId::new(uuid::Uuid::now_v7().to_string()),
            namespace,
            body,
            attachment,
        )
        .await
    }

    /// Asks with a request id that the caller chose: asked again, it has one effect.
    pub async fn ask_as<V: Verb>(
        &self,
        request_id: &RequestId,
        namespace: &Namespace,
        body: &V,
        attachment: &[u8],
    ) -> Result<(V::Answer, Bytes), ClientError> {
        let body = serde_json::to_value(body).map_err(|source| ProtocolError::Json {
            what: "request body",
            source,
        })?;
        let request = Request {
            v: api::VERSION,
            request_id: request_id.clone(),
            realm: self.options.realm.clone(),
            verb: V::NAME.to_owned(),
            namespace: namespace.clone(),
            actor: self.options.actor.clone(),
            body,
        };
        let payload = api::join("request", &request, attachment)?;
        let sealed = match &self.options.signer {
            Some(key) => envelope::seal(Kind::Api, &payload, key)?,
            None => envelope::wrap_unsigned(Kind::Api, &payload)?,
        };
        let subject = Subject::Api(self.options.realm.clone(), namespace.clone(), V::NAME.to_owned()).to_string();
        let reply = self.deliver::<V>(request_id, &subject, sealed.into()).await?;
        let (response, _): (Response, _) = api::split("response", &reply.payload)?;
        let head_end = reply
            .payload
            .iter()
            .position(|b| *b == b'\n')
            .map_or(reply.payload.len(), |end| end + 1);
        match (response.ok, response.error) {
            (Some(ok), None) => {
                let answer =
                    serde_json::from_value(ok).map_err(|source| ProtocolError::Json { what: "answer", source })?;
                Ok((answer, reply.payload.slice(head_end..)))
            }
            (_, Some(error)) if error.code == api::ErrorCode::Unknown => Err(ClientError::Unknown {
                request_id: request_id.clone(),
                why: error.message,
            }),
            (_, Some(error)) => Err(ClientError::Api(error)),
            (None, None) => Err(ProtocolError::Frame {
                what: "response",
                why: "it holds neither an answer nor an error".to_owned(),
            }
            .into()),
        }
    }

    /// Sends until somebody answers or patience ends. The request id makes sending again harmless.
    async fn deliver<V: Verb>(
        &self,
        request_id: &RequestId,
        subject: &str,
        payload: Bytes,
    ) -> Result<async_nats::Message, ClientError> {
        let started = Instant::now();
        let (mut pause, mut may_have_landed) = (Duration::from_millis(50), false);
        let mut again_after = match (V::WRITES, payload.len() <= MESSAGE_BYTES_MAX) {
            (true, true) => WRITE_AGAIN_AFTER,
            // It takes a while to send, and as long to send again.
            (true, false) => WRITE_AGAIN_AFTER.max(self.options.patience / 2),
            // What only reads may take as long as it likes, and would begin anew.
            (false, _) => Duration::MAX,
        };
        loop {
            let left = self
                .options
                .patience
                .saturating_sub(started.elapsed())
                .max(Duration::from_millis(100))
                .min(again_after);
            again_after = again_after.saturating_mul(2);
            let error = match chunk::request(&self.link.client, subject, payload.clone(), left).await {
                Ok(reply) => return Ok(reply),
                Err(RequestError::NoResponders(_)) => "no scheduler listens; is one running?".to_owned(),
                Err(e) => {
                    may_have_landed = true;
                    e.to_string()
                }
            };
            if started.elapsed() + pause >= self.options.patience {
                return Err(match V::WRITES && may_have_landed {
                    true => ClientError::Unknown {
                        request_id: request_id.clone(),
                        why: error,
                    },
                    false => ClientError::Unreachable {
                        realm: self.options.realm.clone(),
                        why: error,
                    },
                });
            }
            // The generator is this thread's own, and must be gone before the task may move to another one.
            let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::time::sleep(jittered).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}
