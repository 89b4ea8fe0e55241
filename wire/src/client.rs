//! Asking the scheduler: one typed call per verb, retried with the same request id.

use crate::chunk::{self, RequestError};
use crate::connect::{self, ConnectError, ConnectOptions, Link};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
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
/// How long a request that only reads waits for its answer before it is sent once more beside the first. Doubled each time.
const READ_BESIDE_AFTER: Duration = Duration::from_secs(4);
/// How many such requests wait for an answer at the same time.
const READS_MAX: usize = 8;

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

/// Asks within a time, and now and then once more beside: whoever was asked first may be gone with the question, and
/// whoever takes long over the answer goes on.
///
/// # Errors
/// The last one, once nobody is asked any more.
async fn first_answer<T, E, A>(within: Duration, ask: impl Fn(Duration) -> A) -> Result<T, E>
where
    A: Future<Output = Result<T, E>>,
{
    let started = Instant::now();
    let mut asked = FuturesUnordered::new();
    asked.push(ask(within));
    let mut pause = READ_BESIDE_AFTER;
    let mut beside = Box::pin(tokio::time::sleep(pause));
    loop {
        tokio::select! {
            Some(answer) = asked.next() => match answer {
                Err(_) if !asked.is_empty() => {}
                answer => return answer,
            },
            () = &mut beside, if asked.len() < READS_MAX => {
                pause = pause.saturating_mul(2);
                beside = Box::pin(tokio::time::sleep(pause));
                asked.push(ask(within.saturating_sub(started.elapsed())));
            }
        }
    }
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
            // What only reads may take as long as it likes: it is sent beside, and not again.
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
            let ask = |within| chunk::request(&self.link.client, subject, payload.clone(), within);
            let answer = match V::WRITES {
                true => ask(left).await,
                false => first_answer(left, ask).await,
            };
            let error = match answer {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const WITHIN: Duration = Duration::from_secs(15);

    /// Asks somebody who answers the question of each number after so many seconds, or who loses it.
    async fn asked(answers: &'static [Option<u64>]) -> (Result<usize, &'static str>, u64, usize) {
        let (count, started) = (AtomicUsize::new(0), Instant::now());
        let answer = first_answer(WITHIN, |within| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            async move {
                let answered = answers.get(number).copied().flatten().map(Duration::from_secs);
                match answered.filter(|takes| *takes < within) {
                    Some(Duration::ZERO) => Err("nobody listens"),
                    Some(takes) => {
                        tokio::time::sleep(takes).await;
                        Ok(number)
                    }
                    None => {
                        tokio::time::sleep(within).await;
                        Err("nothing came")
                    }
                }
            }
        });
        let answer = answer.await;
        (answer, started.elapsed().as_secs(), count.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_was_lost_is_asked_again() {
        assert_eq!(asked(&[None, Some(1)]).await, (Ok(1), 5, 2));
        assert_eq!(
            asked(&[None, Some(0), Some(1)]).await,
            (Ok(2), 13, 3),
            "nobody listened in between"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_takes_long_is_waited_for() {
        assert_eq!(asked(&[Some(10), Some(9)]).await, (Ok(0), 10, 2));
        assert_eq!(asked(&[Some(1)]).await, (Ok(0), 1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_answers_that_is_said_in_time() {
        assert_eq!(asked(&[]).await, (Err("nothing came"), 15, 3));
        assert_eq!(
            asked(&[Some(0)]).await,
            (Err("nobody listens"), 0, 1),
            "whoever asks may try again at once"
        );
    }
}
