//! Why a workload is where it is, or why it is not.

use super::table::Style;
use super::{printable, status};
use heddle_protocol::api::explain::Explanation;

/// What the planner knew.
pub fn draw(explanation: &Explanation, style: Style) -> String {
    let mut text = format!(
        "{}\n{}",
        explanation.status.workload,
        status::describe(&explanation.status, style)
    );
    for line in explanation.to_string().lines() {
        text.push_str(&printable(line));
        text.push('\n');
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
            "wishes": "evenly over hosts",
            "chosen": [{"host": "host-1", "count": 1, "why": "fits", "second": {"host": "host-4", "why": "it is fuller"}}],
            "open": 1,
            "refusing": [
                {"hosts": 1, "nearest": "host-3", "rejections": [{"rule": "label", "label": "zone", "wanted": "a", "found": "b\u{1b}"}]},
                {"hosts": 2, "nearest": "host-2", "rejections": [{"rule": "memory", "neededBytes": 2048, "freeBytes": 1024}, {"rule": "cordoned"}]},
            ],
            "nearest": [],
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
             wishes: evenly over hosts\n\
             \nwhy it is where it is\n  host-1 ×1: fits\n    rather than host-4: it is fuller\n\
             \n1 host would take one more; why the others would not\n  host-3: label zone is b\\u{1b}, needs a\n  \
             2 hosts: 1Ki of memory free, a replica needs 2Ki; cordoned (host-2 is nearest)\n\
             \nwhat would help\n  give host-2 the label zone=a\n"
        );
    }
}
