//! `logs`: asks the hosts of a workload for its lines and puts them together, outside the loop.

use crate::outside::Around;
use crate::serve::plain;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use heddle_protocol::api::ApiError;
use heddle_protocol::api::logs::{LogLine, LogLines, Logs};
use heddle_protocol::defaults::LOG_LINES_KEPT;
use heddle_protocol::envelope;
use heddle_protocol::id::{HostId, Realm};
use heddle_protocol::subject::{HostVerb, Subject};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Hosts asked at the same time.
const HOSTS_AT_ONCE: usize = 32;
/// How long a host may take.
const HOST_WITHIN: Duration = Duration::from_secs(2);
/// Lines in one answer.
const LINES_MAX: usize = 2_000;
/// Bytes of lines in one answer: it must fit one NATS message with room to spare.
const BYTES_MAX: usize = 400 << 10;

/// Asks every host, and answers with what came.
pub async fn collect(
    outside: Around,
    realm: Realm,
    hosts: BTreeSet<HostId>,
    mut ask: Logs,
) -> Result<(serde_json::Value, Bytes), ApiError> {
    ask.tail = ask.tail.min(LOG_LINES_KEPT as u32);
    let answers = futures::stream::iter(hosts)
        .map(|host| {
            let (outside, subject) = (
                Arc::clone(&outside),
                Subject::Host(realm.clone(), host.clone(), HostVerb::Logs),
            );
            let body = envelope::to_bytes("log request", &ask).unwrap_or_default();
            async move {
                let reply = outside
                    .request(&subject.to_string(), body.into(), HOST_WITHIN)
                    .await
                    .ok();
                let lines = reply.and_then(|r| envelope::read::<LogLines>("log lines", &r.payload).ok());
                (host, lines)
            }
        })
        .buffer_unordered(HOSTS_AT_ONCE);
    plain(&merge(answers).await)
}

async fn merge(answers: impl Stream<Item = (HostId, Option<LogLines>)>) -> LogLines {
    let mut answers = std::pin::pin!(answers);
    let mut merged = LogLines::default();
    while let Some((host, answer)) = answers.next().await {
        match answer {
            Some(answer) => merged.lines.extend(answer.lines.into_iter().map(|mut line| {
                // A host speaks for itself alone.
                line.host = host.clone();
                line
            })),
            None => merged.silent.push(host),
        }
        // Thousands of hosts may have a megabyte each to say.
        if merged.lines.len() > 4 * LINES_MAX {
            keep_newest(&mut merged.lines);
        }
    }
    merged.silent.sort();
    keep_newest(&mut merged.lines);
    let mut bytes = 0;
    let kept = merged
        .lines
        .iter()
        .rev()
        .take_while(|line| {
            // As it is sent: JSON writes a control character in six bytes.
            bytes += serde_json::to_vec(line).map_or(BYTES_MAX, |json| json.len() + 1);
            bytes <= BYTES_MAX
        })
        .count();
    merged.lines.drain(..merged.lines.len() - kept);
    merged
}

/// Orders lines by time, and keeps the newest.
fn keep_newest(lines: &mut Vec<LogLine>) {
    lines.sort_by(|a, b| (a.at, &a.host, a.seq).cmp(&(b.at, &b.host, b.seq)));
    lines.drain(..lines.len().saturating_sub(LINES_MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::id::Generation;
    use heddle_protocol::time::UnixMs;

    fn merged(answers: Vec<(HostId, Option<LogLines>)>) -> LogLines {
        futures::executor::block_on(merge(futures::stream::iter(answers)))
    }

    fn line(host: &str, seq: u64, at: u64) -> LogLine {
        LogLine {
            host: host.parse().unwrap(),
            seq,
            at: UnixMs(at),
            generation: Generation(1),
            component: "c".parse().unwrap(),
            level: "info".into(),
            text: "x".repeat(1000),
        }
    }

    #[test]
    fn lines_of_several_hosts_are_ordered_by_time() {
        let a = LogLines {
            lines: vec![line("a", 1, 5), line("a", 2, 9)],
            silent: Vec::new(),
        };
        let b = LogLines {
            lines: vec![line("b", 1, 7)],
            silent: Vec::new(),
        };
        let merged = merged(vec![
            ("a".parse().unwrap(), Some(a)),
            ("c".parse().unwrap(), None),
            ("b".parse().unwrap(), Some(b)),
        ]);
        assert_eq!(merged.lines.iter().map(|l| l.at.0).collect::<Vec<_>>(), [5, 7, 9]);
        assert_eq!(merged.silent, ["c".parse().unwrap()]);
    }

    #[test]
    fn an_answer_is_bounded_and_keeps_the_newest() {
        let lines = (0..5_000).map(|i| line("a", i, i)).collect();
        let merged = merged(vec![(
            "a".parse().unwrap(),
            Some(LogLines {
                lines,
                silent: Vec::new(),
            }),
        )]);
        assert!(merged.lines.len() < 400);
        assert_eq!(merged.lines.last().map(|l| l.seq), Some(4_999));
    }

    #[test]
    fn lines_of_odd_bytes_fit_one_message_too() {
        let mut odd: Vec<LogLine> = (0..2_000).map(|i| line("a", i, i)).collect();
        odd.iter_mut().for_each(|line| line.text = "\u{1b}".repeat(1_000));
        let merged = merged(vec![(
            "a".parse().unwrap(),
            Some(LogLines {
                lines: odd,
                silent: Vec::new(),
            }),
        )]);
        assert!(!merged.lines.is_empty());
        assert!(serde_json::to_vec(&merged).unwrap().len() < 500_000);
    }
}
