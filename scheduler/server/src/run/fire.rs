//! Cron in the loop: what is due is kept as fired first, and then told to one host that is ready for it.
//!
//! In: the time. Out: one commit for everything that is due, and one request each. A point in time is run at most once: a
//! host that does not answer may have begun, so nobody else is asked; one that says no certainly has not.

use super::{Done, Scheduler};
use crate::change::Change;
use crate::outside::Outside;
use heddle_protocol::host_report::{Fire, FireAnswer};
use heddle_protocol::id::{HostId, UnitId, WorkloadId};
use heddle_protocol::subject::{HostVerb, Subject};
use heddle_protocol::time::UnixMs;
use heddle_scheduler_core::cron::{self, Due};
use heddle_wire::chunk::RequestError;
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked for what is due at least: triggers may have come or gone.
const LOOK_EVERY_MS: u64 = 1_000;
/// How long a host may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Hosts that are asked for one point in time at most.
const HOSTS_ASKED_MAX: usize = 3;
/// How long a commit may take before what it was to keep is looked for again.
const COMMIT_WITHIN_MS: u64 = 30_000;

/// What the loop remembers of cron triggers.
#[derive(Debug, Default)]
pub(super) struct Firing {
    /// Not before this is it looked again.
    look_at: UnixMs,
    /// What waits for its commit, by workload and trigger: the point, and since when.
    waits: BTreeMap<(WorkloadId, u32), Waits>,
}

#[derive(Debug, Clone, Copy)]
struct Waits {
    due: UnixMs,
    since: UnixMs,
    /// Whether it is only kept as missed.
    skipped: bool,
}

/// What came of telling hosts of one point in time.
pub(crate) struct Fired {
    unit: UnitId,
    due: UnixMs,
    /// The host that runs it, or why none does as far as is known.
    ran: Result<HostId, String>,
}

impl Scheduler {
    /// Begins whatever is due now.
    pub(super) fn fire_due(&mut self) {
        if !self.is_leading() {
            return;
        }
        let at = self.outside.wall_clock();
        self.tell_hosts(at);
        if at < self.firing.look_at {
            return;
        }
        let next = cron::next_due(&self.world, at).unwrap_or(UnixMs(u64::MAX));
        self.firing.look_at = next.min(UnixMs(at.0.saturating_add(LOOK_EVERY_MS)));
        let now = self.heard_at;
        let mut points = Vec::new();
        for due in cron::due(&self.world, at) {
            let key = (due.workload.clone(), due.trigger);
            if self.firing.waits.contains_key(&key) {
                continue;
            }
            let has_taker = cron::takers(&self.world, &due.workload, now).is_some();
            // A host may yet become ready; what is older is told as missed and never run.
            if !has_taker && !due.too_late {
                continue;
            }
            self.note_missed(&due);
            let waits = Waits {
                due: due.due,
                since: at,
                skipped: due.too_late,
            };
            points.push((due.workload, due.trigger, due.due));
            self.firing.waits.insert(key, waits);
        }
        // A full queue has more urgent things in it: they are found due again.
        if !points.is_empty() && self.queue(Change::Fired(points).unasked()).is_err() {
            self.firing.waits.clear();
        }
    }

    fn note_missed(&mut self, due: &Due) {
        let about = due.workload.to_string();
        let minute = in_words(due.due);
        if due.too_late {
            let message = format!(
                "its cron trigger {} was due {minute} and no host was ready; it is skipped",
                due.trigger
            );
            self.note("cron-missed", about, message);
        } else if due.missed_older {
            let message = format!(
                "its cron trigger {} was due before {minute}, too; that is skipped",
                due.trigger
            );
            self.note("cron-missed", about, message);
        }
    }

    /// Tells hosts what is kept as fired by now.
    fn tell_hosts(&mut self, at: UnixMs) {
        let world = &self.world;
        let kept = |(id, trigger): &(WorkloadId, u32), waits: &Waits| {
            let fired = world.places.get(id).and_then(|place| place.fired.get(trigger));
            fired.is_some_and(|fired| *fired >= waits.due)
        };
        let mut ready = Vec::new();
        self.firing.waits.retain(|key, waits| {
            if kept(key, waits) {
                ready.push((key.clone(), *waits));
                return false;
            }
            at.0.saturating_sub(waits.since.0) < COMMIT_WITHIN_MS
        });
        for ((id, trigger), waits) in ready.into_iter().filter(|(_, waits)| !waits.skipped) {
            self.tell_host(&id, trigger, waits.due);
        }
    }

    fn tell_host(&mut self, id: &WorkloadId, trigger: u32, due: UnixMs) {
        let now = self.heard_at;
        let record = self.world.workloads.get(id);
        let found = record.and_then(|record| record.intent.cron.get(trigger as usize));
        let Some(component) = found.map(|trigger| trigger.component.clone()) else {
            return;
        };
        let Some((unit, mut hosts)) = cron::takers(&self.world, id, now) else {
            let message = format!(
                "its cron trigger {trigger} was due {} and its host is lost since",
                in_words(due)
            );
            self.note("cron-missed", id.to_string(), message);
            return;
        };
        hosts.shuffle(&mut rand::rngs::StdRng::seed_from_u64(self.outside.random()));
        hosts.truncate(HOSTS_ASKED_MAX);
        let observed = &self.world.observed;
        let requests: Vec<(HostId, Fire)> = hosts
            .into_iter()
            .filter_map(|host| {
                let boot_id = observed.get(&host)?.boot_id.clone()?;
                let (unit, component) = (unit.clone(), component.clone());
                let fire = Fire {
                    boot_id,
                    unit,
                    component,
                    due,
                };
                Some((host, fire))
            })
            .collect();
        let (outside, realm, done) = (Arc::clone(&self.outside), self.options.realm.clone(), self.done.clone());
        self.beside(async move {
            let ran = ask(&*outside, &realm, requests).await;
            let _ = done.send(Done::Fired(Fired { unit, due, ran })).await;
        });
    }

    /// Takes in what came of it. How the run itself ends is in the workload's log.
    pub(super) fn take_fired(&mut self, fired: Fired) {
        let Fired { unit, due, ran } = fired;
        let about = unit.workload.to_string();
        match ran {
            Ok(host) => tracing::debug!(%unit, due = due.0, %host, "cron"),
            Err(why) => {
                let message = format!("generation {} was due {}: {why}", unit.generation, in_words(due));
                self.note("cron-failed", about, message);
            }
        }
    }
}

/// Asks one host after the other, until one runs it or may have.
async fn ask(
    outside: &dyn Outside,
    realm: &heddle_protocol::id::Realm,
    requests: Vec<(HostId, Fire)>,
) -> Result<HostId, String> {
    let mut refused = "no host is ready".to_owned();
    for (host, fire) in requests {
        let subject = Subject::Host(realm.clone(), host.clone(), HostVerb::Fire).to_string();
        let payload = serde_json::to_vec(&fire).map_err(|e| e.to_string())?;
        let answer = match outside.request(&subject, payload.into(), ANSWER_WITHIN).await {
            Ok(answer) => answer,
            Err(RequestError::NoResponders(_)) => {
                refused = format!("host {host} is gone");
                continue;
            }
            Err(e) => return Err(format!("host {host} did not say whether it runs: {e}")),
        };
        match serde_json::from_slice::<FireAnswer>(&answer.payload) {
            Ok(FireAnswer::Begun | FireAnswer::Known) => return Ok(host),
            Ok(FireAnswer::Refused { reason }) => refused = format!("host {host} refused: {reason}"),
            Err(e) => return Err(format!("the answer of host {host} cannot be read: {e}")),
        }
    }
    Err(refused)
}

fn in_words(at: UnixMs) -> String {
    format!("at {at}")
}
