//! A past decision, made again.

use super::table::Style;
use super::{count, printable};
use heddle_protocol::api::replay::Replayed;

/// What was asked for, what follows from it, and whether that is what was decided.
pub fn draw(replayed: &Replayed, _: Style) -> String {
    let mut text = format!(
        "commit:   {} of epoch {}\nat:       {}\nplanner:  {}\n",
        replayed.commit,
        replayed.epoch,
        replayed.at,
        printable(&replayed.planner)
    );
    for key in &replayed.asked {
        text.push_str(&format!("asked:    {}\n", printable(key)));
    }
    for change in &replayed.changes {
        text.push_str(&printable(&change.to_string()));
        text.push('\n');
    }
    if replayed.changes.is_empty() {
        text.push_str("no replica started or stopped\n");
    }
    for waited in &replayed.waiting {
        let line = format!("! {} waited: {}", waited.workload, waited.on);
        text.push_str(&printable(&line));
        text.push('\n');
    }
    if replayed.more {
        text.push_str("and more, which is not listed\n");
    }
    if replayed.same {
        text.push_str("made again, the decision is the same\n");
    } else {
        let names: Vec<String> = replayed.different.iter().map(ToString::to_string).collect();
        text.push_str(&format!(
            "made again, the decision differs for {}: {}\n",
            count(names.len() as u64, "workload"),
            printable(&names.join(", "))
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn replayed(same: bool) -> Replayed {
        serde_json::from_value(json!({
            "commit": 42, "epoch": 2, "at": 0, "planner": "p/1", "planner_now": "p/2", "same": same,
            "different": if same { vec![] } else { vec!["shop/cart"] },
            "asked": ["workload.shop.cart\u{1b}"],
            "changes": [{"workload": "shop/cart", "generation": 2, "host": "h-1", "before": 0, "after": 3}],
            "waiting": [{"workload": "shop/tax", "on": {"on": "hosts", "missing": 1, "rejections": []}}],
            "more": true,
        }))
        .unwrap()
    }

    #[test]
    fn a_decision_is_shown_with_what_was_asked_and_whether_it_is_the_same() {
        let text = draw(&replayed(true), Style::Plain);
        for line in [
            "commit:   42 of epoch 2\n",
            "asked:    workload.shop.cart\\u{1b}\n",
            "+ shop/cart@2 ×3 on h-1\n",
            "! shop/tax waited: 1 not placed",
            "and more, which is not listed\n",
            "made again, the decision is the same\n",
        ] {
            assert!(text.contains(line), "{line:?} is missing in {text}");
        }
        let text = draw(&replayed(false), Style::Plain);
        assert!(
            text.ends_with("made again, the decision differs for 1 workload: shop/cart\n"),
            "{text}"
        );
    }
}
