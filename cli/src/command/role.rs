//! What the roles share: their log, and how they are told to stop.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::say;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Flags of every role.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// What to log: a level, or levels by module such as `info,heddle_scheduler=debug`
    #[arg(long = "log", value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    filter: String,
    /// How to log
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

/// How a role logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Starts the log, on stderr.
pub fn start_log(args: &LogArgs) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&args.filter).map_err(|error| {
        let message = format!("failed to read log filter {:?}: {error}", args.filter);
        Failure::new(
            Exit::Usage,
            message,
            "try --log info, or --log info,heddle_scheduler=debug",
        )
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => log
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// The signals that tell a role to stop.
#[derive(Debug)]
pub struct StopSignals {
    term: Signal,
    int: Signal,
}

impl StopSignals {
    /// Takes the signals from now on.
    pub fn new() -> Result<Self, Failure> {
        let take = |kind| {
            signal(kind).map_err(|error| Failure::new(Exit::Failed, format!("failed to take signals: {error}"), ""))
        };
        Ok(Self {
            term: take(SignalKind::terminate())?,
            int: take(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them.
    pub async fn recv(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Ends with the first SIGTERM or SIGINT: stop in good order. A second one ends the process at once.
pub async fn shutdown(mut signals: StopSignals) {
    signals.recv().await;
    say("stopping; once more stops at once");
    tokio::spawn(async move {
        signals.recv().await;
        std::process::exit(Exit::Failed as i32);
    });
}
