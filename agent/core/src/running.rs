//! What this host has and how far each thing is. Facts go in here; decisions are read from it elsewhere.
//!
//! A *run* is one attempt to have one unit on this host. A unit that is wanted has exactly one run that is not
//! draining; runs that drain stay beside it until their calls have ended.

use crate::action::Action;
use crate::backoff::{Jitter, RECONNECTED_PAUSE_MS_MAX, pause_ms};
use crate::capability::{Capabilities, CapabilityPhase};
use crate::fact::Fact;
use crate::phase::{self, Next, UnitFact};
use heddle_protocol::defaults::DRAIN_MS;
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::UnitPhase;
use heddle_protocol::host_spec::{CapabilityOffer, Feature, HostSpecBody, Template, Wasi};
use heddle_protocol::id::{CapabilityName, UnitId};
use heddle_protocol::mutant::mutant;
use heddle_protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Longest reason that is kept and reported, in bytes; the whole of it is in the agent's own log.
const REASON_BYTES_MAX: usize = 300;
/// The capabilities that every agent lends without being told to.
const ALWAYS_LENT: [&str; 3] = ["config", "logging", "secrets"];

/// What this agent can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its features.
    pub features: BTreeSet<Feature>,
    /// The most memory that one instance may have, in bytes; none if there is no bound.
    pub instance_memory_bytes_max: Option<u64>,
}

/// The number of a run: one more for each that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// One attempt to have one unit here.
#[derive(Debug, Clone)]
pub struct Run {
    /// The unit.
    pub unit: UnitId,
    /// The digest of its template.
    pub template_digest: Digest,
    /// Its template; none if the spec did not hold it.
    pub template: Option<Arc<Template>>,
    /// Where it is on its way.
    pub phase: UnitPhase,
    /// Replicas that the spec wants of it.
    pub count: u32,
    /// Replicas that the prepared unit was told of.
    pub held_count: u32,
    /// Why it failed or was refused.
    pub reason: Option<String>,
    /// Failed attempts since it was last ready.
    pub attempts: u32,
    /// Whether it is being prepared.
    pub(crate) preparing: bool,
    /// When the next attempt begins.
    pub(crate) retry_at: Option<Mono>,
    /// Whether it failed for want of an artifact.
    pub(crate) lacked_artifact: bool,
    /// Whether it failed for want of a secret.
    pub(crate) lacked_secret: bool,
    /// Of a job: runs that ended well.
    pub completed: u32,
    /// Of a job: runs that were given up. Of a service: how often it was begun again.
    pub failed: u32,
    /// When it is dropped although it has not drained.
    pub(crate) drain_deadline: Option<Mono>,
    /// Whether the shell was told to drain it.
    pub(crate) drain_begun: bool,
    /// The capabilities that it needs, for its imports or its routes.
    pub(crate) needs: BTreeSet<CapabilityName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ComponentState {
    Compiling,
    /// In memory; since when no run has used it.
    Here {
        idle_since: Option<Mono>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArtifactState {
    Fetching,
    Here,
}

/// What this host has.
#[derive(Debug, Clone, Default)]
pub struct Running {
    pub(crate) machine: Machine,
    pub(crate) runs: BTreeMap<RunId, Run>,
    /// The run of each unit that the spec wants.
    pub(crate) wanted: BTreeMap<UnitId, RunId>,
    pub(crate) artifacts: BTreeMap<Digest, ArtifactState>,
    pub(crate) components: BTreeMap<(Digest, Wasi), ComponentState>,
    pub(crate) capabilities: Capabilities,
    /// The digest of what the spec wants served and called, as last accepted.
    routes: Option<Digest>,
    /// What of it is installed, and the runs that are live.
    installed: Option<(Option<Digest>, BTreeMap<UnitId, RunId>)>,
    /// Runs that are gone while the shell still holds something of theirs.
    pub(crate) leftovers: BTreeMap<RunId, UnitId>,
    next_run: u64,
}

impl Running {
    /// A host that has nothing yet.
    pub fn new(machine: Machine) -> Self {
        Self {
            machine,
            ..Self::default()
        }
    }

    /// The runs, oldest first.
    pub fn runs(&self) -> impl Iterator<Item = (RunId, &Run)> {
        self.runs.iter().map(|(id, run)| (*id, run))
    }

    /// How far each capability is.
    pub fn capabilities(&self) -> impl Iterator<Item = (&CapabilityName, &CapabilityPhase)> {
        self.capabilities.iter().map(|(name, held)| (name, &held.phase))
    }

    /// Takes in facts, in their order. `spec` is what the host should run.
    pub fn apply(&mut self, spec: &HostSpecBody, facts: impl IntoIterator<Item = Fact>, now: Mono, jitter: Jitter) {
        for fact in facts {
            self.apply_one(spec, fact, now, jitter);
        }
        self.advance(now);
    }

    fn apply_one(&mut self, spec: &HostSpecBody, fact: Fact, now: Mono, jitter: Jitter) {
        match fact {
            Fact::SpecAccepted => self.apply_spec(spec, now),
            Fact::ArtifactFetched { digest } => {
                self.artifacts.insert(digest, ArtifactState::Here);
            }
            Fact::ArtifactFetchFailed { digest, reason } => {
                self.artifacts.remove(&digest);
                let lacking = |run: &Run| run.phase == UnitPhase::Fetching && uses(run, digest, None);
                self.fail_where(lacking, &reason, false, now, jitter, true);
            }
            Fact::ArtifactLost { digest, wasi } => self.apply_artifact_lost(digest, wasi, now, jitter),
            Fact::ComponentCompiled { digest, wasi } => {
                self.components
                    .insert((digest, wasi), ComponentState::Here { idle_since: None });
            }
            Fact::ComponentCompileFailed {
                digest,
                wasi,
                reason,
                for_good,
            } => {
                self.components.remove(&(digest, wasi));
                let waiting = |run: &Run| {
                    matches!(run.phase, UnitPhase::Fetching | UnitPhase::Compiling) && uses(run, digest, Some(wasi))
                };
                // Code comes over the same link as artifacts do, so it too may come when the link is back.
                self.fail_where(waiting, &reason, for_good, now, jitter, !for_good);
            }
            Fact::UnitPrepared { run, unit, count } => self.apply_prepared(run, unit, count, now),
            Fact::UnitPrepareFailed {
                run,
                reason,
                for_good,
                lacks_secret,
            } => {
                self.with(run, |run| run.preparing = false);
                self.fail(run, &reason, for_good, now, jitter, false);
                self.with(run, |run| run.lacked_secret = lacks_secret);
            }
            Fact::UnitProgressed {
                run,
                completed,
                failed,
                reason,
                ended,
            } => {
                self.with(run, |run| {
                    (run.completed, run.failed) = (completed, failed);
                    run.reason = reason.as_deref().map(short);
                });
                if ended {
                    self.step(run, UnitFact::RunsEnded, now);
                }
            }
            Fact::SecretsArrived => {
                for run in self.runs.values_mut().filter(|run| run.lacked_secret) {
                    run.retry_at = run.retry_at.map(|at| at.min(now));
                }
            }
            Fact::UnitDrained { run } => self.step(run, UnitFact::Drained, now),
            Fact::CapabilitySet { name, offer, bound } => self.capabilities.apply_set(&name, &offer, bound),
            Fact::CapabilityFailed { name, offer, reason } => {
                self.capabilities
                    .apply_failed(&name, &offer, short(&reason), now, jitter);
            }
            Fact::LinkRestored => self.apply_link_restored(now, jitter),
            Fact::TimePassed => {}
        }
    }

    /// Notes that an action has begun, so that it is not decided again.
    pub fn begin(&mut self, action: &Action) {
        match action {
            Action::SetCapability { name, offer } => self.capabilities.begin(name, offer),
            Action::RemoveCapability { name } => self.capabilities.remove(name),
            Action::FetchArtifact { digest, .. } => {
                self.artifacts.insert(*digest, ArtifactState::Fetching);
            }
            Action::CompileArtifact { digest, wasi, .. } => {
                self.components.insert((*digest, *wasi), ComponentState::Compiling);
            }
            Action::ForgetComponent { digest, wasi } => {
                self.components.remove(&(*digest, *wasi));
            }
            Action::PrepareUnit { run, .. } => self.with(*run, |run| run.preparing = true),
            Action::ResizeUnit { run, count, .. } => self.with(*run, |run| run.held_count = *count),
            Action::SetRoutes { serving } => self.installed = Some((self.routes, serving.clone())),
            Action::DrainUnit { run, .. } => self.with(*run, |run| run.drain_begun = true),
            Action::DropUnit { run, .. } => {
                self.leftovers.remove(run);
            }
        }
    }

    /// When the next pause or deadline ends: [`Fact::TimePassed`] is due then.
    pub fn wake_at(&self) -> Option<Mono> {
        let runs = self
            .runs
            .values()
            .filter_map(|run| run.retry_at.into_iter().chain(run.drain_deadline).min());
        runs.chain(self.capabilities.wake_at()).min()
    }

    /// Whether the spec's routes are installed with exactly these runs behind them.
    pub(crate) fn has_installed(&self, serving: &BTreeMap<UnitId, RunId>) -> bool {
        self.installed
            .as_ref()
            .is_some_and(|(routes, held)| *routes == self.routes && held == serving)
    }

    /// What a run needs and this host does not lend yet, with the reason if there is one.
    pub(crate) fn lacking(&self, run: &Run) -> Option<(CapabilityName, Option<String>)> {
        let lacking = |name: &&CapabilityName| match self.capabilities.get(name) {
            Some(held) => !matches!(held.phase, CapabilityPhase::Set { .. }),
            None => !ALWAYS_LENT.contains(&name.as_str()),
        };
        let name = run.needs.iter().find(lacking)?;
        let reason = match self.capabilities.get(name).map(|held| &held.phase) {
            Some(CapabilityPhase::Failed { reason, .. }) => Some(reason.clone()),
            _ => None,
        };
        Some((name.clone(), reason))
    }

    fn apply_spec(&mut self, spec: &HostSpecBody, now: Mono) {
        self.routes = Digest::of_json(&(
            &spec.routes,
            &spec.serves,
            &spec.callees,
            &spec.credentials,
            &spec.secret_versions,
        ))
        .ok();
        let mut needs: BTreeMap<UnitId, BTreeSet<CapabilityName>> = BTreeMap::new();
        for route in &spec.routes {
            for target in &route.targets {
                needs
                    .entry(target.unit.clone())
                    .or_default()
                    .insert(route.capability.clone());
            }
        }
        let mut wanted = BTreeMap::new();
        for unit in &spec.units {
            let id = unit.id();
            let kept = self.wanted.get(&id).copied().filter(|run| {
                self.runs
                    .get(run)
                    .is_some_and(|r| r.template_digest == unit.template && r.phase != UnitPhase::Draining)
            });
            let run_id = kept.unwrap_or_else(|| self.begin_run(spec, &id, unit.template));
            let bindings = spec
                .templates
                .get(&unit.template)
                .into_iter()
                .flat_map(|t| &t.components);
            let bindings = bindings.flat_map(|c| c.bindings.values()).map(|b| b.capability.clone());
            let consumed = spec.templates.get(&unit.template).into_iter().flat_map(|t| &t.consumes);
            let bindings = bindings.chain(consumed.map(|c| c.capability.clone()));
            let needs = needs
                .remove(&id)
                .unwrap_or_default()
                .into_iter()
                .chain(bindings)
                .collect();
            self.with(run_id, |run| {
                run.count = unit.count;
                run.needs = needs;
            });
            wanted.insert(id, run_id);
        }
        self.wanted = wanted;
        let kept: BTreeSet<RunId> = self.wanted.values().copied().collect();
        let unwanted: Vec<RunId> = self.runs.keys().copied().filter(|run| !kept.contains(run)).collect();
        for run in unwanted.into_iter().filter(|_| !mutant("unwanted-units-stay")) {
            self.step(run, UnitFact::Unwanted, now);
        }
        for (name, offer) in &spec.capabilities {
            if let Some(reason) = self.cannot_lend(offer) {
                self.capabilities.refuse(name, offer, reason);
            }
        }
    }

    fn begin_run(&mut self, spec: &HostSpecBody, unit: &UnitId, template_digest: Digest) -> RunId {
        let id = RunId(self.next_run);
        self.next_run += 1;
        let template = spec.templates.get(&template_digest).cloned();
        let unfit = match &template {
            Some(template) => self.cannot_run(template),
            None => Some(format!(
                "the spec does not hold its template {}",
                template_digest.short()
            )),
        };
        let run = Run {
            unit: unit.clone(),
            template_digest,
            template,
            phase: UnitPhase::Fetching,
            count: 0,
            held_count: 0,
            reason: unfit.clone(),
            attempts: 0,
            preparing: false,
            retry_at: None,
            lacked_artifact: false,
            lacked_secret: false,
            completed: 0,
            failed: 0,
            drain_deadline: None,
            drain_begun: false,
            needs: BTreeSet::new(),
        };
        self.runs.insert(id, run);
        if unfit.is_some() {
            self.step(id, UnitFact::FoundUnfit, Mono(0));
        }
        id
    }

    /// Why this agent cannot run a template, if it cannot (D11).
    fn cannot_run(&self, template: &Template) -> Option<String> {
        let missing: Vec<String> = template
            .requires
            .difference(&self.machine.features)
            .map(ToString::to_string)
            .collect();
        if !missing.is_empty() {
            return Some(format!("this agent lacks {}", missing.join(", ")));
        }
        let (wanted, max) = (template.limits.memory_bytes, self.machine.instance_memory_bytes_max?);
        (wanted > max).then(|| format!("an instance may have {wanted} bytes of memory, and at most {max} fit here"))
    }

    fn cannot_lend(&self, offer: &CapabilityOffer) -> Option<String> {
        let feature = offer.feature();
        (!self.machine.features.contains(&feature)).then(|| format!("this agent lacks {}", feature))
    }

    fn apply_prepared(&mut self, id: RunId, unit: UnitId, count: u32, now: Mono) {
        match self.runs.get_mut(&id) {
            Some(run) => {
                run.preparing = false;
                run.held_count = count;
                self.step(id, UnitFact::Prepared, now);
            }
            // It came up when nobody wanted it any more, and the shell holds it.
            None => {
                self.leftovers.insert(id, unit);
            }
        }
    }

    fn apply_artifact_lost(&mut self, digest: Digest, wasi: Wasi, now: Mono, jitter: Jitter) {
        self.artifacts.remove(&digest);
        self.components.remove(&(digest, wasi));
        let ids: Vec<RunId> = self
            .runs
            .iter()
            .filter(|(_, run)| uses(run, digest, None))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            // Once is a deleted cache; more often is a disk that loses what it is given, and that must not spin.
            match self.runs.get_mut(&id) {
                Some(run) if run.attempts == 0 && run.phase == UnitPhase::Compiling => {
                    run.attempts = 1;
                    self.step(id, UnitFact::ArtifactLost, now);
                }
                _ => self.fail(
                    id,
                    "its artifact was fetched and is lost or damaged again",
                    false,
                    now,
                    jitter,
                    false,
                ),
            }
        }
    }

    fn apply_link_restored(&mut self, now: Mono, jitter: Jitter) {
        if mutant("a-lost-link-stops-everything") {
            self.runs.clear();
            self.wanted.clear();
        }
        for (id, run) in self.runs.iter_mut().filter(|(_, run)| run.lacked_artifact) {
            let soon = now.plus(jitter.of_one(id.0).part_of(RECONNECTED_PAUSE_MS_MAX));
            run.retry_at = run.retry_at.map(|at| at.min(soon));
        }
    }

    /// Moves every run as far as what is here and the time allow.
    fn advance(&mut self, now: Mono) {
        let ids: Vec<RunId> = self.runs.keys().copied().collect();
        for id in ids {
            while let Some(fact) = self.runs.get(&id).and_then(|run| self.due(run, now)) {
                self.step(id, fact, now);
            }
        }
        self.note_idle(now);
    }

    /// What is true of a run by now and it was not told of yet.
    fn due(&self, run: &Run, now: Mono) -> Option<UnitFact> {
        let components = || run.template.iter().flat_map(|t| &t.components);
        let here = |c: &(Digest, Wasi)| matches!(self.components.get(c), Some(ComponentState::Here { .. }));
        match run.phase {
            UnitPhase::Fetching => components()
                .all(|c| here(&(c.artifact, c.wasi)) || self.artifacts.get(&c.artifact) == Some(&ArtifactState::Here))
                .then_some(UnitFact::ArtifactsFetched),
            UnitPhase::Compiling => components()
                .all(|c| here(&(c.artifact, c.wasi)))
                .then_some(UnitFact::ComponentsCompiled),
            UnitPhase::Failed => run.retry_at.is_some_and(|at| at <= now).then_some(UnitFact::PauseEnded),
            UnitPhase::Draining => run
                .drain_deadline
                .is_some_and(|at| at <= now)
                .then_some(UnitFact::DrainTimeEnded),
            UnitPhase::Starting | UnitPhase::Ready | UnitPhase::Refused | UnitPhase::Ended => None,
        }
    }

    fn step(&mut self, id: RunId, fact: UnitFact, now: Mono) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        match phase::next(run.phase, fact).0 {
            Next::Stays => {}
            Next::To(phase) => {
                run.phase = phase;
                match phase {
                    UnitPhase::Ready => {
                        (run.attempts, run.reason) = (0, None);
                        (run.lacked_artifact, run.lacked_secret) = (false, false);
                    }
                    UnitPhase::Draining => run.drain_deadline = Some(now.plus(DRAIN_MS)),
                    UnitPhase::Fetching => run.retry_at = None,
                    _ => {}
                }
            }
            Next::Gone => {
                if run.phase == UnitPhase::Draining {
                    self.leftovers.insert(id, run.unit.clone());
                }
                self.runs.remove(&id);
            }
        }
    }

    fn fail_where(
        &mut self,
        which: impl Fn(&Run) -> bool,
        reason: &str,
        for_good: bool,
        now: Mono,
        jitter: Jitter,
        lacked_artifact: bool,
    ) {
        let ids: Vec<RunId> = self
            .runs
            .iter()
            .filter(|(_, run)| which(run))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.fail(id, reason, for_good, now, jitter, lacked_artifact);
        }
    }

    fn fail(&mut self, id: RunId, reason: &str, for_good: bool, now: Mono, jitter: Jitter, lacked_artifact: bool) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let fact = if for_good {
            UnitFact::FoundUnfit
        } else {
            UnitFact::AttemptFailed
        };
        if phase::next(run.phase, fact).0 == Next::Stays {
            return;
        }
        run.attempts = run.attempts.saturating_add(1);
        run.reason = Some(short(reason));
        run.lacked_artifact = lacked_artifact;
        run.retry_at = (!for_good && !mutant("failed-units-are-not-tried-again"))
            .then(|| now.plus(pause_ms(run.attempts, jitter.of_one(id.0))));
        self.step(id, fact, now);
    }

    fn note_idle(&mut self, now: Mono) {
        let components = self
            .runs
            .values()
            .flat_map(|run| run.template.iter().flat_map(|t| &t.components));
        let used: BTreeSet<(Digest, Wasi)> = components.map(|c| (c.artifact, c.wasi)).collect();
        for (component, state) in &mut self.components {
            if let ComponentState::Here { idle_since } = state {
                *idle_since = if used.contains(component) {
                    None
                } else {
                    idle_since.or(Some(now))
                };
            }
        }
        let named: BTreeSet<Digest> = used
            .iter()
            .chain(self.components.keys())
            .map(|(digest, _)| *digest)
            .collect();
        self.artifacts
            .retain(|digest, state| *state == ArtifactState::Fetching || named.contains(digest));
    }

    fn with(&mut self, id: RunId, change: impl FnOnce(&mut Run)) {
        if let Some(run) = self.runs.get_mut(&id) {
            change(run);
        }
    }
}

/// Whether a run is made of an artifact (and for an engine).
fn uses(run: &Run, digest: Digest, wasi: Option<Wasi>) -> bool {
    let components = run.template.iter().flat_map(|t| &t.components);
    components
        .into_iter()
        .any(|c| c.artifact == digest && wasi.is_none_or(|w| w == c.wasi))
}

/// A reason, cut to what is reported.
fn short(reason: &str) -> String {
    if reason.len() <= REASON_BYTES_MAX {
        return reason.to_owned();
    }
    let mut end = REASON_BYTES_MAX;
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &reason[..end])
}
