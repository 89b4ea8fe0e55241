//! `logs`: asks the hosts of a workload for its lines and puts them together, outside the loop.

use crate::serve::plain;
use bytes::Bytes;
use futures::StreamExt as _;
use heddle_protocol::api::ApiError;
use heddle_protocol::api::logs::{LogLines, Logs};
use heddle_protocol::defaults::LOG_LINES_KEPT;
use heddle_protocol::envelope;
use heddle_protocol::id::{HostId, Realm};
use heddle_protocol::subject::{HostVerb, Subject};
use std::collections::BTreeSet;
use std::time::Duration;

/// Hosts asked at the same time.
const HOSTS_AT_ONCE: usize = 32;
/// How long a host may take.
const HOST_WITHIN: Duration = Duration::from_secs(2);
/// Lines in one answer.
const LINES_MAX: usize = 2_000;
/// Bytes of text in one answer: it must fit one NATS message with room to spare.
const BYTES_MAX: usize = 400 << 10;

/// Asks every host, and answers with what came.
pub async fn collect(
    client: async_nats::Client,
    realm: Realm,
    hosts: BTreeSet<HostId>,
    mut ask: Logs,
) -> Result<(serde_json::Value, Bytes), ApiError> {
    ask.tail = ask.tail.min(LOG_LINES_KEPT as u32);
    let answers: Vec<(HostId, Option<LogLines>)> = futures::stream::iter(hosts)
        .map(|host| {
            let (client, subject) = (
                client.clone(),
                Subject::Host(realm.clone(), host.clone(), HostVerb::Logs),
            );
            let body = envelope::to_bytes("log request", &ask).unwrap_or_default();
            async move {
                let request = async_nats::Request::new()
                    .payload(body.into())
                    .timeout(Some(HOST_WITHIN));
                let reply = client.send_request(subject.to_string(), request).await.ok();
                let lines = reply.and_then(|r| envelope::read::<LogLines>("log lines", &r.payload).ok());
                (host, lines)
            }
        })
        .buffer_unordered(HOSTS_AT_ONCE)
        .collect()
        .await;
    plain(&merge(answers))
}

fn merge(answers: Vec<(HostId, Option<LogLines>)>) -> LogLines {
    let mut merged = LogLines::default();
    for (host, answer) in answers {
        match answer {
            Some(answer) => merged.lines.extend(answer.lines.into_iter().map(|mut line| {
                // A host speaks for itself alone.
                line.host = host.clone();
                line
            })),
            None => merged.silent.push(host),
        }
    }
    merged.silent.sort();
    merged
        .lines
        .sort_by(|a, b| (a.at, &a.host, a.seq).cmp(&(b.at, &b.host, b.seq)));
    let mut bytes = 0;
    let kept = merged
        .lines
        .iter()
        .rev()
        .take(LINES_MAX)
        .take_while(|line| {
            bytes += line.text.len() + 200;
            bytes <= BYTES_MAX
        })
        .count();
    merged.lines.drain(..merged.lines.len() - kept);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::api::logs::LogLine;
    use heddle_protocol::id::Generation;
    use heddle_protocol::time::UnixMs;

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
        let merged = merge(vec![
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
        let merged = merge(vec![(
            "a".parse().unwrap(),
            Some(LogLines {
                lines,
                silent: Vec::new(),
            }),
        )]);
        assert!(merged.lines.len() < 400);
        assert_eq!(merged.lines.last().map(|l| l.seq), Some(4_999));
    }
}
