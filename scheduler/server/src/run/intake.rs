//! Messages on their way in: hellos, heartbeats, status messages and API requests.

use super::commit::UnderWay;
use super::{Done, Resolved, Scheduler};
use crate::change::{self, Asker, Change, Preview, Queued};
use crate::find_out;
use crate::health::Metrics;
use crate::outbox::clip;
use crate::outside::{Outside, Source};
use crate::planned::digest_of;
use crate::serve::{self, Ask, plain, read, write};
use async_nats::Message;
use bytes::Bytes;
use heddle_protocol::api::apply::{Apply, Plan};
use heddle_protocol::api::artifact::{ArtifactGet, ArtifactHas, ArtifactPut};
use heddle_protocol::api::audit::Audit;
use heddle_protocol::api::events::Events;
use heddle_protocol::api::explain::Explain;
use heddle_protocol::api::hosts::{ForgetHost, Hosts, MakeJoinToken, SetHost, TaintHost};
use heddle_protocol::api::logs::Logs;
use heddle_protocol::api::objects::{Delete, Get, Undo};
use heddle_protocol::api::realm::{Backup, Info, RealmInfo, Restore};
use heddle_protocol::api::rebalance::Rebalance;
use heddle_protocol::api::replay::Replay;
use heddle_protocol::api::status::{Status, Wait};
use heddle_protocol::api::{ApiError, ErrorCode, Verb};
use heddle_protocol::envelope::{self, Kind};
use heddle_protocol::host_report::{Heartbeat, Hello, HelloAnswer, HostReport};
use heddle_protocol::id::HostId;
use heddle_protocol::mutant::mutant;
use heddle_protocol::subject::{HostVerb, Subject};
use heddle_scheduler_core::{Fact, Known, Needed};
use heddle_wire::chunk::Received;
use std::sync::Arc;
use std::time::Duration;

/// Hosts that are asked for all that they run at the same time.
const ASKED_MAX: usize = 500;
/// How long a host may take to say all that it runs.
const REPORT_WITHIN: Duration = Duration::from_secs(2);
/// Longest hello, in bytes. Real ones have one or two thousand; what a host says of itself stands in lists.
const HELLO_BYTES_MAX: usize = 64 << 10;
/// Longest reason that a host gives for anything, in bytes.
const REASON_BYTES_MAX: usize = 500;
/// Requests being worked out at the same time; more are refused.
const UNDER_WAY_MAX: usize = 8_192;
/// Attached bytes of all of them: eight of the largest artifacts.
const UNDER_WAY_BYTES_MAX: usize = 512 << 20;

type Answer = Result<(serde_json::Value, Bytes), ApiError>;

impl Scheduler {
    pub(super) fn take_message(&mut self, source: Source, message: Message) {
        match source {
            Source::Heartbeat => self.take_heartbeat(&message),
            Source::Status => self.take_status(&message),
            Source::Hello => self.take_hello(message),
            Source::Api => self.take_api(message),
        }
    }

    fn take_heartbeat(&mut self, message: &Message) {
        let Some(Subject::Heartbeat(_, host)) = Subject::parse(&message.subject) else {
            return;
        };
        let heartbeat = match envelope::read::<Heartbeat>("heartbeat", &message.payload) {
            Ok(heartbeat) => heartbeat,
            Err(e) => return tracing::warn!(%host, error = %e, "a heartbeat cannot be read"),
        };
        Metrics::add(&self.metrics.heartbeats_total, 1);
        let now = self.now();
        let noted = self.world.apply(Fact::HostBeat {
            host: host.clone(),
            heartbeat,
            now,
        });
        self.behind.insert(host);
        self.follow(noted);
    }

    fn take_status(&mut self, message: &Message) {
        let Some(Subject::Status(_, host)) = Subject::parse(&message.subject) else {
            return;
        };
        let report = match envelope::read::<HostReport>("status message", &message.payload) {
            Ok(report) => cut_reasons(report),
            Err(e) => return tracing::warn!(%host, error = %e, "a status message cannot be read"),
        };
        Metrics::add(&self.metrics.reports_total, 1);
        self.take_report(host, report);
    }

    /// Takes in what a host says it runs, by itself or because it was asked.
    pub(super) fn take_report(&mut self, host: HostId, report: HostReport) {
        let now = self.now();
        let noted = self.world.apply(Fact::HostReported {
            host: host.clone(),
            report,
            now,
        });
        self.behind.insert(host);
        self.follow(noted);
    }

    fn take_hello(&mut self, message: Message) {
        let reply = message.reply.clone();
        let refuse = |scheduler: &Self, reason: String, next: &str| {
            tracing::warn!(subject = %message.subject, reason, "a hello is refused");
            if let Some(reply) = reply.clone() {
                scheduler.outbox.json(
                    reply,
                    &HelloAnswer::Refused {
                        reason,
                        next: next.to_owned(),
                    },
                );
            }
        };
        let (hello, public_key) = match read_hello(&message) {
            Ok(read) => read,
            Err(reason) => return refuse(self, reason, "update the agent, or check its --id and --realm"),
        };
        if hello.realm != self.options.realm {
            return refuse(
                self,
                format!("this is realm {}", self.options.realm),
                "start the agent with that --realm",
            );
        }
        let known = self
            .world
            .hosts
            .get(&hello.host)
            .map(|record| record.public_key == public_key);
        match known {
            Some(true) => {
                self.compile.know(&hello.engine);
                let (now, host) = (self.now(), hello.host.clone());
                let noted = self.world.apply(Fact::HostSaidHello {
                    hello: Box::new(hello),
                    now,
                });
                self.follow(noted);
                self.refresh_specs(Some(&std::collections::BTreeSet::from([host])));
                self.welcome(reply);
            }
            Some(false) => refuse(
                self,
                format!("host {} joined with another key", hello.host),
                "if the host was set up anew, run `heddle hosts forget` and give its agent a new join token",
            ),
            None => {
                let asker = Asker::Host {
                    reply,
                    hello: Box::new(hello.clone()),
                };
                let at_first_sight = self.options.dev;
                let change = Change::Admit {
                    hello: Box::new(hello),
                    public_key,
                    at_first_sight,
                };
                self.queue_or_refuse(Queued::new(asker, change));
            }
        }
    }

    fn take_api(&mut self, message: Message) {
        let payload = match self.receiver.take(&message) {
            heddle_wire::chunk::Received::Whole(payload) => payload,
            Received::Reply(headers) => {
                if let Some(reply) = message.reply {
                    self.outbox.send_headers(reply, headers);
                }
                return;
            }
            Received::Bad(e) => {
                if let Some(reply) = message.reply {
                    let error = ApiError::new(ErrorCode::BadRequest, e.to_string(), "send the message again");
                    self.outbox.answer(reply, Err(error));
                }
                return;
            }
        };
        Metrics::add(&self.metrics.requests_total, 1);
        match serve::read_ask(&message, &payload, &self.access) {
            Some(Ok(ask)) => self.dispatch(ask),
            Some(Err((reply, error))) => self.outbox.answer(reply, Err(error)),
            None => {}
        }
    }

    /// Answers a reading verb at once; sends a writing one on its way.
    fn dispatch(&mut self, ask: Ask) {
        let now = self.now();
        let answer: Answer = match ask.verb.as_str() {
            Status::NAME => read::status(&self.world, &ask, self.heard_at),
            Hosts::NAME => read::hosts(
                &self.world,
                &ask,
                &|host| self.pusher.wanted_digest(host),
                self.heard_at,
            ),
            Get::NAME => read::get(&self.world, &ask),
            Rebalance::NAME => match ask.body::<Rebalance>() {
                Ok(body) if body.dry_run => read::rebalance(&self.world, &body, &ask.namespace, self.heard_at),
                Ok(_) => return self.take_write(ask),
                Err(e) => Err(e),
            },
            Explain::NAME => read::explain_workload(&self.world, &ask, self.heard_at),
            Events::NAME => ask.body::<Events>().and_then(|body| plain(&self.events.list(&body))),
            Info::NAME => plain(&self.info()),
            Wait::NAME => match ask.body::<Wait>() {
                Ok(wait) => {
                    self.waiters.push(ask.reply, wait, now);
                    self.changed = true;
                    return;
                }
                Err(e) => Err(e),
            },
            Logs::NAME
            | ArtifactHas::NAME
            | ArtifactGet::NAME
            | Audit::NAME
            | Replay::NAME
            | Plan::NAME
            | Backup::NAME => return self.read_beside(ask),
            Apply::NAME
            | Delete::NAME
            | Undo::NAME
            | SetHost::NAME
            | TaintHost::NAME
            | ForgetHost::NAME
            | MakeJoinToken::NAME
            | ArtifactPut::NAME
            | Restore::NAME => return self.take_write(ask),
            verb => Err(ApiError::new(
                ErrorCode::BadRequest,
                format!("failed to carry out {verb:?}: there is no such verb"),
                "update the client, or the scheduler",
            )),
        };
        self.outbox.answer(ask.reply, answer);
    }

    /// Reading verbs whose answer takes longer than the loop may wait.
    fn read_beside(&mut self, ask: Ask) {
        let outbox = self.outbox.clone();
        match ask.verb.as_str() {
            Logs::NAME => match ask.body::<Logs>() {
                Ok(body) => {
                    let hosts = self.hosts_of(&body.workload);
                    if hosts.is_empty() && !self.world.workloads.contains_key(&body.workload) {
                        return outbox.answer(ask.reply, Err(read::not_found("workload", &body.workload)));
                    }
                    let (outside, realm) = (Arc::clone(&self.outside), self.options.realm.clone());
                    self.beside(async move {
                        outbox.answer(ask.reply, serve::logs::collect(outside, realm, hosts, body).await);
                    });
                }
                Err(e) => outbox.answer(ask.reply, Err(e)),
            },
            ArtifactHas::NAME => {
                let pool = self.pool.clone();
                self.beside(async move {
                    let answer = match ask.body::<ArtifactHas>() {
                        Ok(body) => pool
                            .missing(&body.digests)
                            .await
                            .and_then(|missing| plain(&heddle_protocol::api::artifact::ArtifactsMissing { missing })),
                        Err(e) => Err(e),
                    };
                    outbox.answer(ask.reply, answer);
                });
            }
            ArtifactGet::NAME => {
                let pool = self.pool.clone();
                self.beside(async move {
                    let answer = match ask.body::<ArtifactGet>() {
                        Ok(get) => pool.chunk(&get.digest, get.offset).await.and_then(|(bytes, part)| {
                            let chunk = heddle_protocol::api::artifact::ArtifactChunk {
                                bytes,
                                offset: get.offset,
                            };
                            plain(&chunk).map(|(head, _)| (head, part))
                        }),
                        Err(e) => Err(e),
                    };
                    outbox.answer(ask.reply, answer);
                });
            }
            Audit::NAME => match ask.body::<Audit>() {
                Ok(body) => {
                    let (store, head) = (self.store.clone(), self.world.head.n);
                    self.beside(async move {
                        outbox.answer(ask.reply, serve::audit::audit(store, head, body).await);
                    });
                }
                Err(e) => outbox.answer(ask.reply, Err(e)),
            },
            Replay::NAME => match ask.body::<Replay>() {
                Ok(body) => {
                    let (past, liveness) = (self.past.store.clone(), self.world.watch.options);
                    self.beside(async move {
                        outbox.answer(ask.reply, serve::replay::replay(past, liveness, body).await);
                    });
                }
                Err(e) => outbox.answer(ask.reply, Err(e)),
            },
            Backup::NAME => self.take_backup_request(ask),
            _ => self.resolve(ask),
        }
    }

    fn take_write(&mut self, ask: Ask) {
        if let Some(remembered) = self.requests.get(&ask.request_id) {
            let answer = match remembered.body_digest == ask.body_digest || mutant("reused-id-is-not-noticed") {
                true if ask.verb == MakeJoinToken::NAME => Err(shown_once()),
                true => Ok((remembered.result.clone(), Bytes::new())),
                false => Err(reused(&ask)),
            };
            return self.outbox.answer(ask.reply, answer);
        }
        if let Some(under_way) = self.under_way.get_mut(&ask.request_id) {
            if under_way.body_digest != ask.body_digest {
                return self.outbox.answer(ask.reply.clone(), Err(reused(&ask)));
            }
            return under_way.also(ask.reply);
        }
        let attached: usize = match ask.attachment.len() {
            0 => 0,
            bytes => self.under_way.values().map(|u| u.bytes).sum::<usize>() + bytes,
        };
        if self.under_way.len() >= UNDER_WAY_MAX || attached > UNDER_WAY_BYTES_MAX {
            Metrics::add(&self.metrics.requests_shed_total, 1);
            let message = format!(
                "failed to take the request: {} others are being carried out",
                self.under_way.len()
            );
            let error = ApiError::new(ErrorCode::Unavailable, message, "try again in a moment");
            return self.outbox.answer(ask.reply, Err(error));
        }
        let under_way = UnderWay {
            body_digest: ask.body_digest,
            bytes: ask.attachment.len(),
            also: Vec::new(),
        };
        self.under_way.insert(ask.request_id.clone(), under_way);
        match ask.verb.as_str() {
            Apply::NAME => self.resolve(ask),
            ArtifactPut::NAME => self.put_artifact(ask),
            Restore::NAME => self.take_restore_request(ask),
            _ => match self.change_of(&ask) {
                Ok(change) => self.queue_for(ask, change),
                Err(e) => self.answer(&ask, Err(e)),
            },
        }
    }

    fn change_of(&self, ask: &Ask) -> Result<Change, ApiError> {
        Ok(match ask.verb.as_str() {
            Delete::NAME => Change::Delete(ask.body()?),
            Undo::NAME => Change::Undo(ask.body()?),
            Rebalance::NAME => Change::Rebalance(ask.body()?, ask.namespace.clone()),
            SetHost::NAME => Change::SetHost(ask.body()?),
            TaintHost::NAME => Change::TaintHost(ask.body()?),
            ForgetHost::NAME => Change::ForgetHost(ask.body()?),
            _ => {
                let body = ask.body::<MakeJoinToken>()?;
                Change::MakeToken {
                    token: new_token(&*self.outside),
                    valid_ms: body.valid_ms,
                    realm_keys: vec![self.key.public()],
                }
            }
        })
    }

    pub(super) fn queue_for(&mut self, ask: Ask, change: Change) {
        let asker = Asker::Client(Box::new(ask));
        self.queue_or_refuse(Queued::new(asker, change));
    }

    fn queue_or_refuse(&mut self, queued: Queued) {
        if let Err(refused) = self.queue(queued) {
            let (queued, error) = *refused;
            self.refuse(queued.asker, error);
        }
    }

    fn put_artifact(&mut self, ask: Ask) {
        let (pool, done) = (self.pool.clone(), self.done.clone());
        self.beside(async move {
            let answer = match ask.body::<ArtifactPut>() {
                Ok(body) => pool
                    .put(Some(body.digest), ask.attachment.clone())
                    .await
                    .and_then(|info| plain(&info)),
                Err(e) => Err(e),
            };
            let _ = done
                .send(Done::Answered {
                    ask: Box::new(ask),
                    answer,
                })
                .await;
        });
    }

    /// Has a manifest read and its images resolved.
    fn resolve(&mut self, ask: Ask) {
        let (pool, compile, done) = (self.pool.clone(), self.compile.clone(), self.done.clone());
        let policies = self.world.namespace_policies.clone();
        self.beside(async move {
            let documents = match write::documents_of(&ask) {
                Ok((documents, at)) => {
                    let resolved = write::resolve(pool, compile, documents, policies).await;
                    resolved.map(|documents| (documents, at))
                }
                Err(e) => Err(e),
            };
            let _ = done
                .send(Done::Resolved {
                    ask: Box::new(ask),
                    documents,
                })
                .await;
        });
    }

    pub(super) fn take_resolved(&mut self, ask: Box<Ask>, documents: Resolved) {
        match documents {
            Ok((documents, _)) if ask.verb == Plan::NAME => {
                let change = Change::Apply { documents, at: None };
                self.preview(Queued::new(Asker::Client(ask), change));
            }
            Ok((documents, at)) => {
                let at = at.map(|commit| self.plans.at(digest_of(&ask.body), commit));
                self.queue_for(*ask, Change::Apply { documents, at });
            }
            // A plan is not among the requests under way, whatever id it came with.
            Err(e) if ask.verb == Plan::NAME => self.outbox.answer(ask.reply, Err(e)),
            Err(e) => self.answer(&ask, Err(e)),
        }
    }

    /// Answers what an apply would do. It joins no commit, and waits for none.
    fn preview(&mut self, queued: Queued) {
        let (dirty, now, at) = (self.dirty.clone(), self.heard_at, self.outside.wall_clock());
        let Asker::Client(ask) = &queued.asker else { return };
        let (reply, documents) = (ask.reply.clone(), digest_of(&ask.body));
        match change::preview(&self.world, queued, dirty, now, at) {
            Preview::Answer(Ok((answer, planned))) => {
                self.plans.remember(documents, self.world.head.n, planned);
                self.outbox.answer(reply, Ok((answer, Bytes::new())));
            }
            Preview::Answer(Err(error)) => self.outbox.answer(reply, Err(error)),
            Preview::Needs(queued, needed) => self.find_out(queued, needed),
        }
    }

    /// Has found out, beside the loop, what a change waits for.
    pub(super) fn find_out(&mut self, queued: Queued, needed: Needed) {
        if queued.attempts >= find_out::ATTEMPTS_MAX {
            return self.give_up(queued.asker, find_out::moved_on());
        }
        let (finder, done) = (self.finder.clone(), self.done.clone());
        self.beside(async move {
            let mut queued = Box::new(queued);
            let known = finder.find_out(needed, std::mem::take(&mut queued.known)).await;
            let _ = done.send(Done::FoundOut { queued, known }).await;
        });
    }

    pub(super) fn take_found_out(&mut self, mut queued: Queued, known: Result<Known, ApiError>) {
        match known {
            Ok(known) => {
                queued.known = known;
                queued.attempts += 1;
                match is_plan(&queued.asker) {
                    true => self.preview(queued),
                    false => self.queue_or_refuse(queued),
                }
            }
            Err(error) => self.give_up(queued.asker, error),
        }
    }

    fn give_up(&mut self, asker: Asker, error: ApiError) {
        match asker {
            // A plan is not among the requests under way, whatever id it came with.
            Asker::Client(ask) if ask.verb == Plan::NAME => self.outbox.answer(ask.reply, Err(error)),
            asker => self.refuse(asker, error),
        }
    }

    fn info(&self) -> RealmInfo {
        let mut warnings = self.preflight.warnings.clone();
        if !self.is_leading() {
            warnings.push("the store does not answer: nothing is decided, and agents go on".to_owned());
        }
        RealmInfo {
            realm: self.options.realm.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scheduler: self.options.id.clone(),
            epoch: self.world.head.epoch,
            commit: self.world.head.n,
            nats_version: self.preflight.version.clone(),
            hosts_ready: u32::try_from(self.hosts_ready()).unwrap_or(u32::MAX),
            hosts: u32::try_from(self.world.hosts.len()).unwrap_or(u32::MAX),
            workloads: u32::try_from(self.world.workloads.len()).unwrap_or(u32::MAX),
            warnings,
        }
    }

    /// Asks a host for all that it runs. With many others asked already it is left for the host's next heartbeat: a fleet that
    /// returns at once says everything in a bounded number of messages at a time.
    pub(super) fn ask_report(&mut self, host: HostId) {
        if self.asking >= ASKED_MAX {
            return;
        }
        self.asking += 1;
        let subject = Subject::Host(self.options.realm.clone(), host.clone(), HostVerb::Report).to_string();
        let (outside, done) = (Arc::clone(&self.outside), self.done.clone());
        self.beside(async move {
            let report = match outside.request(&subject, Bytes::new(), REPORT_WITHIN).await {
                Ok(reply) => envelope::read::<HostReport>("full report", &reply.payload)
                    .map(cut_reasons)
                    .inspect_err(|e| tracing::warn!(%host, error = %e, "a full report cannot be read"))
                    .ok(),
                Err(_) => None,
            };
            // The loop is gone only when the process ends.
            let _ = done.send(Done::Reported { host, report }).await;
        });
    }

    pub(super) fn ask_hello(&self, host: &HostId) {
        let subject = Subject::Host(self.options.realm.clone(), host.clone(), HostVerb::Hello).to_string();
        self.outbox.send(subject.into(), Bytes::new());
    }
}

fn is_plan(asker: &Asker) -> bool {
    matches!(asker, Asker::Client(ask) if ask.verb == Plan::NAME)
}

fn read_hello(message: &Message) -> Result<(Hello, String), String> {
    let Some(Subject::Hello(_, host)) = Subject::parse(&message.subject) else {
        return Err("its subject names no host".to_owned());
    };
    if message.payload.len() > HELLO_BYTES_MAX {
        return Err(format!(
            "it has {} bytes; at most {HELLO_BYTES_MAX} are allowed",
            message.payload.len()
        ));
    }
    let opened = envelope::open(&message.payload).map_err(|e| e.to_string())?;
    let (payload, key) = opened.self_signed(Kind::Hello).map_err(|e| e.to_string())?;
    let hello: Hello = envelope::read("hello", payload).map_err(|e| e.to_string())?;
    if hello.host != host {
        return Err(format!("it is of host {} on the subject of host {host}", hello.host));
    }
    Ok((hello, key.to_owned()))
}

fn reused(ask: &Ask) -> ApiError {
    ApiError::new(
        ErrorCode::RequestIdReused,
        format!(
            "failed to take request {}: its id was used with another body",
            ask.request_id
        ),
        "use a new request id for a new request",
    )
}

/// A token's secret is not kept, so a lost answer cannot be given again.
fn shown_once() -> ApiError {
    ApiError::new(
        ErrorCode::Conflict,
        "failed to show the join token again: it was made, and it is shown once",
        "make another one with a new request; the first one expires by itself",
    )
}

/// What a host says, with its reasons cut to a length at which thousands of them can be kept and listed.
pub(super) fn cut_reasons(mut report: HostReport) -> HostReport {
    for unit in &mut report.units {
        unit.reason = unit.reason.take().map(|reason| clip(reason, REASON_BYTES_MAX));
    }
    for reason in report.capability_errors.values_mut() {
        *reason = clip(std::mem::take(reason), REASON_BYTES_MAX);
    }
    report
}

/// A token that nobody guesses: 256 random bits.
fn new_token(outside: &dyn Outside) -> String {
    let parts: String = (0..4).map(|_| format!("{:016x}", outside.random())).collect();
    format!("hj-{parts}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::sign::SigningKey;

    #[test]
    fn a_hello_as_long_as_a_book_is_refused() {
        let payload = vec![b' '; HELLO_BYTES_MAX + 1];
        let sealed = envelope::seal(Kind::Hello, &payload, &SigningKey::generate()).unwrap();
        let message = Message {
            subject: "heddle.v1.eu.hello.h-1".into(),
            reply: None,
            length: sealed.len(),
            payload: sealed.into(),
            headers: None,
            status: None,
            description: None,
        };
        assert!(read_hello(&message).unwrap_err().contains("are allowed"));
    }

    #[test]
    fn reasons_of_a_host_are_cut() {
        let report = serde_json::json!({
            "boot_id": "b", "status_seq": 1, "full": true, "removed": [],
            "running_digest": heddle_protocol::digest::Digest::of(b""),
            "units": [{"workload": "shop/cart", "generation": 1, "count": 1, "phase": "failed",
                       "reason": "x".repeat(100_000)}],
        });
        let report = cut_reasons(serde_json::from_value(report).unwrap());
        let reason = report.units[0].reason.as_deref().unwrap_or_default();
        assert!(reason.starts_with('x') && reason.len() < REASON_BYTES_MAX + 5);
    }
}
