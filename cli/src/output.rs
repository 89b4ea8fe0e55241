//! What goes to stdout and stderr: stdout is data, stderr is talk.
//!
//! People get tables, coloured only on a terminal that wants colour. Programs get, with `--json`, the very value that
//! the table is drawn from: one JSON document, or one per line for streams. This is the only module that prints data.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::view::Style;
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// Where and how a command answers.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Whether programs read it.
    pub json: bool,
    /// Whether stdout may be coloured.
    pub style: Style,
    /// Whether stdout is a terminal.
    pub terminal: bool,
}

impl Output {
    /// The process's own stdout.
    pub fn new(json: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let style = if terminal && !plain && !json {
            Style::Coloured
        } else {
            Style::Plain
        };
        Self { json, style, terminal }
    }

    /// Prints a value: as JSON, or as the text that `view` draws from it.
    pub fn value<T: Serialize>(&self, value: &T, view: impl FnOnce(&T, Style) -> String) -> Result<(), Failure> {
        if self.json {
            write_out(&format!("{}\n", serde_json::to_string_pretty(value)?))
        } else {
            write_out(&view(value, self.style))
        }
    }

    /// Prints one item of a stream: as one line of JSON, or as the text that `view` draws from it.
    pub fn item<T: Serialize>(&self, value: &T, view: impl FnOnce(&T, Style) -> String) -> Result<(), Failure> {
        if self.json {
            write_out(&format!("{}\n", serde_json::to_string(value)?))
        } else {
            write_out(&view(value, self.style))
        }
    }

    /// Prints text that is data as it is: a manifest, a completion script.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        write_out(text)
    }

    /// Says something to a person, on stderr; programs may ignore it.
    pub fn say(&self, text: impl AsRef<str>) {
        say(text.as_ref());
    }

    /// Reports a failure: a line and the next thing to try on stderr and, for programs, a document on stdout.
    pub fn failure(&self, failure: &Failure) -> Exit {
        let mut text = String::new();
        for problem in &failure.problems {
            text.push_str(&format!("{problem}\n"));
        }
        text.push_str(&format!("heddle: {}\n", failure.message));
        if !failure.next.is_empty() {
            text.push_str(&format!("next: {}\n", failure.next));
        }
        say(text.trim_end());
        if self.json {
            let document = serde_json::json!({ "ok": false, "error": failure });
            // A reader that went away cannot be told; the exit code still says it.
            let _ = write_out(&format!("{document}\n"));
        }
        failure.exit
    }
}

/// Writes a line to stderr. A closed stderr is no reason to fail.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn write_out(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        // `heddle get … | head` is done when head is.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(Exit::Ok as i32),
        Err(error) => Err(Failure::new(
            Exit::Failed,
            format!("failed to write to stdout: {error}"),
            "",
        )),
    }
}
