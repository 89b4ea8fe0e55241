//! Pushing specs to hosts: the whole document, signed, repeated until the host's word agrees (D12).
//!
//! What each host should hold is derived from the world; what it does hold is in its heartbeats. The difference is all
//! that decides here. Lost, repeated and reordered pushes need no special case.
//!
//! A commit only says that some hosts' specs are in doubt ([`Pusher::doubt`]). They are worked out when it is their turn
//! to be pushed to, a few at a time, so that a commit that concerns ten thousand hosts keeps nobody else waiting, and
//! several commits in a row cost a host one push. Once a host holds its spec, only the digest of it is kept.

use crate::outside::{Around, Outside};
use crate::secret::{Need, Recipient, Sealing, SecretPool, needs_of};
use anyhow::Context as _;
use bytes::Bytes;
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
pub async fn push(outside: Around, key: std::sync::Arc<SigningKey>, secrets: SecretPool, push: Push) -> Pushed {
    let deliver = async |push| deliver(&*outside, &key, push).await.map_err(|e| format!("{e:#}"));
    carry(&secrets, push, deliver).await
}

pub(crate) async fn carry(
    pool: &SecretPool,
    mut push: Push,
    deliver: impl AsyncFnOnce(Push) -> Result<SpecAnswer, String>,
) -> Pushed {
    let to = Recipient {
        host: push.host.clone(),
        boot_id: push.spec.boot_id.clone(),
        seal_key: std::mem::take(&mut push.seal_key),
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
    Pushed {
        host: to.host,
        boot_id: to.boot_id,
        answer,
        secrets,
        held_back,
    }
}

async fn deliver(outside: &dyn Outside, key: &SigningKey, push: Push) -> anyhow::Result<SpecAnswer> {
    let subject = Subject::Host(push.spec.realm.clone(), push.host, HostVerb::Spec).to_string();
    let payload = envelope::to_bytes("spec", &push.spec)?;
    let sealed = Bytes::from(envelope::seal(Kind::Spec, &payload, key)?);
    let reply = outside.request(&subject, sealed, ANSWER_WITHIN).await?;
    envelope::read("answer to a spec", &reply.payload).context("failed to push a spec")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostId {
        HostId::parse("h").unwrap()
    }

    fn recipient() -> Recipient {
        Recipient {
            host: host(),
            boot_id: BootId::new("b"),
            seal_key: String::new(),
        }
    }

    fn body(count: u32) -> HostSpecBody {
        let unit = heddle_protocol::host_spec::Unit {
            workload: "w".parse().unwrap(),
            generation: heddle_protocol::id::Generation(1),
            template: Digest::of(b"t"),
            count,
        };
        HostSpecBody {
            units: vec![unit],
            ..HostSpecBody::default()
        }
    }

    fn due(pusher: &mut Pusher, accepted: Option<Accepted>, now: u64) -> Option<Version> {
        let realm = Realm::parse("r").unwrap();
        pusher
            .due(&realm, &recipient(), accepted, Mono(now))
            .map(|p| p.spec.version)
    }

    fn answer(pusher: &mut Pusher, answer: Result<SpecAnswer, String>, head: Version, now: u64) {
        pusher.note(
            &Pushed {
                host: host(),
                boot_id: BootId::new("b"),
                answer,
                secrets: Sealing::default(),
                held_back: false,
            },
            head,
            Mono(now),
            1.0,
        );
    }

    #[test]
    fn a_host_is_pushed_to_until_its_word_agrees() {
        let mut pusher = Pusher::default();
        let head = Version { epoch: 1, n: 7 };
        pusher.want(&host(), body(1), head).unwrap();
        assert_eq!(due(&mut pusher, None, 0), Some(head));
        assert_eq!(due(&mut pusher, None, 0), None, "one push at a time");
        answer(&mut pusher, Err("lost".into()), head, 0);
        assert_eq!(due(&mut pusher, None, 50), None, "not before the pause is over");
        assert_eq!(due(&mut pusher, None, 100), Some(head));
        let accepted = Accepted {
            version: head,
            digest: pusher.wanted_digest(&host()).unwrap(),
        };
        answer(&mut pusher, Ok(SpecAnswer::Accepted(accepted)), head, 100);
        assert_eq!(due(&mut pusher, Some(accepted), 200), None);
    }

    #[test]
    fn the_same_body_keeps_its_version_and_a_new_one_takes_the_heads() {
        let mut pusher = Pusher::default();
        pusher.want(&host(), body(1), Version { epoch: 1, n: 7 }).unwrap();
        pusher.want(&host(), body(1), Version { epoch: 1, n: 8 }).unwrap();
        assert_eq!(due(&mut pusher, None, 0), Some(Version { epoch: 1, n: 7 }));
        answer(&mut pusher, Err(String::new()), Version { epoch: 1, n: 8 }, 0);
        pusher.want(&host(), body(2), Version { epoch: 1, n: 9 }).unwrap();
        assert_eq!(due(&mut pusher, None, 0), Some(Version { epoch: 1, n: 9 }));
    }

    #[test]
    fn a_spec_that_changed_without_a_commit_waits_for_the_next_one() {
        let mut pusher = Pusher::default();
        let head = Version { epoch: 1, n: 7 };
        pusher.want(&host(), body(1), head).unwrap();
        let held = Accepted {
            version: head,
            digest: pusher.wanted_digest(&host()).unwrap(),
        };
        pusher.want(&host(), body(2), head).unwrap();
        assert_eq!(due(&mut pusher, Some(held), 0), Some(head));
        let refused = Pushed {
            host: host(),
            boot_id: BootId::new("b"),
            answer: Ok(SpecAnswer::Refused {
                reason: SpecRefusal::Older("1.7".into()),
                accepted: Some(held),
            }),
            secrets: Sealing::default(),
            held_back: false,
        };
        assert!(pusher.note(&refused, head, Mono(0), 1.0));
        assert!(pusher.needs_newer_head(&refused, head));
        let next = Version { epoch: 1, n: 8 };
        assert!(!pusher.needs_newer_head(&refused, next));
        assert_eq!(due(&mut pusher, Some(held), 100), Some(head));
        pusher.note(&refused, next, Mono(100), 1.0);
        assert_eq!(due(&mut pusher, Some(held), 1_000), Some(next));
    }

    #[test]
    fn an_agent_that_accepts_something_else_is_not_pushed_to_without_a_pause() {
        let mut pusher = Pusher::default();
        let head = Version { epoch: 1, n: 7 };
        pusher.want(&host(), body(1), head).unwrap();
        assert!(due(&mut pusher, None, 0).is_some());
        let other = Accepted {
            version: head,
            digest: Digest::of(b"other"),
        };
        answer(&mut pusher, Ok(SpecAnswer::Accepted(other)), head, 0);
        assert_eq!(due(&mut pusher, Some(other), 50), None);
        assert!(due(&mut pusher, Some(other), 200).is_some());
    }

    #[test]
    fn a_spec_in_doubt_is_worked_out_first_and_one_that_is_held_is_not_kept() {
        let mut pusher = Pusher::default();
        let (head, boot) = (Version { epoch: 1, n: 7 }, BootId::new("b"));
        pusher.doubt(&host());
        assert!(pusher.must_work_out(&host(), &boot, None));
        assert_eq!(pusher.wanted_digest(&host()), None);
        pusher.want(&host(), body(1), head).unwrap();
        assert!(!pusher.must_work_out(&host(), &boot, None));
        assert!(due(&mut pusher, None, 0).is_some());
        let digest = pusher.wanted_digest(&host()).unwrap();
        let held = Accepted { version: head, digest };
        answer(&mut pusher, Ok(SpecAnswer::Accepted(held)), head, 0);
        assert!(!pusher.may_be_due(&host(), &boot, Some(held), Mono(0)));
        assert!(!pusher.must_work_out(&host(), &boot, Some(held)));
        // Another start of it holds nothing.
        assert!(pusher.may_be_due(&host(), &boot, None, Mono(0)));
        assert!(pusher.must_work_out(&host(), &boot, None));
        pusher.want(&host(), body(1), Version { epoch: 1, n: 9 }).unwrap();
        assert_eq!(due(&mut pusher, None, 0), Some(head), "the same body keeps its version");
    }

    #[test]
    fn a_push_that_failed_is_due_again_after_its_pause_and_not_before() {
        let mut pusher = Pusher::default();
        let head = Version { epoch: 1, n: 7 };
        pusher.want(&host(), body(1), head).unwrap();
        assert!(due(&mut pusher, None, 0).is_some());
        answer(&mut pusher, Err("lost".into()), head, 0);
        assert!(pusher.retries(Mono(99)).is_empty());
        assert_eq!(pusher.retries(Mono(100)), [host()]);
        assert!(pusher.retries(Mono(100)).is_empty(), "it is told once");
    }

    #[test]
    fn every_host_has_its_turn_although_the_first_ones_always_want_one() {
        let mut agenda = Agenda::default();
        let id = |n: u32| HostId::parse(&format!("h-{n}")).unwrap();
        (0..5).for_each(|n| agenda.insert(id(n)));
        let mut seen = Vec::new();
        for _ in 0..10 {
            seen.extend(agenda.pop());
            agenda.insert(id(0));
            agenda.insert(id(1));
        }
        assert!((0..5).all(|n| seen.contains(&id(n))), "{seen:?}");
    }

    #[test]
    fn a_host_from_a_lost_future_gets_its_spec_signed_again() {
        let mut pusher = Pusher::default();
        pusher.want(&host(), body(1), Version { epoch: 1, n: 7 }).unwrap();
        let held = Accepted {
            version: Version { epoch: 1, n: 9 },
            digest: Digest::of(b"other"),
        };
        assert!(due(&mut pusher, Some(held), 0).is_some());
        let refused = SpecAnswer::Refused {
            reason: SpecRefusal::Older("1.9".into()),
            accepted: Some(held),
        };
        answer(&mut pusher, Ok(refused), Version { epoch: 2, n: 12 }, 0);
        assert_eq!(due(&mut pusher, Some(held), 1_000), Some(Version { epoch: 2, n: 12 }));
    }
}
