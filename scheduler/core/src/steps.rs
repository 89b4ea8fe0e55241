//! What placement changes come to, as people speak of it.
//!
//! In: the world before, and the changes of a plan. Out: steps. Replicas of one generation that are fewer here and more
//! there moved; those of a newer generation take the place of older ones, whether these stop now or once the new ones are
//! ready; the rest starts or stops.

use crate::world::World;
use heddle_protocol::api::step::{Action, Step};
use heddle_protocol::id::{Generation, HostId, WorkloadId};
use heddle_protocol::report::PlacementChange;
use std::collections::{BTreeMap, BTreeSet};

/// Replicas of one generation on one host that are more, or fewer.
#[derive(Debug, Clone)]
struct Part {
    generation: Generation,
    host: HostId,
    count: u32,
    room_for: Option<WorkloadId>,
}

/// What changes come to, by workload in their order.
pub fn steps(before: &World, changes: &[PlacementChange]) -> Vec<Step> {
    let mut by_workload: BTreeMap<&WorkloadId, (Vec<Part>, Vec<Part>)> = BTreeMap::new();
    for change in changes {
        let (more, fewer) = by_workload.entry(&change.workload).or_default();
        let part = |count| Part {
            generation: change.generation,
            host: change.host.clone(),
            count,
            room_for: change.preempted_by.clone(),
        };
        match change.after.checked_sub(change.before) {
            Some(0) => {}
            Some(count) => more.push(part(count)),
            None => fewer.push(part(change.before - change.after)),
        }
    }
    let each = by_workload.into_iter();
    each.flat_map(|(id, (more, fewer))| of_workload(before, id, more, fewer))
        .collect()
}

fn of_workload(before: &World, id: &WorkloadId, mut more: Vec<Part>, mut fewer: Vec<Part>) -> Vec<Step> {
    let mut steps = Vec::new();
    let step = |action, generation, count| Step {
        action,
        workload: id.clone(),
        generation,
        count,
        from: None,
        to: None,
        before: None,
        room_for: None,
    };
    let made_room = fewer.iter_mut().filter(|part| part.room_for.is_some());
    for part in made_room {
        let count = std::mem::take(&mut part.count);
        steps.push(Step {
            from: Some(part.host.clone()),
            room_for: part.room_for.clone(),
            ..step(Action::Preempt, part.generation, count)
        });
    }
    // Oldest go first, and newest come first: where the two at the front do not fit, no others do.
    more.sort_by(|a, b| b.generation.cmp(&a.generation).then_with(|| a.host.cmp(&b.host)));
    fewer.sort_by(|a, b| a.generation.cmp(&b.generation).then_with(|| a.host.cmp(&b.host)));
    let mut moved = |new: &Part, old: &Part, count| {
        let same = new.generation == old.generation;
        steps.push(Step {
            from: Some(old.host.clone()),
            to: Some(new.host.clone()),
            before: (!same).then_some(old.generation),
            ..step(if same { Action::Move } else { Action::Update }, new.generation, count)
        });
    };
    let of_generation = |part: &Part| part.generation;
    for generation in more.iter().map(of_generation).collect::<BTreeSet<_>>() {
        let mut new: Vec<&mut Part> = more.iter_mut().filter(|part| part.generation == generation).collect();
        let mut old: Vec<&mut Part> = fewer.iter_mut().filter(|part| part.generation == generation).collect();
        pair(&mut new, &mut old, &mut moved);
    }
    // On one host first: there nothing moves.
    let mut on_host: BTreeMap<HostId, Vec<&mut Part>> = BTreeMap::new();
    for old in &mut fewer {
        on_host.entry(old.host.clone()).or_default().push(old);
    }
    for new in &mut more {
        if let Some(old) = on_host.get_mut(&new.host) {
            pair(&mut [new], old, &mut moved);
        }
    }
    pair(
        &mut more.iter_mut().collect::<Vec<_>>(),
        &mut fewer.iter_mut().collect::<Vec<_>>(),
        &mut moved,
    );
    for part in more.iter().filter(|part| part.count > 0) {
        let replaced = older_placed(before, id, part.generation);
        let action = if replaced.is_some() {
            Action::Update
        } else {
            Action::Start
        };
        steps.push(Step {
            to: Some(part.host.clone()),
            before: replaced,
            ..step(action, part.generation, part.count)
        });
    }
    for part in fewer.iter().filter(|part| part.count > 0) {
        steps.push(Step {
            from: Some(part.host.clone()),
            ..step(Action::Stop, part.generation, part.count)
        });
    }
    steps
}

/// Takes replicas that are more together with replicas that are fewer and of the same or an earlier generation, in their
/// order.
fn pair(more: &mut [&mut Part], fewer: &mut [&mut Part], take: &mut impl FnMut(&Part, &Part, u32)) {
    let mut olds = fewer.iter_mut().peekable();
    for new in more {
        while let Some(old) = olds.peek_mut().filter(|old| old.generation <= new.generation) {
            let count = new.count.min(old.count);
            if count > 0 {
                take(new, old, count);
                (new.count, old.count) = (new.count - count, old.count - count);
            }
            if old.count > 0 {
                break;
            }
            olds.next();
        }
    }
}

/// The newest earlier generation of which replicas are placed: those stop once the new ones are ready.
fn older_placed(before: &World, id: &WorkloadId, generation: Generation) -> Option<Generation> {
    let sets = before.places.get(id).into_iter().flat_map(|place| &place.sets);
    sets.map(|set| set.generation).filter(|older| *older < generation).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fleet, host, id};

    fn change(generation: u64, on: &str, before: u32, after: u32) -> PlacementChange {
        serde_json::from_value(serde_json::json!({
            "workload": "default/web", "generation": generation, "host": host(on), "before": before, "after": after,
        }))
        .unwrap()
    }

    fn told(before: &World, changes: &[PlacementChange]) -> Vec<String> {
        steps(before, changes).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_fewer_here_and_one_more_there_is_a_move() {
        let world = fleet().world;
        let changes = [change(2, "a", 3, 1), change(2, "b", 0, 1), change(2, "c", 1, 3)];
        assert_eq!(
            told(&world, &changes),
            [
                "> default/web@2 ×1 from a to b",
                "> default/web@2 ×1 from a to c",
                "+ default/web@2 ×1 on c"
            ]
        );
    }

    #[test]
    fn a_newer_generation_takes_the_place_of_the_older_one() {
        let world = fleet().world;
        let changes = [
            change(3, "a", 0, 2),
            change(3, "b", 0, 1),
            change(2, "a", 1, 0),
            change(2, "c", 4, 0),
        ];
        assert_eq!(
            told(&world, &changes),
            [
                "~ default/web@2→3 ×1 on a",
                "~ default/web@2→3 ×1 from c to a",
                "~ default/web@2→3 ×1 from c to b",
                "- default/web@2 ×2 on c"
            ]
        );
    }

    #[test]
    fn what_starts_beside_an_older_generation_is_an_update() {
        let mut fleet = fleet().hosts(2).workload("web", 1).ready();
        let changes = [change(2, "host-2", 0, 1)];
        assert_eq!(told(&fleet.world, &changes), ["~ default/web@1→2 ×1 on host-2"]);
        fleet.commit(&[crate::Write {
            key: heddle_protocol::key::Key::Workload(id("web")),
            value: None,
        }]);
        assert_eq!(told(&fleet.world, &changes), ["+ default/web@2 ×1 on host-2"]);
    }
}
