//! What an apply, plan, delete or undo did or would do.

use super::table::{Cell, Style, Table, Tone};
use super::{count, printable};
use heddle_protocol::api::apply::{Applied, AppliedObject, Change};
use heddle_protocol::report::WaitingOn;

/// What was done: each object, then what starts and stops where, then what waits.
pub fn done(applied: &Applied, style: Style) -> String {
    draw(applied, style, |object| object.change.as_str().to_owned())
}

/// What would be done, exactly.
pub fn planned(applied: &Applied, style: Style) -> String {
    let mut text = draw(applied, style, |object| match object.change {
        Change::Created => "would be created".to_owned(),
        Change::Updated => "would be updated".to_owned(),
        Change::Unchanged => "unchanged".to_owned(),
        Change::Deleted => "would be deleted".to_owned(),
    });
    if applied.changes.is_empty() {
        text.push_str("no replica would start or stop\n");
    }
    text.push_str(&Tone::Dim.paint(&format!("as of commit {}; nothing was changed", applied.commit), style));
    text.push('\n');
    text
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
    for change in &applied.changes {
        let tone = if change.after >= change.before {
            Tone::Good
        } else {
            Tone::Warn
        };
        text.push_str(&format!("{}\n", tone.paint(&change.to_string(), style)));
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
             + shop/cart@3 ×2 on host-b\n\
             - shop/cart@2 ×2 on host-a\n\
             ! shop/cart waits: 1 not placed: the fleet has no host\n\
             note: import wasi:config/store of api is met by config\n"
        );
        assert_eq!(summary(&applied()), "1 updated, 1 unchanged");
    }

    #[test]
    fn a_plan_says_that_nothing_was_changed() {
        let mut plan = applied();
        plan.changes.clear();
        let text = planned(&plan, Style::Plain);
        assert!(text.contains("would be updated"), "{text}");
        assert!(
            text.ends_with("no replica would start or stop\nas of commit 41; nothing was changed\n"),
            "{text}"
        );
    }
}
