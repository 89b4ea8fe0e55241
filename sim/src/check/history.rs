//! ONE-HISTORY: commit numbers have no gap, epochs never go back, and an epoch has one leader.

use crate::truth::Truth;
use heddle_scheduler::store::Head;

/// Looks at the newest head and the one before it.
pub fn check(truth: &Truth, before: Option<&Head>, broken: &mut Vec<(&'static str, String)>) {
    let Some(head) = &truth.head else { return };
    let (n, epoch) = before.map_or((0, 0), |before| (before.n, before.epoch));
    if head.n != n + 1 {
        broken.push(("one-history", format!("commit {} follows commit {n}", head.n)));
    }
    if head.epoch < epoch {
        broken.push(("one-history", format!("epoch {} follows epoch {epoch}", head.epoch)));
    }
    if let Some(before) = before
        && before.epoch == head.epoch
        && before.leader_id != head.leader_id
    {
        let what = format!("epoch {epoch} is led by {} and by {}", before.leader_id, head.leader_id);
        broken.push(("one-leader", what));
    }
}
