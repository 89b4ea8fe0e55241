//! Request ids and the answers they got (D6): a retry gets the first answer again, and has no second effect.

use heddle_protocol::defaults::REQUEST_ID_TTL_MS;
use heddle_protocol::digest::Digest;
use heddle_protocol::id::RequestId;
use heddle_protocol::record::AuditRecord;
use heddle_protocol::time::UnixMs;
use std::collections::{BTreeMap, VecDeque};

/// Ids remembered at most, whatever their age: about 100 MB.
const REQUESTS_MAX: usize = 200_000;

/// What a request id was used for.
#[derive(Debug, Clone, PartialEq)]
pub struct Remembered {
    /// The digest of the body.
    pub body_digest: Digest,
    /// The answer.
    pub result: serde_json::Value,
}

/// Every request id of the last day.
#[derive(Debug, Default)]
pub struct RequestMemory {
    by_id: BTreeMap<RequestId, Remembered>,
    by_age: VecDeque<(UnixMs, RequestId)>,
}

impl RequestMemory {
    /// What an id was used for.
    pub fn get(&self, id: &RequestId) -> Option<&Remembered> {
        self.by_id.get(id)
    }

    /// Remembers the requests that a commit answered.
    pub fn learn(&mut self, audit: &AuditRecord) {
        for request in &audit.requests {
            let remembered = Remembered {
                body_digest: request.body_digest,
                result: request.result.clone(),
            };
            if self.by_id.insert(request.request_id.clone(), remembered).is_none() {
                self.by_age.push_back((audit.at, request.request_id.clone()));
            }
        }
        self.forget_old(audit.at);
    }

    fn forget_old(&mut self, now: UnixMs) {
        while let Some((at, _)) = self.by_age.front() {
            if now.0.saturating_sub(at.0) < REQUEST_ID_TTL_MS && self.by_age.len() <= REQUESTS_MAX {
                break;
            }
            if let Some((_, id)) = self.by_age.pop_front() {
                self.by_id.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::record::AuditedRequest;

    fn audit(at: u64, id: &str) -> AuditRecord {
        AuditRecord {
            n: 1,
            epoch: 1,
            at: UnixMs(at),
            planner: String::new(),
            requests: vec![AuditedRequest {
                request_id: RequestId::new(id),
                actor: String::new(),
                verb: "apply".into(),
                body_digest: Digest::of(id.as_bytes()),
                result: serde_json::json!(at),
            }],
            facts: Vec::new(),
            changes: Vec::new(),
        }
    }

    #[test]
    fn an_id_is_remembered_for_a_day() {
        let mut memory = RequestMemory::default();
        memory.learn(&audit(0, "a"));
        memory.learn(&audit(REQUEST_ID_TTL_MS - 1, "b"));
        assert_eq!(
            memory.get(&RequestId::new("a")).map(|r| r.result.clone()),
            Some(serde_json::json!(0))
        );
        memory.learn(&audit(REQUEST_ID_TTL_MS, "c"));
        assert_eq!(memory.get(&RequestId::new("a")), None);
        assert!(memory.get(&RequestId::new("b")).is_some());
    }
}
