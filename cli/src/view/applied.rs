//! What an apply, plan, delete or undo did or would do.

use super::table::{Cell, Style, Table, Tone};
use super::{count, printable};
use heddle_protocol::api::apply::{Applied, AppliedObject, Change};
use heddle_protocol::api::step::{Action, Step};
use heddle_protocol::report::WaitingOn;

/// What was done: each object, then what starts and stops where, then what waits.
pub fn done(applied: &Applied, style: Style) -> String {
    draw(applied, style, |object| object.change.as_str().to_owned())
}

/// What would be done.
pub fn planned(applied: &Applied, style: Style) -> String {
    let mut text = draw(applied, style, |object| match object.change {
        Change::Created => "would be created".to_owned(),
        Change::Updated => "would be updated".to_owned(),
        Change::Unchanged => "unchanged".to_owned(),
        Change::Deleted => "would be deleted".to_owned(),
    });
    let steps = steps(&applied.steps);
    match steps.as_str() {
        "" => text.push_str("no replica would start or stop\n"),
        steps => text.push_str(&format!("replicas: {steps}\n")),
    }
    let line = format!(
        "as of commit {0}; nothing was changed; `heddle apply -f FILE --at {0}` does this, or refuses",
        applied.commit
    );
    text.push_str(&Tone::Dim.paint(&line, style));
    text.push('\n');
    text
}

/// How many replicas start, stop, and so on: `3 start, 1 move`.
fn steps(steps: &[Step]) -> String {
    let count = |action: &Action| -> u64 {
        let mine = steps.iter().filter(|step| step.action == *action);
        mine.map(|step| u64::from(step.count)).sum()
    };
    let each = Action::ALL.iter().map(|action| (count(action), action.as_str()));
    let each = each.filter(|(count, _)| *count > 0);
    each.map(|(count, word)| format!("{count} {word}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn draw(applied: &Applied, style: Style, word: impl Fn(&AppliedObject) -> String) -> String {
    let mut text = String::new();
    let mut table = Table::new(&["OBJECT", "GENERATION", "CHANGE"]);
    for object in &applied.objects {
        let name = format!("{} {}", object.kind, object.name);
        table.row([
            name.into(),
            generation(object).into(),
            Cell::toned(word(object), tone(object.change)),
        ]);
    }
    if !table.is_empty() {
        text.push_str(&table.render(style));
    }
    for step in &applied.steps {
        let tone = match step.action {
            Action::Start => Tone::Good,
            Action::Move | Action::Update => Tone::Plain,
            Action::Stop | Action::Preempt => Tone::Warn,
        };
        text.push_str(&format!("{}\n", tone.paint(&step.to_string(), style)));
    }
    // What is placed is on its way, and whoever waits is told how far; without a place nothing moves.
    for waiting in applied
        .waiting
        .iter()
        .filter(|waiting| !matches!(waiting.on, WaitingOn::Units { .. }))
    {
        let line = printable(&format!("! {} waits: {}", waiting.workload, waiting.on));
        text.push_str(&format!("{}\n", Tone::Warn.paint(&line, style)));
    }
    for note in &applied.notes {
        text.push_str(&format!("note: {}\n", printable(note)));
    }
    text
}

/// Hosts have no generations.
fn generation(object: &AppliedObject) -> String {
    if object.generation.0 == 0 {
        String::new()
    } else {
        object.generation.to_string()
    }
}

fn tone(change: Change) -> Tone {
    match change {
        Change::Created => Tone::Good,
        Change::Updated | Change::Deleted => Tone::Warn,
        Change::Unchanged => Tone::Dim,
    }
}

/// The same in one line, for messages: `2 created, 1 updated`.
pub fn summary(applied: &Applied) -> String {
    let all = [Change::Created, Change::Updated, Change::Unchanged, Change::Deleted];
    let parts: Vec<String> = all
        .into_iter()
        .map(|change| (change, applied.objects.iter().filter(|o| o.change == change).count()))
        .filter(|(_, n)| *n > 0)
        .map(|(change, n)| format!("{n} {}", change.as_str()))
        .collect();
    if parts.is_empty() {
        count(0, "object")
    } else {
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn applied() -> Applied {
        serde_json::from_value(json!({
            "commit": 41,
            "objects": [
                {"kind": "Platform", "name": "local", "generation": 1, "change": "unchanged"},
                {"kind": "Workload", "name": "shop/cart", "generation": 3, "change": "updated"},
            ],
            "changes": [
                {"workload": "shop/cart", "generation": 3, "host": "host-b", "before": 0, "after": 2},
                {"workload": "shop/cart", "generation": 2, "host": "host-a", "before": 2, "after": 0},
            ],
            "steps": [
                {"action": "update", "workload": "shop/cart", "generation": 3, "count": 2, "before": 2,
                 "from": "host-a", "to": "host-b"},
                {"action": "preempt", "workload": "shop/batch", "generation": 1, "count": 1, "from": "host-b",
                 "roomFor": "shop/cart"},
            ],
            "waiting": [
                {"workload": "shop/cart", "on": {"on": "units", "starting": 2}},
                {"workload": "shop/cart", "on": {"on": "hosts", "missing": 1, "rejections": []}},
            ],
            "notes": ["import wasi:config/store of api is met by config"],
        }))
        .unwrap()
    }

    #[test]
    fn an_apply_lists_objects_then_replicas_then_what_waits() {
        assert_eq!(
            done(&applied(), Style::Plain),
            "OBJECT              GENERATION  CHANGE\n\
             Platform local      1           unchanged\n\
             Workload shop/cart  3           updated\n\
             ~ shop/cart@2→3 ×2 from host-a to host-b\n\
             ! shop/batch@1 ×1 on host-b, to make room for shop/cart\n\
             ! shop/cart waits: 1 not placed: the fleet has no host\n\
             note: import wasi:config/store of api is met by config\n"
        );
        assert_eq!(summary(&applied()), "1 updated, 1 unchanged");
    }

    #[test]
    fn a_plan_says_that_nothing_was_changed() {
        let mut plan = applied();
        let text = planned(&plan, Style::Plain);
        assert!(
            text.contains("would be updated") && text.contains("replicas: 2 update, 1 preempt\n"),
            "{text}"
        );
        plan.changes.clear();
        plan.steps.clear();
        let text = planned(&plan, Style::Plain);
        assert!(
            text.contains("no replica would start or stop\nas of commit 41; nothing was changed; "),
            "{text}"
        );
    }
}
