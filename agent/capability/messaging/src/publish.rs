//! What guests send. In: a message and what the capability lends. Out: the message on its way (NATS), or kept by the
//! stream (JetStream), or the reason why not, for the guest.

use crate::BODY_BYTES_MAX;
use crate::connection::Connection;
use crate::handler::BrokerMessage;
use crate::stream::StreamOffer;
use crate::subject::{self, Subjects};
use async_nats::Request;
use heddle_protocol::id::CapabilityName;
use std::sync::Arc;
use std::time::Duration;

/// How long sending may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a guest may wait for an answer at most; its own call's limit ends sooner as a rule.
const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// Sends for the guests of one capability.
pub(crate) struct Publisher {
    pub(crate) capability: CapabilityName,
    pub(crate) connection: Arc<Connection>,
    pub(crate) subjects: Arc<Subjects>,
    pub(crate) stream: Option<Arc<StreamOffer>>,
}

impl Publisher {
    /// Sends a message. An answer to the message that is being handled goes where that one asked for it.
    pub(crate) async fn publish(&self, message: BrokerMessage, is_answer: bool) -> Result<(), String> {
        let to_inbox = is_answer && message.subject.starts_with("_INBOX") && subject::is_literal(&message.subject);
        if !to_inbox {
            self.check(&message.subject)?;
        }
        if let Some(reply_to) = &message.reply_to {
            // An answer is sent by somebody else: it must not be led to where this guest may not send.
            self.check(reply_to)?;
        }
        self.check_body(&message.body)?;
        let sent = tokio::time::timeout(SEND_TIMEOUT, self.send(message, to_inbox)).await;
        let sent = sent.unwrap_or_else(|_| Err(format!("NATS did not take it within {SEND_TIMEOUT:?}")));
        sent.map_err(|why| self.failed("publish", &why))
    }

    async fn send(&self, message: BrokerMessage, to_inbox: bool) -> Result<(), String> {
        let BrokerMessage {
            subject,
            body,
            reply_to,
        } = message;
        let link = self.connection.link().await.map_err(|e| e.to_string())?;
        match &self.stream {
            Some(stream) if !to_inbox => {
                let context = stream.ensure(&link).await?;
                let kept = context.publish(subject, body.into()).await.map_err(|e| e.to_string())?;
                match kept.await {
                    Ok(_) => Ok(()),
                    Err(e) => {
                        stream.doubt().await;
                        Err(e.to_string())
                    }
                }
            }
            _ => {
                let client = &link.client;
                let sent = match reply_to {
                    Some(reply_to) => client.publish_with_reply(subject, reply_to, body.into()).await,
                    None => client.publish(subject, body.into()).await,
                };
                sent.map_err(|e| e.to_string())?;
                client.flush().await.map_err(|e| e.to_string())
            }
        }
    }

    /// Sends a message and waits for its answer.
    pub(crate) async fn request(
        &self,
        subject: String,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<BrokerMessage, String> {
        self.check(&subject)?;
        self.check_body(&body)?;
        let timeout = timeout.min(REQUEST_TIMEOUT_MAX);
        let asked = async {
            let link = self.connection.link().await.map_err(|e| e.to_string())?;
            let request = Request::new().payload(body.into()).timeout(Some(timeout));
            let answer = link.client.send_request(subject, request).await;
            answer.map_err(|e| e.to_string())
        };
        let answer = tokio::time::timeout(timeout, asked).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("nobody answered within {timeout:?}")));
        let answer = answer.map_err(|why| self.failed("request", &why))?;
        if answer.payload.len() > BODY_BYTES_MAX {
            return Err(self.failed("request", &format!("the answer has more than {BODY_BYTES_MAX} bytes")));
        }
        Ok(BrokerMessage {
            subject: answer.subject.to_string(),
            body: answer.payload.to_vec(),
            reply_to: None,
        })
    }

    fn check(&self, subject: &str) -> Result<(), String> {
        let checked = self.subjects.check_sent(subject);
        checked.map_err(|why| self.failed("send", &why))
    }

    fn check_body(&self, body: &[u8]) -> Result<(), String> {
        match body.len() > BODY_BYTES_MAX {
            true => {
                let why = format!(
                    "a message has at most {BODY_BYTES_MAX} bytes, and this one {}",
                    body.len()
                );
                Err(self.failed("send", &why))
            }
            false => Ok(()),
        }
    }

    fn failed(&self, what: &str, why: &str) -> String {
        format!("failed to {what} through {}: {why}", self.capability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher() -> Publisher {
        let capability = CapabilityName::parse("events").unwrap();
        Publisher {
            // Nobody listens there: what is refused is refused before anybody is asked.
            connection: Arc::new(Connection::new(&capability, "nats://127.0.0.1:1", None)),
            capability,
            subjects: Arc::new(Subjects::new(&["orders.>".to_owned(), "_INBOX.>".to_owned()]).unwrap()),
            stream: None,
        }
    }

    fn message(subject: &str, reply_to: Option<&str>) -> BrokerMessage {
        BrokerMessage {
            subject: subject.to_owned(),
            body: Vec::new(),
            reply_to: reply_to.map(ToOwned::to_owned),
        }
    }

    #[tokio::test]
    async fn what_is_not_lent_is_refused_before_anything_is_sent() {
        let publisher = publisher();
        for subject in [
            "payments.new",
            "heddle.v1.eu.hb.h",
            "$JS.API.INFO",
            "_INBOX.x",
            "orders.*",
        ] {
            let why = publisher.publish(message(subject, None), false).await.unwrap_err();
            assert!(!why.contains("connect"), "{why}");
            let why = publisher
                .request(subject.to_owned(), Vec::new(), SEND_TIMEOUT)
                .await
                .unwrap_err();
            assert!(!why.contains("connect"), "{why}");
            let asked = message("orders.new", Some(subject));
            assert!(!publisher.publish(asked, false).await.unwrap_err().contains("connect"));
        }
        let large = BrokerMessage {
            body: vec![0; BODY_BYTES_MAX + 1],
            ..message("orders.new", None)
        };
        assert!(publisher.publish(large, false).await.unwrap_err().contains("at most"));
    }

    #[tokio::test]
    async fn an_answer_goes_to_an_inbox_and_to_nothing_else_that_is_reserved() {
        let publisher = publisher();
        let why = publisher.publish(message("_INBOX.x.1", None), true).await.unwrap_err();
        assert!(why.contains("connect"), "{why}");
        for reserved in ["heddle.v1.eu.hb.h", "$JS.API.INFO", "_INBOX.*"] {
            let why = publisher.publish(message(reserved, None), true).await.unwrap_err();
            assert!(!why.contains("connect"), "{why}");
        }
    }
}
