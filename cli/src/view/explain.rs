//! Why a workload is where it is, or why it is not.

use super::table::{Style, Table, Tone};
use super::{count, printable, status};
use heddle_protocol::api::explain::Explanation;

/// Most hosts whose own verdicts are shown; `--json` has all that were sent.
const HOSTS_SHOWN: usize = 10;

/// What the planner knew.
pub fn draw(explanation: &Explanation, style: Style) -> String {
    let mut text = format!(
        "{}\n{}",
        explanation.status.workload,
        status::describe(&explanation.status, style)
    );
    if !explanation.spread.is_empty() {
        text.push_str(&format!("spread:      {}\n", printable(&explanation.spread)));
    }
    if !explanation.chosen.is_empty() {
        text.push_str("\nwhy these hosts\n");
        let mut table = Table::new(&["HOST", "REPLICAS", "WHY"]);
        for chosen in &explanation.chosen {
            table.row([
                chosen.host.to_string().into(),
                chosen.count.to_string().into(),
                printable(&chosen.why).into(),
            ]);
        }
        text.push_str(&table.render(style));
    }
    if !explanation.refused.is_empty() {
        text.push_str("\nwhy no other host takes one more\n");
        for refused in &explanation.refused {
            let line = format!(
                "{}: {} (such as {})",
                count(u64::from(refused.hosts), "host"),
                refused.rejection,
                refused.example
            );
            text.push_str(&format!("  {}\n", printable(&line)));
        }
    }
    let several: Vec<_> = explanation
        .hosts
        .iter()
        .filter(|verdict| verdict.rejections.len() > 1)
        .collect();
    if !several.is_empty() {
        text.push_str("\nhosts with more than one reason\n");
        for verdict in several.iter().take(HOSTS_SHOWN) {
            let reasons: Vec<String> = verdict.rejections.iter().map(ToString::to_string).collect();
            text.push_str(&format!("  {}: {}\n", verdict.host, printable(&reasons.join("; "))));
        }
        if several.len() > HOSTS_SHOWN {
            text.push_str(&format!("  and {} more\n", several.len() - HOSTS_SHOWN));
        }
    }
    if !explanation.would_help.is_empty() {
        text.push_str("\nwhat would help\n");
        for help in &explanation.would_help {
            text.push_str(&format!("  {}\n", Tone::Good.paint(&printable(help), style)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_explanation_ends_with_what_would_help() {
        let explanation: Explanation = serde_json::from_value(json!({
            "commit": 7,
            "status": {
                "workload": "default/web", "generation": 1, "state": "waiting",
                "desired": 2, "placed": 1, "ready": 1, "ready_old": 0,
                "units": [{"host": "host-1", "generation": 1, "count": 1, "phase": "ready"}],
                "waiting": [{"on": "hosts", "missing": 1, "rejections": [
                    {"rejection": {"rule": "label", "label": "zone", "wanted": "a", "found": "b"}, "hosts": 2, "example": "host-2"}]}],
            },
            "spread": "evenly over hosts",
            "chosen": [{"host": "host-1", "count": 1, "why": "fewest replicas"}],
            "refused": [{"rejection": {"rule": "label", "label": "zone", "wanted": "a", "found": "b"}, "hosts": 2, "example": "host-2"}],
            "hosts": [
                {"host": "host-2", "rejections": [{"rule": "label", "label": "zone", "wanted": "a", "found": "b"}, {"rule": "cordoned"}]},
                {"host": "host-3", "rejections": [{"rule": "label", "label": "zone", "wanted": "a", "found": "b"}]},
            ],
            "would_help": ["give host-2 the label zone=a"],
        }))
        .unwrap();
        assert_eq!(
            draw(&explanation, Style::Plain),
            "default/web\n\
             status:      waiting, 1/2 ready at generation 1\n\
             waits:       1 not placed: 2 hosts: label zone is b, needs a\n\
             HOST    GENERATION  REPLICAS  PHASE\n\
             host-1  1           1         ready\n\
             spread:      evenly over hosts\n\
             \nwhy these hosts\n\
             HOST    REPLICAS  WHY\n\
             host-1  1         fewest replicas\n\
             \nwhy no other host takes one more\n  2 hosts: label zone is b, needs a (such as host-2)\n\
             \nhosts with more than one reason\n  host-2: label zone is b, needs a; cordoned\n\
             \nwhat would help\n  give host-2 the label zone=a\n"
        );
    }
}
