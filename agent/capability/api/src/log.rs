//! The log lines of one component: cut to size, rate limited, and handed on.
//!
//! In: lines from stdout, stderr, the logging capability and the agent itself. Out: calls of [`LogLines::line`], at most
//! [`LINES_PER_SECOND`] a second over time. Guests can print faster than anybody reads; they must not drown the host.

use heddle_protocol::defaults::{LOG_LINE_BYTES_MAX, LOG_LINES_KEPT};
use heddle_protocol::id::{ComponentName, UnitId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lines a second that one component may write over time.
pub const LINES_PER_SECOND: u64 = 200;
/// Lines that it may write at once after a pause: as many as an agent keeps, more would push themselves out.
pub const LINES_AT_ONCE: u64 = LOG_LINES_KEPT as u64;

/// Where log lines go. Never blocks and never fails: what cannot be kept is dropped there.
pub trait LogLines: Send + Sync + 'static {
    /// Takes one line of one component, without line break.
    fn line(&self, unit: &UnitId, component: &ComponentName, level: &str, text: &str);
}

/// Drops every line.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLogs;

impl LogLines for NoLogs {
    fn line(&self, _: &UnitId, _: &ComponentName, _: &str, _: &str) {}
}

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For following every step.
    Trace,
    /// For finding a fault.
    Debug,
    /// Ordinary news; stdout.
    Info,
    /// Something is not as it should be; stderr.
    Warn,
    /// Something failed.
    Error,
    /// Nothing works.
    Critical,
}

impl Level {
    /// The level in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// The log of one component of one unit, shared by all its instances.
pub struct Log {
    unit: UnitId,
    component: ComponentName,
    lines: Arc<dyn LogLines>,
    started: Instant,
    /// When the next line would be due if lines came evenly, in nanoseconds since `started`.
    due: AtomicU64,
    dropped: AtomicU64,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("unit", &self.unit)
            .field("component", &self.component)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// The log of a component.
    pub fn new(unit: UnitId, component: ComponentName, lines: Arc<dyn LogLines>) -> Self {
        Self {
            unit,
            component,
            lines,
            started: Instant::now(),
            due: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Writes text as lines. Empty lines are left out, long ones are cut into several.
    pub fn write(&self, level: Level, text: &str) {
        for line in text.lines().filter(|line| !line.is_empty()) {
            let mut rest = line;
            while !rest.is_empty() {
                let cut = rest.floor_char_boundary(LOG_LINE_BYTES_MAX);
                let (piece, after) = rest.split_at(cut);
                if !self.admit(self.started.elapsed()) {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                self.report_dropped();
                self.lines.line(&self.unit, &self.component, level.as_str(), piece);
                rest = after;
            }
        }
    }

    /// The generic cell rate algorithm: a line is admitted if the lines so far are not too far ahead of an even pace.
    fn admit(&self, now: Duration) -> bool {
        let pace = 1_000_000_000 / LINES_PER_SECOND;
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next = |due: u64| {
            let due = due.max(now);
            (due - now <= pace * LINES_AT_ONCE).then_some(due.saturating_add(pace))
        };
        self.due
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }

    fn report_dropped(&self) {
        if self.dropped.load(Ordering::Relaxed) > 0 {
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            let text = format!("dropped the rest of {dropped} writes: over {LINES_PER_SECOND} lines a second");
            self.lines
                .line(&self.unit, &self.component, Level::Warn.as_str(), &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::id::{Generation, WorkloadId};
    use std::sync::Mutex;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl LogLines for Kept {
        fn line(&self, unit: &UnitId, component: &ComponentName, level: &str, text: &str) {
            self.0
                .lock()
                .unwrap()
                .push(format!("{unit} {component} {level} {text}"));
        }
    }

    fn log() -> (Log, Arc<Kept>) {
        let kept = Arc::new(Kept::default());
        let unit = UnitId {
            workload: WorkloadId::parse("shop/cart").unwrap(),
            generation: Generation(2),
        };
        (
            Log::new(unit, ComponentName::parse("api").unwrap(), Arc::clone(&kept) as _),
            kept,
        )
    }

    #[test]
    fn text_becomes_lines() {
        let (log, kept) = log();
        log.write(Level::Info, "one\n\ntwo\r\nthree");
        assert_eq!(
            *kept.0.lock().unwrap(),
            [
                "shop/cart@2 api info one",
                "shop/cart@2 api info two",
                "shop/cart@2 api info three"
            ]
        );
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let (log, kept) = log();
        log.write(Level::Info, &"ä".repeat(LOG_LINE_BYTES_MAX));
        assert_eq!(kept.0.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_flood_is_cut_off_and_the_loss_is_told_later() {
        let (log, kept) = log();
        for _ in 0..LINES_AT_ONCE * 3 {
            log.write(Level::Info, "x");
        }
        let written = kept.0.lock().unwrap().len() as u64;
        assert!((LINES_AT_ONCE..LINES_AT_ONCE * 2).contains(&written), "{written}");
        // As if a second had passed.
        log.due.store(0, Ordering::Relaxed);
        log.write(Level::Info, "y");
        let kept = kept.0.lock().unwrap();
        assert!(kept[kept.len() - 2].contains("dropped"), "{kept:?}");
    }
}
