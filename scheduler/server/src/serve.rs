//! Takes API requests in: puts chunks together, checks the envelope and the right to ask, and hands each request to
//! what answers it. Reading verbs are answered at once from memory; writing verbs join the next commit.

pub mod audit;
pub mod fit;
pub mod logs;
pub mod read;
pub mod replay;
pub mod wait;
pub mod write;

use async_nats::Message;
use bytes::Bytes;
use heddle_protocol::api::{self, ApiError, ErrorCode, Request, Verb};
use heddle_protocol::digest::Digest;
use heddle_protocol::envelope::{self, Kind};
use heddle_protocol::id::{Namespace, RequestId};
use heddle_protocol::subject::Subject;
use heddle_scheduler_core::authorize::{Access, Asked, authorize};
use serde::de::DeserializeOwned;

/// Longest request id and actor, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// A request that may be answered.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Where the answer goes.
    pub reply: async_nats::Subject,
    /// The namespace that the subject names.
    pub namespace: Namespace,
    /// The verb.
    pub verb: String,
    /// The client's name for the request.
    pub request_id: RequestId,
    /// Who asks: what they say, and the key that signed, if one did.
    pub actor: String,
    /// The verb's body, not read yet.
    pub body: serde_json::Value,
    /// The digest of namespace, verb, body and attachment: the request id used again must come with the same.
    pub body_digest: Digest,
    /// The attachment.
    pub attachment: Bytes,
}

/// Reads a whole request. None means that nobody waits for an answer.
pub fn read_ask(
    message: &Message,
    payload: &Bytes,
    access: &Access,
) -> Option<Result<Ask, (async_nats::Subject, ApiError)>> {
    let reply = message.reply.clone()?;
    Some(read(message, payload, access, reply.clone()).map_err(|error| (reply, error)))
}

fn read(message: &Message, payload: &Bytes, access: &Access, reply: async_nats::Subject) -> Result<Ask, ApiError> {
    let bad = |e: &dyn std::fmt::Display| {
        ApiError::new(
            ErrorCode::BadRequest,
            format!("failed to read the request: {e}"),
            "update the client",
        )
    };
    let Some(Subject::Api(realm, namespace, verb)) = Subject::parse(&message.subject) else {
        return Err(bad(&format!(
            "its subject {:?} names no namespace and verb",
            message.subject.as_str()
        )));
    };
    let opened = envelope::open(payload).map_err(|e| bad(&e))?;
    let signer = check_signature(&opened)?;
    let (request, attachment): (Request, &[u8]) = api::split("request", opened.payload).map_err(|e| bad(&e))?;
    if request.v != api::VERSION {
        let why = format!("it has version {}, this scheduler speaks {}", request.v, api::VERSION);
        return Err(bad(&why));
    }
    if request.request_id.as_str().is_empty()
        || request.request_id.as_str().len() > NAME_BYTES_MAX
        || request.actor.len() > NAME_BYTES_MAX
    {
        return Err(bad(&format!(
            "a request id has 1 to {NAME_BYTES_MAX} bytes, and an actor at most as many"
        )));
    }
    // What is signed names where it is to count: a captured `plan` must not come back as an `apply`.
    if (&request.realm, &request.namespace, request.verb.as_str()) != (&realm, &namespace, verb.as_str()) {
        return Err(bad(&format!(
            "it is meant for {} in namespace {} of realm {}, not for the subject that it came on",
            request.verb, request.namespace, request.realm
        )));
    }
    let asked = Asked {
        actor: &request.actor,
        key: signer.as_deref(),
        verb: &verb,
        namespace: &namespace,
    };
    authorize(access, &asked)?;
    let actor = match signer {
        Some(key) => format!("{} ({key})", request.actor),
        None => request.actor,
    };
    let attachment = payload.slice_ref(attachment);
    let body_digest = digest_of(&namespace, &verb, &request.body, &attachment);
    Ok(Ask {
        reply,
        namespace,
        verb,
        request_id: request.request_id,
        actor,
        body: request.body,
        body_digest,
        attachment,
    })
}

/// A signature that is there must be good, whether one is needed or not.
fn check_signature(opened: &envelope::Envelope<'_>) -> Result<Option<String>, ApiError> {
    let Some(key) = &opened.key_id else { return Ok(None) };
    match opened.self_signed(Kind::Api) {
        Ok(_) => Ok(Some(key.clone())),
        Err(e) => Err(ApiError::new(
            ErrorCode::Forbidden,
            format!("failed to trust the request: {e}"),
            "send it again, signed by the key that it names",
        )),
    }
}

fn digest_of(namespace: &Namespace, verb: &str, body: &serde_json::Value, attachment: &[u8]) -> Digest {
    let mut bytes = format!("{namespace}.{verb}\0").into_bytes();
    // serde_json's maps are ordered, so equal bodies have equal bytes.
    bytes.extend(serde_json::to_vec(body).unwrap_or_default());
    bytes.push(0);
    bytes.extend_from_slice(Digest::of(attachment).as_bytes());
    Digest::of(&bytes)
}

impl Ask {
    /// The verb's body.
    pub fn body<V: Verb>(&self) -> Result<V, ApiError> {
        read_body(&self.body, V::NAME)
    }
}

fn read_body<T: DeserializeOwned>(body: &serde_json::Value, verb: &str) -> Result<T, ApiError> {
    T::deserialize(body).map_err(|e| {
        ApiError::new(
            ErrorCode::BadRequest,
            format!("failed to read the body of {verb}: {e}"),
            "update the client",
        )
    })
}

/// An answer as JSON, with nothing attached.
pub fn plain<T: serde::Serialize>(answer: &T) -> Result<(serde_json::Value, Bytes), ApiError> {
    match serde_json::to_value(answer) {
        Ok(value) => Ok((value, Bytes::new())),
        Err(e) => Err(ApiError::new(
            ErrorCode::Internal,
            format!("failed to write the answer: {e}"),
            "report this",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::sign::SigningKey;

    fn message(payload: Vec<u8>) -> (Message, Bytes) {
        let payload = Bytes::from(payload);
        let message = Message {
            subject: "heddle.v1.eu.api.shop.apply".into(),
            reply: Some("r".into()),
            payload: payload.clone(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        (message, payload)
    }

    fn request() -> Vec<u8> {
        let body = serde_json::json!({"a": 1});
        let request = Request {
            v: 1,
            request_id: RequestId::new("r-1"),
            realm: "eu".parse().unwrap(),
            verb: "apply".into(),
            namespace: "shop".parse().unwrap(),
            actor: "ann".into(),
            body,
        };
        api::join("request", &request, b"bytes").unwrap()
    }

    fn ask(payload: Vec<u8>, access: &Access) -> Result<Ask, ErrorCode> {
        let (message, payload) = message(payload);
        read_ask(&message, &payload, access).unwrap().map_err(|(_, e)| e.code)
    }

    #[test]
    fn a_signed_request_is_asked_for_and_checked() {
        let (key, other) = (SigningKey::generate(), SigningKey::generate());
        let trust = Access::Signed(std::collections::BTreeSet::from([key.public()]));
        let good = envelope::seal(Kind::Api, &request(), &key).unwrap();
        assert_eq!(ask(good, &trust).unwrap().actor, format!("ann ({})", key.public()));
        let foreign = envelope::seal(Kind::Api, &request(), &other).unwrap();
        assert_eq!(ask(foreign, &trust).unwrap_err(), ErrorCode::Forbidden);
        let unsigned = envelope::wrap_unsigned(Kind::Api, &request()).unwrap();
        assert_eq!(ask(unsigned.clone(), &trust).unwrap_err(), ErrorCode::Forbidden);
        let open = Access::Open;
        let read = ask(unsigned, &open).unwrap();
        assert_eq!((read.verb.as_str(), &read.attachment[..]), ("apply", &b"bytes"[..]));
    }

    #[test]
    fn one_body_for_two_verbs_or_namespaces_is_two_requests() {
        let digest = |namespace: &str, verb| {
            digest_of(
                &namespace.parse().unwrap(),
                verb,
                &serde_json::json!({"a": 1}),
                b"bytes",
            )
        };
        assert_eq!(digest("shop", "apply"), digest("shop", "apply"));
        assert_ne!(digest("shop", "apply"), digest("shop", "delete"));
        assert_ne!(digest("shop", "apply"), digest("other", "apply"));
    }

    #[test]
    fn a_captured_request_is_worth_nothing_on_another_subject() {
        let sealed = envelope::seal(Kind::Api, &request(), &SigningKey::generate()).unwrap();
        for subject in [
            "heddle.v1.eu.api.shop.delete",
            "heddle.v1.eu.api.bank.apply",
            "heddle.v1.us.api.shop.apply",
        ] {
            let (mut message, payload) = message(sealed.clone());
            message.subject = subject.into();
            let (_, error) = read_ask(&message, &payload, &Access::Open).unwrap().unwrap_err();
            assert_eq!(error.code, ErrorCode::BadRequest, "{subject}");
        }
    }

    #[test]
    fn garbage_is_refused_with_an_answer() {
        let trust = Access::Open;
        for bad in [&b""[..], b"{}\n{}", b"\n", &[0xff; 2000]] {
            assert_eq!(ask(bad.to_vec(), &trust).unwrap_err(), ErrorCode::BadRequest);
        }
    }
}
