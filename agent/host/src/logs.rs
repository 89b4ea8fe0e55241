//! The newest log lines of each unit, until somebody asks for them.
//!
//! In: lines, from any thread, at any rate. Out: the newest lines of a workload. Bounded by lines and bytes per unit
//! and by bytes for the host: what does not fit pushes out the oldest of its own unit, so a unit that floods loses its
//! own lines and nobody else's.

use heddle_capability::LogLines as Lines;
use heddle_protocol::api::logs::{LogLine, LogLines, Logs};
use heddle_protocol::defaults::{LOG_LINE_BYTES_MAX, LOG_LINES_KEPT};
use heddle_protocol::id::{ComponentName, Generation, HostId, UnitId};
use heddle_protocol::time::UnixMs;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of log lines of one unit that are kept at most.
const UNIT_BYTES_MAX: usize = 1 << 20;
/// Bytes of log lines of the whole host that are kept at most.
const HOST_BYTES_MAX: usize = 64 << 20;
/// Units that are gone and whose last lines are kept: what a deleted or replaced workload wrote last tells why.
const GONE_UNITS_KEPT: usize = 100;
/// Largest answer, in bytes, roughly.
const ANSWER_BYTES_MAX: usize = 400 << 10;
/// What a line takes beside its text, in bytes, roughly.
const LINE_BYTES: usize = 200;

/// Takes log lines. Cheap to clone; never waits for anybody but another line of the same unit.
#[derive(Debug, Clone)]
pub struct LogSink(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    host: HostId,
    next_seq: AtomicU64,
    bytes: AtomicUsize,
    rings: RwLock<BTreeMap<UnitId, Arc<Mutex<Ring>>>>,
    gone: Mutex<VecDeque<UnitId>>,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<LogLine>,
    bytes: usize,
}

impl LogSink {
    /// A sink that has no line yet.
    pub fn new(host: HostId) -> Self {
        // Numbers go on rising over a restart, so that whoever follows does not miss the new lines.
        let first = now().0.saturating_mul(1_000);
        Self(Arc::new(Shared {
            host,
            next_seq: AtomicU64::new(first),
            bytes: AtomicUsize::new(0),
            rings: RwLock::default(),
            gone: Mutex::default(),
        }))
    }

    /// Takes one line; a long one is cut.
    pub fn line(&self, unit: &UnitId, component: &ComponentName, level: &str, text: &str) {
        let text = &text[..text.floor_char_boundary(LOG_LINE_BYTES_MAX)];
        let ring = self.ring(unit);
        let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
        let line = LogLine {
            host: self.0.host.clone(),
            seq: self.0.next_seq.fetch_add(1, Ordering::Relaxed),
            at: now(),
            generation: unit.generation,
            component: component.clone(),
            level: level.to_owned(),
            text: text.to_owned(),
        };
        let bytes = bytes_of(&line);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        ring.bytes += bytes;
        ring.lines.push_back(line);
        while ring.lines.len() > LOG_LINES_KEPT
            || ring.bytes > UNIT_BYTES_MAX
            || self.0.bytes.load(Ordering::Relaxed) > HOST_BYTES_MAX
        {
            let Some(oldest) = ring.lines.pop_front() else { break };
            let bytes = bytes_of(&oldest);
            ring.bytes -= bytes;
            self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// The newest lines of a workload, as many as are asked for and fit into one message, the oldest first.
    pub fn newest(&self, wanted: &Logs) -> LogLines {
        let after = wanted.after.get(&self.0.host).copied().unwrap_or(0);
        let unit = |generation| UnitId {
            workload: wanted.workload.clone(),
            generation: Generation(generation),
        };
        let rings: Vec<Arc<Mutex<Ring>>> = {
            let rings = self.0.rings.read().unwrap_or_else(PoisonError::into_inner);
            rings
                .range(unit(0)..=unit(u64::MAX))
                .map(|(_, ring)| Arc::clone(ring))
                .collect()
        };
        let mut lines: Vec<LogLine> = Vec::new();
        for ring in rings {
            let ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
            lines.extend(ring.lines.iter().filter(|line| line.seq > after).cloned());
        }
        lines.sort_by_key(|line| line.seq);
        let mut bytes = 0;
        let fits = |line: &&LogLine| {
            // Text may hold characters that JSON writes as two.
            bytes += bytes_of(line) + line.text.len();
            bytes <= ANSWER_BYTES_MAX
        };
        let kept = lines.iter().rev().take(wanted.tail as usize).take_while(fits).count();
        LogLines {
            lines: lines.split_off(lines.len() - kept),
            silent: Vec::new(),
        }
    }

    /// Notes that a unit is gone. Its lines are kept until many others are gone as well.
    pub fn unit_gone(&self, unit: &UnitId) {
        let mut gone = self.0.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.retain(|known| known != unit);
        gone.push_back(unit.clone());
        while gone.len() > GONE_UNITS_KEPT {
            let Some(oldest) = gone.pop_front() else { break };
            let removed = self
                .0
                .rings
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&oldest);
            if let Some(ring) = removed {
                let bytes = ring.lock().unwrap_or_else(PoisonError::into_inner).bytes;
                self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
    }

    /// Notes that a unit is here (again).
    pub fn unit_here(&self, unit: &UnitId) {
        self.0
            .gone
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|known| known != unit);
    }

    fn ring(&self, unit: &UnitId) -> Arc<Mutex<Ring>> {
        if let Some(ring) = self.0.rings.read().unwrap_or_else(PoisonError::into_inner).get(unit) {
            return Arc::clone(ring);
        }
        let mut rings = self.0.rings.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(rings.entry(unit.clone()).or_default())
    }
}

impl Lines for LogSink {
    fn line(&self, unit: &UnitId, component: &ComponentName, level: &str, text: &str) {
        Self::line(self, unit, component, level, text);
    }
}

fn bytes_of(line: &LogLine) -> usize {
    line.text.len() + LINE_BYTES
}

fn now() -> UnixMs {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::id::WorkloadId;

    fn unit(name: &str, generation: u64) -> UnitId {
        UnitId {
            workload: WorkloadId::parse(name).unwrap(),
            generation: Generation(generation),
        }
    }

    fn main() -> ComponentName {
        ComponentName::parse("main").unwrap()
    }

    fn sink() -> LogSink {
        LogSink::new(HostId::parse("h-1").unwrap())
    }

    fn ask(name: &str, tail: u32) -> Logs {
        Logs {
            workload: WorkloadId::parse(name).unwrap(),
            tail,
            after: BTreeMap::new(),
        }
    }

    fn texts(lines: &LogLines) -> Vec<&str> {
        lines.lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn the_newest_lines_of_all_generations_come_in_order() {
        let sink = sink();
        for (generation, text) in [(1, "a"), (2, "b"), (1, "c"), (2, "d")] {
            sink.line(&unit("web", generation), &main(), "stdout", text);
        }
        sink.line(&unit("other", 1), &main(), "stdout", "x");
        assert_eq!(texts(&sink.newest(&ask("web", 3))), ["b", "c", "d"]);
        assert_eq!(texts(&sink.newest(&ask("nobody", 3))), [""; 0]);
    }

    #[test]
    fn whoever_follows_gets_only_new_lines() {
        let sink = sink();
        sink.line(&unit("web", 1), &main(), "stdout", "a");
        let seen = sink.newest(&ask("web", 10)).lines[0].seq;
        sink.line(&unit("web", 1), &main(), "stdout", "b");
        let mut more = ask("web", 10);
        more.after.insert(HostId::parse("h-1").unwrap(), seen);
        assert_eq!(texts(&sink.newest(&more)), ["b"]);
    }

    #[test]
    fn a_flood_pushes_out_its_own_lines_only() {
        let sink = sink();
        sink.line(&unit("quiet", 1), &main(), "stdout", "still here");
        let long = "ä".repeat(LOG_LINE_BYTES_MAX);
        for _ in 0..2 * LOG_LINES_KEPT {
            sink.line(&unit("loud", 1), &main(), "stdout", &long);
        }
        assert!(sink.0.bytes.load(Ordering::Relaxed) <= UNIT_BYTES_MAX + 1_000);
        assert_eq!(texts(&sink.newest(&ask("quiet", 10))), ["still here"]);
        let answer = serde_json::to_vec(&sink.newest(&ask("loud", 100_000))).unwrap();
        assert!(answer.len() <= ANSWER_BYTES_MAX, "{}", answer.len());
    }

    #[test]
    fn lines_of_units_that_are_gone_are_bounded() {
        let sink = sink();
        for generation in 1..=1_000 {
            sink.line(&unit("web", generation), &main(), "stdout", "last words");
            sink.unit_gone(&unit("web", generation));
        }
        assert_eq!(sink.newest(&ask("web", 10_000)).lines.len(), GONE_UNITS_KEPT);
        assert_eq!(sink.0.rings.read().unwrap().len(), GONE_UNITS_KEPT);
    }
}
