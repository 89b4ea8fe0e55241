//! How past commits came to be: a line for each, or one in full.

use super::table::{Style, Table};
use super::{count, printable};
use heddle_protocol::api::audit::AuditList;
use heddle_protocol::record::{AuditRecord, AuditedChange};

/// Records listed of one commit; `--json` has all.
const CHANGES_SHOWN: usize = 50;

/// One line per commit, the newest first.
pub fn table(list: &AuditList, style: Style) -> String {
    if list.records.is_empty() {
        return "no audit records are kept\n".to_owned();
    }
    let mut table = Table::new(&["COMMIT", "AT", "BY", "WHAT", "RECORDS", "LEARNED"]);
    for record in &list.records {
        let who: Vec<&str> = record.requests.iter().map(|r| r.actor.as_str()).collect();
        table.row([
            record.n.to_string().into(),
            record.at.to_string().into(),
            printable(&some(&who)).into(),
            printable(&what(record)).into(),
            record.changes.len().to_string().into(),
            printable(&some(&record.facts.iter().map(String::as_str).collect::<Vec<_>>())).into(),
        ]);
    }
    let mut text = table.render(style);
    if list.more {
        text.push_str("older ones did not fit into one answer; name a commit, or fewer with --last\n");
    }
    text
}

/// The first, and how many more.
fn some(all: &[&str]) -> String {
    match all {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

/// What was asked for; a commit that nobody asked for follows from what was learned.
fn what(record: &AuditRecord) -> String {
    match record.requests.as_slice() {
        [] => "placed anew".to_owned(),
        requests => some(&requests.iter().map(|r| r.verb.as_str()).collect::<Vec<_>>()),
    }
}

/// Everything about each commit that is listed.
pub fn describe(list: &AuditList, _: Style) -> String {
    list.records.iter().map(one).collect()
}

fn one(record: &AuditRecord) -> String {
    let mut text = format!(
        "commit:   {} of epoch {}\nat:       {}\nplanner:  {}\n",
        record.n,
        record.epoch,
        record.at,
        printable(&record.planner)
    );
    for request in &record.requests {
        let line = format!(
            "request:  {} by {} ({})",
            request.verb, request.actor, request.request_id
        );
        text.push_str(&printable(&line));
        text.push('\n');
        if let Some(notes) = request.result.get("notes").and_then(|notes| notes.as_array()) {
            let notes = notes.iter().filter_map(|note| note.as_str());
            notes.for_each(|note| text.push_str(&format!("  note: {}\n", printable(note))));
        }
    }
    for fact in &record.facts {
        text.push_str(&format!("learned:  {}\n", printable(fact)));
    }
    text.push_str(&format!("records:  {}\n", count(record.changes.len() as u64, "change")));
    for change in record.changes.iter().take(CHANGES_SHOWN) {
        text.push_str(&format!("  {}\n", printable(&line(change))));
    }
    if record.changes.len() > CHANGES_SHOWN {
        text.push_str(&format!("  and {} more\n", record.changes.len() - CHANGES_SHOWN));
    }
    text
}

fn line(change: &AuditedChange) -> String {
    match (&change.before, &change.after) {
        (None, Some(after)) => format!("{} made: {}", change.key, after.short()),
        (Some(before), None) => format!("{} deleted: was {}", change.key, before.short()),
        (Some(before), Some(after)) => format!("{} changed: {} → {}", change.key, before.short(), after.short()),
        (None, None) => format!("{} deleted, and was not there", change.key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::digest::Digest;
    use heddle_protocol::id::RequestId;
    use heddle_protocol::record::AuditedRequest;
    use heddle_protocol::time::UnixMs;

    fn list() -> AuditList {
        let request = AuditedRequest {
            request_id: RequestId::new("r-1"),
            actor: "ann\u{1b}".into(),
            verb: "apply".into(),
            body_digest: Digest::of(b"body"),
            result: serde_json::json!({"commit": 42, "notes": ["a note"]}),
        };
        let change = AuditedChange {
            key: "workload.shop.cart".into(),
            before: None,
            after: Some(Digest::of(b"record")),
        };
        let record = |n, requests, facts: &[&str]| AuditRecord {
            n,
            epoch: 2,
            at: UnixMs(0),
            planner: "0.1.0".into(),
            requests,
            facts: facts.iter().map(|fact| (*fact).to_owned()).collect(),
            changes: vec![change.clone()],
        };
        AuditList {
            commit: 43,
            records: vec![
                record(43, Vec::new(), &["host-lost h-2: silent", "host-lost h-3: silent"]),
                record(42, vec![request], &[]),
            ],
            more: false,
        }
    }

    #[test]
    fn a_commit_is_one_line_with_who_asked_and_what_was_learned() {
        assert_eq!(
            table(&list(), Style::Plain),
            "COMMIT  AT                        BY         WHAT         RECORDS  LEARNED\n\
             43      1970-01-01T00:00:00.000Z  -          placed anew  1        host-lost h-2: silent and 1 more\n\
             42      1970-01-01T00:00:00.000Z  ann\\u{1b}  apply        1\n"
        );
    }

    #[test]
    fn a_commit_in_full_lists_requests_facts_and_records() {
        let text = describe(&list(), Style::Plain);
        let short = Digest::of(b"record").short();
        for line in [
            "commit:   43 of epoch 2\n".to_owned(),
            "learned:  host-lost h-3: silent\n".to_owned(),
            "request:  apply by ann\\u{1b} (r-1)\n  note: a note\n".to_owned(),
            format!("records:  1 change\n  workload.shop.cart made: {short}\n"),
        ] {
            assert!(text.contains(&line), "{line:?} is missing in {text}");
        }
    }
}
