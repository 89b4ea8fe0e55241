//! The people: requests of the real API, asked again with the same id until there is a definite answer.
//!
//! In: what the scenario says they ask, and answers. Out: requests, and what became of each, for the checks.

use crate::agent::host_id;
use crate::net::{End, Event};
use crate::process::Commons;
use crate::scenario::{AskOf, Wish};
use bytes::Bytes;
use heddle_protocol::api::{self, ApiError, ErrorCode, Request, Response};
use heddle_protocol::digest::Digest;
use heddle_protocol::envelope::{self, Kind};
use heddle_protocol::id::{Namespace, RequestId};
use heddle_protocol::subject::Subject;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How long somebody waits before asking again, in milliseconds.
const PATIENCE_MS: u64 = 2_500;
/// Pause after an answer that says to try again, in milliseconds.
const AGAIN_MS: u64 = 400;

/// The workload that is only ever asked for with an id that was used before.
const REUSED: u32 = 99;

/// All that was asked.
pub struct People {
    images: Vec<Digest>,
    asked: BTreeMap<usize, Asked>,
}

/// One request.
pub struct Asked {
    /// Its id.
    pub id: RequestId,
    /// What is asked.
    pub what: AskOf,
    verb: &'static str,
    body: Value,
    attempt: u32,
    /// The definite answer.
    pub answer: Option<Result<Value, ApiError>>,
}

impl Asked {
    /// The names of the objects that an answer to it must be about.
    pub fn about(&self) -> String {
        match &self.what {
            AskOf::Apply(wish) => format!("default/w{}", wish.workload),
            AskOf::Delete(workload) | AskOf::Undo(workload) => format!("default/w{workload}"),
            AskOf::SetHost(host, _) | AskOf::Forget { host, .. } => host_id(*host).to_string(),
            AskOf::Platform(_) => "local".to_owned(),
            AskOf::ReusedId(_) => format!("default/w{REUSED}"),
            AskOf::Rebalance(_) | AskOf::Status => String::new(),
        }
    }
}

/// An answer that was new to whoever asked.
pub enum Heard<'a> {
    /// The first definite one.
    First(&'a Asked),
    /// A good one after a good one: both.
    Again(&'a Asked, Value),
    /// Nothing of interest.
    Nothing,
}

impl People {
    /// People who know these images.
    pub fn new(images: Vec<Digest>) -> Self {
        Self {
            images,
            asked: BTreeMap::new(),
        }
    }

    /// Asks for the first time or again.
    pub fn ask(&mut self, commons: &Commons, number: usize, what: &AskOf, attempt: u32) {
        if !self.asked.contains_key(&number) {
            let asked = self.request(number, what);
            commons.net.say(|| format!("somebody asks #{number}: {what:?}"));
            self.asked.insert(number, asked);
        }
        let Some(asked) = self.asked.get_mut(&number) else {
            return;
        };
        if asked.answer.is_some() || attempt < asked.attempt {
            return;
        }
        asked.attempt = attempt + 1;
        let request = Request {
            v: api::VERSION,
            request_id: asked.id.clone(),
            realm: commons.name.clone(),
            verb: asked.verb.to_owned(),
            namespace: Namespace::fallback(),
            actor: "somebody".to_owned(),
            body: asked.body.clone(),
        };
        let payload = api::join("request", &request, &[]).unwrap_or_default();
        let sealed = envelope::wrap_unsigned(Kind::Api, &payload).unwrap_or_default();
        let subject = Subject::Api(commons.name.clone(), Namespace::fallback(), asked.verb.to_owned());
        let reply = format!("_INBOX.c.{number}");
        commons
            .net
            .send(End::People, &subject.to_string(), Some(reply), sealed.into());
        let again = Event::Ask {
            number,
            attempt: attempt + 1,
        };
        commons.net.after(PATIENCE_MS, again);
    }

    /// Takes in an answer.
    pub fn hear(&mut self, commons: &Commons, subject: &str, payload: &Bytes) -> Heard<'_> {
        let number = subject.rsplit('.').next().and_then(|n| n.parse::<usize>().ok());
        let Some((number, asked)) = number.and_then(|n| Some((n, self.asked.get_mut(&n)?))) else {
            return Heard::Nothing;
        };
        let Ok((response, _)) = api::split::<Response>("response", payload) else {
            return Heard::Nothing;
        };
        let answer = match (response.ok, response.error) {
            (_, Some(error)) => Err(error),
            (ok, None) => Ok(ok.unwrap_or(Value::Null)),
        };
        match (&asked.answer, answer) {
            (Some(Ok(_)), Ok(answer)) => Heard::Again(asked, answer),
            (Some(_), _) => Heard::Nothing,
            (None, Err(error)) if matches!(error.code, ErrorCode::Unavailable | ErrorCode::Unknown) => {
                let attempt = asked.attempt;
                commons.net.after(AGAIN_MS, Event::Ask { number, attempt });
                Heard::Nothing
            }
            (None, answer) => {
                commons.net.say(|| match &answer {
                    Ok(value) => format!("#{number} is answered: {}", in_short(value)),
                    Err(e) => format!("#{number} is refused: {} {}", e.code.as_str(), e.message),
                });
                asked.answer = Some(answer);
                Heard::First(asked)
            }
        }
    }

    /// The requests that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.asked.values().filter(|asked| asked.answer.is_none()).count()
    }

    /// All requests.
    pub fn all(&self) -> impl Iterator<Item = &Asked> {
        self.asked.values()
    }

    fn request(&self, number: usize, what: &AskOf) -> Asked {
        let name = |workload: &u32| format!("default/w{workload}");
        let (verb, body) = match what {
            AskOf::Apply(wish) => ("apply", json!({ "documents": [self.manifest(wish)] })),
            AskOf::Delete(workload) => {
                let object = json!({ "kind": "Workload", "name": name(workload) });
                ("delete", json!({ "objects": [object] }))
            }
            AskOf::Undo(workload) => ("undo", json!({ "workload": name(workload) })),
            AskOf::SetHost(host, admin) => {
                let admin = ["open", "cordoned", "draining"][*admin as usize % 3];
                ("host-set", json!({ "host": host_id(*host), "admin": admin }))
            }
            AskOf::Forget { host, force } => ("host-forget", json!({ "host": host_id(*host), "force": force })),
            AskOf::Platform(form) => ("apply", json!({ "documents": [platform(*form)] })),
            AskOf::Rebalance(budget) => ("rebalance", json!({ "budget": budget })),
            AskOf::Status => ("status", json!({})),
            AskOf::ReusedId(_) => {
                let wish = Wish {
                    workload: REUSED,
                    replicas: Some(1),
                    image: 0,
                    zone: None,
                    spread: false,
                };
                ("apply", json!({ "documents": [self.manifest(&wish)] }))
            }
        };
        let id = match what {
            AskOf::ReusedId(of) => format!("request-{of}"),
            _ => format!("request-{number}"),
        };
        Asked {
            id: RequestId::new(id),
            what: what.clone(),
            verb,
            body,
            attempt: 0,
            answer: None,
        }
    }

    fn manifest(&self, wish: &Wish) -> Value {
        let name = format!("w{}", wish.workload);
        let image = self.images[wish.image as usize % self.images.len()];
        let mut spec = json!({
            "components": [{ "name": "main", "image": image.to_string() }],
            "triggers": [{ "http": { "capability": "web", "path": format!("/{name}") } }],
        });
        match wish.replicas {
            Some(replicas) => spec["replicas"] = replicas.into(),
            None => spec["daemon"] = true.into(),
        }
        if let Some(zone) = wish.zone {
            spec["placement"]["require"] = json!([{ "zone": { "in": [format!("z{zone}")] } }]);
        }
        if wish.spread && wish.replicas.is_some() {
            spec["placement"]["spread"] = json!([{ "by": "zone" }]);
        }
        json!({
            "apiVersion": "heddle.dev/v1",
            "kind": "Workload",
            "metadata": { "name": name, "namespace": "default" },
            "spec": spec,
        })
    }
}

fn platform(form: u32) -> Value {
    let mut capabilities = json!({ "web": { "http": { "listen": "127.0.0.1:8080" } } });
    match form {
        1 => capabilities["web"] = json!({ "http": { "listen": "127.0.0.1:9090" } }),
        2 => capabilities["kv"] = json!({ "keyvalue": { "memory": {} } }),
        _ => {}
    }
    json!({
        "apiVersion": "heddle.dev/v1",
        "kind": "Platform",
        "metadata": { "name": "local" },
        "spec": { "capabilities": capabilities },
    })
}

fn in_short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
