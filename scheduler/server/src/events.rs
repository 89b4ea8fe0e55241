//! What happened, for `heddle events`: the newest few thousand, in memory.

use heddle_protocol::api::events::{Event, EventList, Events};
use heddle_protocol::defaults::{EVENTS_KEPT, PAGE_ITEMS};
use heddle_protocol::time::UnixMs;
use std::collections::VecDeque;

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
            message: message.into(),
        };
        tracing::info!(kind = event.kind, about = event.about, commit, "{}", event.message);
        if self.events.len() >= EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The events that somebody asks for.
    pub fn list(&self, ask: &Events) -> EventList {
        let oldest = self.events.front().map_or(self.seq + 1, |e| e.seq);
        let about = |e: &&Event| ask.about.as_deref().is_none_or(|about| e.about == about);
        let matching = self.events.iter().filter(|e| e.seq > ask.after).filter(about);
        let page = match ask.last as usize {
            0 => PAGE_ITEMS,
            last => last.min(PAGE_ITEMS),
        };
        let events: Vec<Event> = if ask.after == 0 {
            // Without a place to go on from, the newest are wanted.
            let skip = matching.clone().count().saturating_sub(page);
            matching.skip(skip).cloned().collect()
        } else {
            matching.take(page).cloned().collect()
        };
        let full = events.len() == page;
        let next = events.last().filter(|_| full).map_or(self.seq, |e| e.seq);
        EventList {
            events,
            next,
            lost: ask.after > 0 && ask.after + 1 < oldest,
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
    fn events_can_be_asked_for_by_object() {
        let page = log(10).list(&Events {
            about: Some("odd".into()),
            last: 3,
            ..Events::default()
        });
        assert_eq!(page.events.iter().map(|e| e.seq).collect::<Vec<_>>(), [6, 8, 10]);
    }
}
