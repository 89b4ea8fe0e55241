//! What happened, for `heddle events`: the newest few thousand, in memory.

use crate::outbox::clip;
use heddle_protocol::api::events::{Event, EventList, Events};
use heddle_protocol::defaults::{EVENTS_KEPT, PAGE_ITEMS};
use heddle_protocol::time::UnixMs;
use std::collections::VecDeque;

/// Longest text of an event, in bytes: thousands are kept, and hosts' own words stand in them.
const MESSAGE_BYTES_MAX: usize = 500;
/// Bytes of one page: it must fit one NATS message with room to spare.
const PAGE_BYTES_MAX: usize = 400 << 10;

/// The newest events.
#[derive(Debug, Default)]
pub struct EventLog {
    events: VecDeque<Event>,
    seq: u64,
}

impl EventLog {
    /// Notes something that happened.
    pub fn note(&mut self, at: UnixMs, commit: u64, kind: &str, about: impl Into<String>, message: impl Into<String>) {
        self.seq += 1;
        let event = Event {
            seq: self.seq,
            at,
            commit,
            kind: kind.to_owned(),
            about: about.into(),
            message: clip(message.into(), MESSAGE_BYTES_MAX),
        };
        // A large fleet tells of a million units at once: writing each into the log would be most of the work.
        match kind.starts_with("unit-") {
            true => tracing::debug!(kind = event.kind, about = event.about, commit, "{}", event.message),
            false => tracing::info!(kind = event.kind, about = event.about, commit, "{}", event.message),
        }
        if self.events.len() >= EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The events that somebody asks for.
    pub fn list(&self, ask: &Events) -> EventList {
        let oldest = self.events.front().map_or(self.seq + 1, |e| e.seq);
        // A number that was not given yet is of a scheduler before this one.
        let of_another = ask.after > self.seq;
        let after = if of_another { 0 } else { ask.after };
        let about = |e: &&Event| ask.about.as_deref().is_none_or(|about| e.about == about);
        let matching = self.events.iter().filter(|e| e.seq > after).filter(about);
        let page = match ask.last as usize {
            0 => PAGE_ITEMS,
            last => last.min(PAGE_ITEMS),
        };
        let mut bytes = 0;
        let fits = |event: &&Event| {
            bytes += serde_json::to_vec(event).map_or(PAGE_BYTES_MAX, |json| json.len() + 1);
            bytes <= PAGE_BYTES_MAX
        };
        let events: Vec<Event> = if after == 0 {
            // Without a place to go on from, the newest are wanted.
            let mut newest: Vec<Event> = matching.rev().take(page).take_while(fits).cloned().collect();
            newest.reverse();
            newest
        } else {
            matching.take(page).take_while(fits).cloned().collect()
        };
        let full = events.len() == page || bytes > PAGE_BYTES_MAX;
        let next = events.last().filter(|_| full).map_or(self.seq, |e| e.seq);
        EventList {
            events,
            next,
            lost: of_another || (after > 0 && after + 1 < oldest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(n: u64) -> EventLog {
        let mut log = EventLog::default();
        for i in 0..n {
            log.note(UnixMs(i), i, "tick", if i % 2 == 0 { "even" } else { "odd" }, "");
        }
        log
    }

    #[test]
    fn a_follower_gets_every_event_once() {
        let log = log(1_200);
        let (mut after, mut seen) = (1, Vec::new());
        loop {
            let page = log.list(&Events {
                after,
                ..Events::default()
            });
            seen.extend(page.events.iter().map(|e| e.seq));
            if page.next == after {
                break;
            }
            after = page.next;
        }
        assert_eq!(seen, (2..=1_200).collect::<Vec<_>>());
    }

    #[test]
    fn the_log_is_bounded_and_says_what_it_lost() {
        let log = log(EVENTS_KEPT as u64 + 10);
        assert_eq!(log.events.len(), EVENTS_KEPT);
        assert!(
            log.list(&Events {
                after: 3,
                ..Events::default()
            })
            .lost
        );
        assert!(
            !log.list(&Events {
                after: 10,
                ..Events::default()
            })
            .lost
        );
    }

    #[test]
    fn a_follower_of_the_scheduler_before_goes_on_with_this_one() {
        let page = log(3).list(&Events {
            after: 5_000,
            ..Events::default()
        });
        assert_eq!(page.events.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(page.lost);
        assert_eq!(page.next, 3);
        assert!(
            log(3)
                .list(&Events {
                    after: u64::MAX,
                    ..Events::default()
                })
                .lost
        );
    }

    #[test]
    fn a_page_of_the_longest_events_fits_one_message() {
        let mut log = EventLog::default();
        for i in 0..PAGE_ITEMS as u64 {
            log.note(UnixMs(i), i, "unit-failed", "n".repeat(127), "\u{1}".repeat(100_000));
        }
        let page = serde_json::to_vec(&log.list(&Events::default())).unwrap();
        let (mut after, mut seen) = (1, 1);
        while after < log.seq {
            let page = log.list(&Events {
                after,
                ..Events::default()
            });
            (after, seen) = (page.next, seen + page.events.len());
        }
        assert_eq!(seen, PAGE_ITEMS, "a follower misses none of them");
        assert!(page.len() < 500_000 && log.events.iter().all(|e| e.message.len() < 510));
    }

    #[test]
    fn events_can_be_asked_for_by_object() {
        let page = log(10).list(&Events {
            about: Some("odd".into()),
            last: 3,
            ..Events::default()
        });
        assert_eq!(page.events.iter().map(|e| e.seq).collect::<Vec<_>>(), [6, 8, 10]);
    }
}
