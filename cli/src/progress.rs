//! Progress of anything that takes longer than a second, on stderr.
//!
//! On a terminal one line is rewritten in place and cleared at the end; elsewhere a line is printed when it differs
//! from the last one.

use crate::output::say;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// What is quicker than this says nothing.
const QUIET_FOR: Duration = Duration::from_secs(1);

/// A line of progress.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    terminal: bool,
    last: String,
    shown: bool,
}

impl Progress {
    /// Progress of something that starts now.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
            last: String::new(),
            shown: false,
        }
    }

    /// Shows how far it is, once it has taken a second.
    pub fn update(&mut self, text: &str) {
        if self.started.elapsed() >= QUIET_FOR {
            self.show(text);
        }
    }

    /// Shows how far it is, at once.
    pub fn show(&mut self, text: &str) {
        if self.terminal {
            let line = format!("\r\x1b[K{text} ({:.0} s)", self.started.elapsed().as_secs_f64());
            let mut err = std::io::stderr().lock();
            let _ = err.write_all(line.as_bytes()).and_then(|()| err.flush());
            self.shown = true;
        } else if self.last != text {
            say(text);
        }
        self.last = text.to_owned();
    }

    /// Clears the line, so that the answer stands alone.
    pub fn clear(&mut self) {
        if self.shown {
            let mut err = std::io::stderr().lock();
            let _ = err.write_all(b"\r\x1b[K").and_then(|()| err.flush());
            self.shown = false;
        }
    }

    /// Waits for something, and says `text` if it takes longer than a second.
    pub async fn during<T>(text: &str, work: impl Future<Output = T>) -> T {
        let mut progress = Self::start();
        tokio::pin!(work);
        let mut ticks = tokio::time::interval(QUIET_FOR);
        ticks.tick().await;
        loop {
            tokio::select! {
                done = &mut work => {
                    progress.clear();
                    return done;
                }
                _ = ticks.tick() => progress.update(text),
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
