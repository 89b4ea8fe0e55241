//! Events and log lines: one line each.

use super::printable;
use super::table::{Style, Tone};
use heddle_protocol::api::events::Event;
use heddle_protocol::api::logs::LogLine;

/// One event.
pub fn event(event: &Event, style: Style) -> String {
    let time = Tone::Dim.paint(&event.at.to_string(), style);
    format!(
        "{time}  {:<20}  {}  {}\n",
        printable(&event.kind),
        printable(&event.about),
        printable(&event.message)
    )
}

/// One line of a component's log.
pub fn log_line(line: &LogLine, style: Style) -> String {
    let time = Tone::Dim.paint(&line.at.to_string(), style);
    let level = match line.level.as_str() {
        "error" | "critical" | "stderr" => Tone::Bad,
        "warn" => Tone::Warn,
        _ => Tone::Dim,
    };
    let level = level.paint(&format!("{:<6}", printable(&line.level)), style);
    format!(
        "{time}  {}  {}@{}  {level}  {}\n",
        line.host,
        line.component,
        line.generation,
        printable(&line.text)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_log_line_tells_when_where_and_who() {
        let line: LogLine = serde_json::from_value(json!({
            "host": "host-1", "seq": 4, "at": 0, "generation": 2, "component": "api", "level": "info", "text": "hit\u{7}",
        }))
        .unwrap();
        let text = log_line(&line, Style::Plain);
        assert_eq!(text, "1970-01-01T00:00:00.000Z  host-1  api@2  info    hit\\u{7}\n");
    }
}
