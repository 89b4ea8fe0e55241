//! Making past decisions again.
//!
//! In: steps from a base on. Out: what the planner of today decides from the same records and the same words of hosts, and
//! whether that is what was decided then. Plain functions over plain values.

use super::{Kept, Step, Text, digest_of};
use heddle_protocol::api::replay::{Replayed, Waited};
use heddle_protocol::id::WorkloadId;
use heddle_protocol::key::Key;
use heddle_protocol::report::WaitingOn;
use heddle_scheduler_core::plan::PLANNER;
use heddle_scheduler_core::{LivenessOptions, Plan, PlanReport, World, explain, plan};
use std::collections::BTreeMap;

/// Workloads that are named as placed differently, or as waiting.
const WORKLOADS_MAX: usize = 100;
/// Records and changes that are listed.
const CHANGES_MAX: usize = 1_000;

/// Why a decision cannot be made again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// There is no base to begin with.
    #[error("the records before it are not kept")]
    NoBase,
    /// A record cannot be read.
    #[error("a record before it cannot be read: {0}")]
    Record(String),
    /// How units fared is not kept.
    #[error("it looked at more units than are kept")]
    LeftOut,
}

/// A decision made again.
struct Again {
    /// The world right before it, with all that was known.
    world: World,
    plan: Plan,
    report: PlanReport,
    /// The placements that change.
    placed: Vec<Kept>,
}

impl Again {
    fn of(before: &World, step: &Step, also: Option<&WorkloadId>) -> Result<Self, ReplayError> {
        if step.premises.left_out {
            return Err(ReplayError::LeftOut);
        }
        let mut world = before.clone();
        world.suppose(&step.premises, also);
        let (plan, report) = plan(&world, step.premises.now);
        let mut places: BTreeMap<Key, Option<Text>> = BTreeMap::new();
        for kept in &step.asked {
            if let Some(key @ Key::Place(_)) = Key::parse(&kept.key) {
                places.insert(key, kept.value.clone());
            }
        }
        let writes = plan.writes().map_err(|error| ReplayError::Record(error.to_string()))?;
        for write in writes {
            places.insert(write.key, write.value.map(Text::from));
        }
        let placed = places.into_iter().map(|(key, value)| Kept {
            key: key.to_string(),
            value,
        });
        Ok(Self {
            placed: placed.collect(),
            world,
            plan,
            report,
        })
    }

    fn is_same(&self, step: &Step) -> bool {
        Some(digest_of(&self.placed)) == step.placed_digest
    }
}

/// Makes the last of some steps again.
///
/// # Errors
/// If the steps do not begin with a base, or something in them is not kept or cannot be read.
pub fn replay(
    steps: &[Step],
    liveness: LivenessOptions,
    explained: Option<&WorkloadId>,
) -> Result<Replayed, ReplayError> {
    let (last, before) = steps.split_last().ok_or(ReplayError::NoBase)?;
    let mut world = begin(steps, liveness)?;
    for step in before {
        ask(&mut world, step)?;
        end(&mut world, step)?;
    }
    ask(&mut world, last)?;
    let again = Again::of(&world, last, explained)?;
    let explanation = explained.and_then(|id| {
        let mut after = again.world.clone();
        again.plan.carry_out(&mut after);
        after.set_head(last.version);
        explain::explain(&after, id, last.premises.now)
    });
    Ok(answer(last, &again, explanation))
}

/// Makes all of some steps again. Returns the commits that come out differently, with why.
///
/// # Errors
/// As [`replay`]; what is not kept is passed over.
pub fn replay_all(steps: &[Step], liveness: LivenessOptions) -> Result<Vec<(u64, String)>, ReplayError> {
    let mut world = begin(steps, liveness)?;
    let mut wrong = Vec::new();
    for step in steps {
        ask(&mut world, step)?;
        match Again::of(&world, step, None) {
            Ok(again) if again.is_same(step) => {}
            Ok(again) => wrong.push((step.version.n, difference(&again, step))),
            Err(ReplayError::LeftOut) => {}
            Err(error) => return Err(error),
        }
        if step.placed.is_none() {
            break;
        }
        end(&mut world, step)?;
    }
    Ok(wrong)
}

fn difference(again: &Again, step: &Step) -> String {
    let now: Vec<&Kept> = again.placed.iter().collect();
    let then: Vec<&Kept> = step.placed.iter().flatten().collect();
    let only = |these: &[&Kept], those: &[&Kept]| -> Vec<String> {
        let one = these.iter().find(|kept| !those.contains(kept));
        let text = |kept: &&&Kept| {
            kept.value.as_ref().map_or("gone".into(), |value| {
                String::from_utf8_lossy(value.bytes()).into_owned()
            })
        };
        one.map(|kept| format!("{} {}", kept.key, text(&kept)))
            .into_iter()
            .collect()
    };
    format!("then {:?}, now {:?}", only(&then, &now), only(&now, &then))
}

/// The world before the first step.
fn begin(steps: &[Step], liveness: LivenessOptions) -> Result<World, ReplayError> {
    let base = steps.first().and_then(|step| step.base.as_ref());
    let mut world = World::new(liveness);
    for kept in base.ok_or(ReplayError::NoBase)? {
        take(&mut world, kept)?;
    }
    Ok(world)
}

/// Takes in what was asked for in a step, and what hosts had said.
fn ask(world: &mut World, step: &Step) -> Result<(), ReplayError> {
    for kept in &step.asked {
        take(world, kept)?;
    }
    world.learn(&step.premises);
    Ok(())
}

/// Takes in what was placed in a step.
fn end(world: &mut World, step: &Step) -> Result<(), ReplayError> {
    for kept in step.placed.iter().flatten() {
        take(world, kept)?;
    }
    world.set_head(step.version);
    Ok(())
}

fn take(world: &mut World, kept: &Kept) -> Result<(), ReplayError> {
    let taken = world.apply_write(&kept.key, kept.value.as_ref().map(Text::bytes));
    taken.map(drop).map_err(|error| ReplayError::Record(error.to_string()))
}

fn answer(step: &Step, again: &Again, explanation: Option<heddle_protocol::api::explain::Explanation>) -> Replayed {
    let same = again.is_same(step);
    let mut different: Vec<WorkloadId> = Vec::new();
    if let Some(then) = step.placed.as_ref().filter(|_| !same) {
        let both = then.iter().chain(&again.placed);
        let odd = both.filter(|kept| !(then.contains(kept) && again.placed.contains(kept)));
        different.extend(odd.filter_map(|kept| match Key::parse(&kept.key) {
            Some(Key::Place(id)) => Some(id),
            _ => None,
        }));
        different.sort();
        different.dedup();
    }
    let mut changes = again.report.changes();
    // Of units that were not looked at is not known how they fared, and it did not matter.
    let looked_at = |id: &WorkloadId| step.premises.looked_at.iter().any(|known| known.workload == *id);
    let waiting = again.report.waiting().into_iter();
    let waiting = waiting.filter(|(id, on)| !matches!(on, WaitingOn::Units { .. }) || looked_at(id));
    let mut waiting: Vec<Waited> = waiting.map(|(workload, on)| Waited { workload, on }).collect();
    let mut asked: Vec<String> = step.asked.iter().map(|kept| kept.key.clone()).collect();
    let more = changes.len() > CHANGES_MAX
        || asked.len() > CHANGES_MAX
        || waiting.len() > WORKLOADS_MAX
        || different.len() > WORKLOADS_MAX;
    changes.truncate(CHANGES_MAX);
    asked.truncate(CHANGES_MAX);
    waiting.truncate(WORKLOADS_MAX);
    different.truncate(WORKLOADS_MAX);
    Replayed {
        commit: step.version.n,
        epoch: step.version.epoch,
        at: step.at,
        planner: step.planner.clone(),
        planner_now: PLANNER.to_owned(),
        same,
        different,
        asked,
        changes,
        waiting,
        more,
        explanation,
    }
}
