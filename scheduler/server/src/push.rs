//! Pushing specs to hosts: the whole document, signed, repeated until the host's word agrees (D12). To a start of an agent
//! that took one before, its bytes go as a delta from that one; where that does not fit, the next push is whole again.
//!
//! What each host should hold is derived from the world; what it does hold is in its heartbeats. The difference is all
//! that decides here. Lost, repeated and reordered pushes need no special case.
//!
//! A commit only says that some hosts' specs are in doubt ([`Pusher::doubt`]). They are worked out when it is their turn
//! to be pushed to, a few at a time, so that a commit that concerns ten thousand hosts keeps nobody else waiting, and
//! several commits in a row cost a host one push. Once a host holds its spec, only its digest and its outline are kept.

#[cfg(test)]
mod tests;

use crate::outside::{Around, Outside};
use crate::secret::{Need, Recipient, Sealing, SecretPool, needs_of};
use anyhow::Context as _;
use bytes::Bytes;
use heddle_protocol::delta::Outline;
use heddle_protocol::digest::Digest;
use heddle_protocol::envelope::{self, Kind};
use heddle_protocol::host_report::{Accepted, SpecAnswer, SpecRefusal};
use heddle_protocol::host_spec::{HostSpec, HostSpecBody, SealedSecret, SecretUse};
use heddle_protocol::id::{BootId, HostId, Realm, Version};
use heddle_protocol::mutant::mutant;
use heddle_protocol::sign::SigningKey;
use heddle_protocol::subject::{HostVerb, Subject};
use heddle_protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// How long one push waits for its answer. An agent answers before it does any work.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long one push waits for the secrets that it is to carry. What comes later goes with the next one.
const SECRETS_WITHIN: Duration = Duration::from_secs(2);
/// The same after a push that waited in vain: what else the host is to run must not wait for a slow backend each time.
const SECRETS_AGAIN_WITHIN: Duration = Duration::from_millis(100);
/// Pause before a push that failed is repeated, in milliseconds, doubled each time up to the maximum.
const RETRY_MS: u64 = 100;
/// The longest such pause, in milliseconds.
const RETRY_MS_MAX: u64 = 5_000;
/// Pushes under way at the same time: bounds memory when a large fleet returns at once.
const IN_FLIGHT_MAX: usize = 500;

/// What every host should hold, and how far the pushes are.
#[derive(Debug, Default)]
pub struct Pusher {
    hosts: BTreeMap<HostId, Wanted>,
    /// Hosts whose spec may have changed since it was worked out.
    doubtful: BTreeSet<HostId>,
    /// Hosts whose last push failed, by when they are due again. Entries of an earlier failure may be left in it.
    retries: BTreeSet<(Mono, HostId)>,
    in_flight: usize,
}

/// Hosts to look at, each in its turn: those that always have something to say do not come before all others.
#[derive(Debug, Default)]
pub struct Agenda {
    hosts: BTreeSet<HostId>,
    last: Option<HostId>,
}

impl Agenda {
    /// Has a host looked at.
    pub fn insert(&mut self, host: HostId) {
        self.hosts.insert(host);
    }

    /// Takes the next one, round and round.
    pub fn pop(&mut self) -> Option<HostId> {
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.hosts.range((after, Bound::Unbounded)).next();
        let next = next.or_else(|| self.hosts.first()).cloned()?;
        self.hosts.remove(&next);
        self.last = Some(next.clone());
        Some(next)
    }
}

#[derive(Debug)]
struct Wanted {
    /// None once the host has all of it: it is worked out again if it is needed again.
    body: Option<HostSpecBody>,
    digest: Digest,
    version: Version,
    /// The digest of what is being pushed.
    in_flight: Option<Digest>,
    retry_at: Mono,
    failures: u32,
    /// The secrets that the body names.
    needs: BTreeMap<Digest, Need>,
    /// What the host was sent of them.
    sent: Option<Sent>,
    /// Whether some of them could not be had in time for the last push.
    lacking: bool,
    /// The document that a start of the host's agent took last, if it takes deltas.
    took: Option<(BootId, Arc<Outline>)>,
}

/// The secrets that one start of a host's agent was sent with one body, in which versions.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    boot_id: BootId,
    body: Digest,
    versions: BTreeMap<Digest, String>,
    complete: bool,
}

/// One push that is due.
#[derive(Debug)]
pub struct Push {
    /// The host.
    pub host: HostId,
    /// The spec, without its secrets.
    pub spec: HostSpec,
    /// The secrets that it is to carry.
    pub needs: BTreeMap<Digest, Need>,
    /// How long it waits for them.
    pub secrets_within: Duration,
    /// The public key that this start of the agent opens secrets with.
    pub seal_key: String,
    /// Where the host has all of this but some secrets, those that it has: it is only pushed to if there are more.
    pub has: Option<BTreeMap<Digest, String>>,
    /// Whether the host takes deltas.
    pub takes_deltas: bool,
    /// The document that it took last, if it does.
    pub delta_from: Option<Arc<Outline>>,
}

impl Push {
    /// The last push that a forgotten host gets: nothing to run, and nothing secret.
    pub fn farewell(host: HostId, spec: HostSpec) -> Self {
        Self {
            host,
            spec,
            needs: BTreeMap::new(),
            secrets_within: Duration::ZERO,
            seal_key: String::new(),
            has: None,
            takes_deltas: false,
            delta_from: None,
        }
    }
}

/// What came of a push.
#[derive(Debug)]
pub struct Pushed {
    /// The host.
    pub host: HostId,
    /// The start of its agent that was pushed to.
    pub boot_id: BootId,
    /// Its answer, or why there is none.
    pub answer: Result<SpecAnswer, String>,
    /// The document that it was sent, if it takes deltas.
    pub document: Option<Arc<Outline>>,
    /// Whether it was sent as a delta.
    pub as_delta: bool,
    /// The secrets that it carried, and those that it could not.
    pub secrets: Sealing,
    /// Whether nothing was sent, because there is no secret yet that the host does not have.
    pub held_back: bool,
}

impl Pusher {
    /// Takes in what a host should hold. Its version is that of the commit at which its body last changed.
    pub fn want(&mut self, host: &HostId, body: HostSpecBody, head: Version) -> Result<(), serde_json::Error> {
        let digest = body.digest()?;
        self.doubtful.remove(host);
        match self.hosts.get_mut(host) {
            Some(wanted) if wanted.digest == digest => wanted.body = Some(body),
            Some(wanted) => {
                wanted.needs = needs_of(&body);
                wanted.body = Some(body);
                wanted.digest = digest;
                if !mutant("spec-keeps-its-old-version") {
                    wanted.version = head;
                }
                wanted.retry_at = Mono::default();
                wanted.failures = 0;
            }
            None => {
                let fresh = Wanted {
                    needs: needs_of(&body),
                    sent: None,
                    lacking: false,
                    took: None,
                    body: Some(body),
                    digest,
                    version: head,
                    in_flight: None,
                    retry_at: Mono::default(),
                    failures: 0,
                };
                self.hosts.insert(host.clone(), fresh);
            }
        }
        Ok(())
    }

    /// Notes that what a host should hold may have changed: it is worked out again before it is pushed to.
    pub fn doubt(&mut self, host: &HostId) {
        if !self.doubtful.contains(host) {
            self.doubtful.insert(host.clone());
        }
    }

    /// Whether what a host should hold must be worked out before anything can be said of it.
    pub fn must_work_out(&self, to: &HostId, boot_id: &BootId, accepted: Option<Accepted>) -> bool {
        let gone = |wanted: &Wanted| wanted.body.is_none();
        self.doubtful.contains(to)
            || self.hosts.get(to).is_some_and(gone) && (self.is_behind(to, accepted) || self.lacks_secrets(to, boot_id))
    }

    /// Whether a host may be due for a push. Cheap: it is asked at every heartbeat.
    pub fn may_be_due(&self, host: &HostId, boot_id: &BootId, accepted: Option<Accepted>, now: Mono) -> bool {
        if self.doubtful.contains(host) {
            return true;
        }
        let waits = |wanted: &Wanted| wanted.in_flight.is_some() || now < wanted.retry_at;
        !self.hosts.get(host).is_none_or(waits) && (self.is_behind(host, accepted) || self.lacks_secrets(host, boot_id))
    }

    /// Forgets a host.
    pub fn forget(&mut self, host: &HostId) {
        self.doubtful.remove(host);
        if let Some(wanted) = self.hosts.remove(host) {
            self.in_flight -= usize::from(wanted.in_flight.is_some());
        }
    }

    /// The hosts that something is kept for.
    pub fn hosts(&self) -> impl Iterator<Item = &HostId> {
        self.hosts.keys().chain(&self.doubtful)
    }

    /// Whether one more push may be under way.
    pub fn has_room(&self) -> bool {
        self.in_flight < IN_FLIGHT_MAX
    }

    /// Whether a host refused its spec because it holds another one of the very version that the head has: what it
    /// should hold changed without a commit, and only the next commit gives that a version of its own.
    pub fn needs_newer_head(&self, pushed: &Pushed, head: Version) -> bool {
        let wanted = self.hosts.get(&pushed.host);
        match &pushed.answer {
            Ok(SpecAnswer::Refused {
                reason: SpecRefusal::Older(_),
                accepted: Some(accepted),
            }) if !self.doubtful.contains(&pushed.host) => {
                accepted.version == head && wanted.is_some_and(|w| w.digest != accepted.digest && w.version == head)
            }
            _ => false,
        }
    }

    /// The digest of what a host should hold; none if that is in doubt.
    pub fn wanted_digest(&self, host: &HostId) -> Option<Digest> {
        let known = self.hosts.get(host).filter(|_| !self.doubtful.contains(host));
        known.map(|w| w.digest)
    }

    /// Whether a host has a push under way or holds something else than it should.
    pub fn is_behind(&self, host: &HostId, accepted: Option<Accepted>) -> bool {
        self.hosts
            .get(host)
            .is_some_and(|w| accepted.is_none_or(|a| a.digest != w.digest))
    }

    /// The push that a host needs now, if it needs one. The caller knows that the host lives.
    pub fn due(&mut self, realm: &Realm, to: &Recipient, accepted: Option<Accepted>, now: Mono) -> Option<Push> {
        let (host, boot_id) = (&to.host, &to.boot_id);
        let is_behind = self.is_behind(host, accepted);
        if !self.has_room() || !(is_behind || self.lacks_secrets(host, boot_id)) {
            return None;
        }
        let wanted = self.hosts.get_mut(host)?;
        if wanted.in_flight.is_some() && !mutant("pushes-overtake-each-other") || now < wanted.retry_at {
            return None;
        }
        let sent = wanted
            .sent
            .as_ref()
            .filter(|sent| !is_behind && sent.is_of(boot_id, wanted.digest));
        let has = sent.map(|sent| sent.versions.clone());
        let body = wanted.body.clone()?;
        wanted.in_flight = Some(wanted.digest);
        self.in_flight += 1;
        let spec = HostSpec {
            realm: realm.clone(),
            host: host.clone(),
            boot_id: boot_id.clone(),
            version: wanted.version,
            body_digest: wanted.digest,
            body,
            secrets: BTreeMap::new(),
        };
        Some(Push {
            host: host.clone(),
            spec,
            needs: wanted.needs.clone(),
            secrets_within: match wanted.lacking {
                true => SECRETS_AGAIN_WITHIN,
                false => SECRETS_WITHIN,
            },
            seal_key: to.seal_key.clone(),
            has,
            takes_deltas: to.takes_deltas,
            delta_from: match &wanted.took {
                Some((boot, document)) if boot == boot_id && to.takes_deltas => Some(Arc::clone(document)),
                _ => None,
            },
        })
    }

    /// Whether this start of a host's agent was not sent all secrets of what it should hold. One that a scheduler before
    /// this one pushed to is sent them once more: what it was sent is not known.
    fn lacks_secrets(&self, host: &HostId, boot_id: &BootId) -> bool {
        self.hosts.get(host).is_some_and(|wanted| {
            let has_all = |sent: &Sent| sent.complete && sent.is_of(boot_id, wanted.digest);
            !wanted.needs.is_empty() && !wanted.sent.as_ref().is_some_and(has_all)
        })
    }

    /// The secrets that what hosts should hold names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretUse> {
        self.hosts
            .values()
            .flat_map(|wanted| wanted.needs.values().map(|need| &need.secret))
    }

    /// Takes the hosts that are due again because the pause after a push that failed is over.
    pub fn retries(&mut self, now: Mono) -> Vec<HostId> {
        let mut due = Vec::new();
        while let Some((at, _)) = self.retries.first()
            && *at <= now
            && let Some((_, host)) = self.retries.pop_first()
        {
            due.push(host);
        }
        due
    }

    /// Takes in what came of a push. Says whether it failed.
    pub fn note(&mut self, pushed: &Pushed, head: Version, now: Mono, jitter: f64) -> bool {
        let failed = self.note_outcome(pushed, head, now, jitter);
        if let Some(wanted) = self.hosts.get(&pushed.host).filter(|w| w.failures > 0) {
            self.retries.insert((wanted.retry_at, pushed.host.clone()));
        }
        failed
    }

    fn note_outcome(&mut self, pushed: &Pushed, head: Version, now: Mono, jitter: f64) -> bool {
        let Some(wanted) = self.hosts.get_mut(&pushed.host) else {
            return false;
        };
        let sent = wanted.in_flight.take();
        if sent.is_some() {
            self.in_flight -= 1;
        }
        wanted.lacking = !pushed.secrets.missing.is_empty();
        let document = pushed.document.clone();
        match &pushed.answer {
            Ok(SpecAnswer::Accepted(_)) => {
                wanted.took = document.map(|document| (pushed.boot_id.clone(), document));
            }
            _ if pushed.held_back => {}
            _ if mutant("a-delta-that-does-not-fit-is-repeated") => {}
            // Whether it has what it was sent, and kept that, is not known.
            _ => wanted.took = None,
        }
        // An agent that accepts something else than it was sent would otherwise be pushed to without a pause.
        if let Ok(SpecAnswer::Accepted(accepted)) = &pushed.answer
            && sent.is_none_or(|digest| digest == accepted.digest)
        {
            let complete = pushed.secrets.missing.is_empty();
            wanted.sent = Some(Sent::of(pushed, accepted.digest, complete));
            if complete {
                wanted.failures = 0;
                if accepted.digest == wanted.digest {
                    wanted.body = None;
                }
                return false;
            }
            // Not the host's fault, and its units that need nothing of it go on; but it is looked at again.
            wanted.pause(now, jitter);
            return false;
        }
        if pushed.held_back {
            wanted.pause(now, jitter);
            return false;
        }
        if let Ok(SpecAnswer::Refused {
            reason: SpecRefusal::NotKept(_),
            ..
        }) = &pushed.answer
            && pushed.as_delta
        {
            // It goes whole at once: nothing that it is a delta from is remembered any more.
            return false;
        }
        if let Ok(SpecAnswer::Refused {
            accepted: Some(accepted),
            ..
        }) = &pushed.answer
        {
            // A host that holds something newer than its version here (its records are from a lost future, say)
            // takes the spec again once that is signed with the present head.
            if accepted.version >= wanted.version && head > accepted.version {
                wanted.version = head;
            }
        }
        wanted.pause(now, jitter);
        true
    }
}

impl Wanted {
    fn pause(&mut self, now: Mono, jitter: f64) {
        let pause = match mutant("failed-push-is-not-repeated") {
            true => 86_400_000,
            false => (RETRY_MS << self.failures.min(6)).min(RETRY_MS_MAX),
        };
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now.plus((pause as f64 * (0.5 + jitter / 2.0)) as u64);
    }
}

impl Sent {
    fn of(pushed: &Pushed, body: Digest, complete: bool) -> Self {
        Self {
            boot_id: pushed.boot_id.clone(),
            body,
            versions: versions(&pushed.secrets.sealed),
            complete,
        }
    }

    fn is_of(&self, boot_id: &BootId, body: Digest) -> bool {
        self.boot_id == *boot_id && self.body == body
    }
}

fn versions(sealed: &BTreeMap<Digest, SealedSecret>) -> BTreeMap<Digest, String> {
    sealed
        .iter()
        .map(|(id, sealed)| (*id, sealed.version.clone()))
        .collect()
}

/// Adds what secrets can be had, signs a spec and hands it to its host.
pub async fn push(outside: Around, key: Arc<SigningKey>, secrets: SecretPool, push: Push) -> Pushed {
    let deliver = async |push| deliver(&*outside, &key, push).await.map_err(|e| format!("{e:#}"));
    carry(&secrets, push, deliver).await
}

/// A push that had an answer.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) answer: SpecAnswer,
    /// The document that was sent, if the host takes deltas.
    pub(crate) document: Option<Arc<Outline>>,
    pub(crate) as_delta: bool,
}

pub(crate) async fn carry(
    pool: &SecretPool,
    mut push: Push,
    deliver: impl AsyncFnOnce(Push) -> Result<Delivered, String>,
) -> Pushed {
    let to = Recipient {
        host: push.host.clone(),
        boot_id: push.spec.boot_id.clone(),
        seal_key: std::mem::take(&mut push.seal_key),
        takes_deltas: push.takes_deltas,
    };
    let secrets = match push.needs.is_empty() {
        true => Sealing::default(),
        false => pool.seal_for(&to, &push.needs, push.secrets_within).await,
    };
    let held_back =
        push.has.as_ref().is_some_and(|has| *has == versions(&secrets.sealed)) && !secrets.missing.is_empty();
    let answer = match held_back {
        true => Err("some of its secrets cannot be had yet".to_owned()),
        false => {
            push.spec.secrets = secrets.sealed.clone();
            deliver(push).await
        }
    };
    let (answer, document, as_delta) = match answer {
        Ok(delivered) => (Ok(delivered.answer), delivered.document, delivered.as_delta),
        Err(e) => (Err(e), None, false),
    };
    Pushed {
        host: to.host,
        boot_id: to.boot_id,
        answer,
        document,
        as_delta,
        secrets,
        held_back,
    }
}

async fn deliver(outside: &dyn Outside, key: &SigningKey, push: Push) -> anyhow::Result<Delivered> {
    let subject = Subject::Host(push.spec.realm.clone(), push.host, HostVerb::Spec).to_string();
    let payload = envelope::to_bytes("spec", &push.spec)?;
    let sealed = envelope::seal(Kind::Spec, &payload, key)?;
    let from = push.delta_from.as_ref();
    let delta = from.and_then(|from| envelope::as_delta(&sealed, from));
    let document = push.takes_deltas.then(|| Outline::of(&payload)).flatten();
    let document = document.map(Arc::new);
    let as_delta = delta.is_some();
    let sent = Bytes::from(delta.unwrap_or(sealed));
    let reply = outside.request(&subject, sent, ANSWER_WITHIN).await?;
    let answer = envelope::read("answer to a spec", &reply.payload).context("failed to push a spec")?;
    Ok(Delivered {
        answer,
        document,
        as_delta,
    })
}
