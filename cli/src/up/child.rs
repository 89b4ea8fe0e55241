//! The processes of a local fleet: children of this one that never outlive it.
//!
//! Each child is watched by a task that starts it again, after a growing pause, until the fleet stops. A child that
//! ends while the fleet is being started is a reason to give up, and its last words are told.

use super::start_failure;
use crate::command::role::StopSignals;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, say};
use crate::view;
use rustix::process::{Pid, Signal};
use std::ffi::OsString;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The hidden verb that ties a process to its parent before it becomes the program that is wanted.
pub const CHILD_VERB: &str = "become-child";
/// How this program is called in the list of processes.
const MY_NAME: &str = "heddle";
/// First pause before a child is started again.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest pause before a child is started again.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A child that ran this long was well: its next pause is the first one again.
const WELL_AFTER: Duration = Duration::from_secs(30);
/// How long a child may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How much of a log is told when a child ends early, in bytes.
const LAST_WORDS_BYTES: i64 = 2_000;

/// How to start one child.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// What people call it.
    pub name: String,
    /// When it is stopped: the highest first, equal ones side by side.
    pub rank: u8,
    /// The program; none is this one in another role.
    pub program: Option<PathBuf>,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables for its environment: what should not stand in the list of processes.
    pub env: Vec<(String, String)>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A child that ended by itself.
#[derive(Debug)]
struct Ended {
    name: String,
    how: String,
    log: PathBuf,
    again_in: Duration,
}

#[derive(Debug)]
struct Member {
    rank: u8,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// All children, in the order in which they were started.
#[derive(Debug)]
pub struct Family {
    members: Vec<Member>,
    ended: mpsc::Receiver<Ended>,
    tell: mpsc::Sender<Ended>,
}

impl Family {
    /// Nobody yet.
    pub fn new() -> Self {
        let (tell, ended) = mpsc::channel(64);
        Self {
            members: Vec::new(),
            ended,
            tell,
        }
    }

    /// Starts a child and keeps it running.
    pub fn add(&mut self, recipe: Recipe) -> Result<(), Failure> {
        let child = start(&recipe)?;
        let (stop, stopped) = watch::channel(false);
        let rank = recipe.rank;
        let task = tokio::spawn(keep_running(recipe, child, stopped, self.tell.clone()));
        self.members.push(Member { rank, stop, task });
        Ok(())
    }

    /// Does something during which no child may end.
    pub async fn unharmed<T>(&mut self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            Some(ended) = self.ended.recv() => {
                let next = format!("see {}", ended.log.display());
                Err(start_failure(&ended.name, format!("{}; {}", ended.how, last_words(&ended.log)), next))
            }
            done = work => done,
        }
    }

    /// Tells of children that end and are started again, for ever.
    pub async fn watch(&mut self, output: &Output) -> Result<(), Failure> {
        while let Some(ended) = self.ended.recv().await {
            let again = view::age(u64::try_from(ended.again_in.as_millis()).unwrap_or(u64::MAX));
            output.say(format!(
                "{} {}; starting it again in {again} (log: {})",
                ended.name,
                ended.how,
                ended.log.display()
            ));
        }
        Ok(())
    }

    /// Whether nobody was started.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Stops all children, rank by rank: agents, then the scheduler, then NATS. A signal meanwhile ends the waiting.
    pub async fn stop(&mut self, signals: &mut StopSignals) {
        let stopping = async {
            while let Some(rank) = self.members.iter().map(|member| member.rank).max() {
                let (now, later) = std::mem::take(&mut self.members)
                    .into_iter()
                    .partition(|m| m.rank == rank);
                self.members = later;
                let now: Vec<Member> = now;
                for member in &now {
                    // Its task may have ended already: then there is nothing to stop.
                    let _ = member.stop.send(true);
                }
                for member in now {
                    let _ = member.task.await;
                }
            }
        };
        tokio::select! {
            () = stopping => {}
            // Leaving now: the children are tied to this process and end with it.
            () = signals.recv() => say("stopping at once"),
        }
    }
}

/// This program, also after its file was replaced by a newer build.
fn myself() -> std::io::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        Ok("/proc/self/exe".into())
    } else {
        std::env::current_exe()
    }
}

/// Starts a program tied to this process: this binary again, which asks the system to be killed with its parent and
/// then becomes the program.
fn start(recipe: &Recipe) -> Result<Child, Failure> {
    let failed = |error: std::io::Error| start_failure(&recipe.name, error, "");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&recipe.log);
    let log = log.map_err(|error| Failure::file("open log", &recipe.log, &error))?;
    Command::new(myself().map_err(failed)?)
        .arg0(MY_NAME)
        .arg(CHILD_VERB)
        .arg(std::process::id().to_string())
        .arg(recipe.program.as_deref().unwrap_or(Path::new(MY_NAME)))
        .args(&recipe.args)
        .envs(recipe.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::from(log.try_clone().map_err(failed)?))
        .stderr(Stdio::from(log))
        // Ctrl-C at the terminal is for this process, which then stops its children in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)
}

/// Ties this process to its parent and becomes another program: `become-child PARENT PROGRAM ARGS…`.
pub fn become_child(args: &[OsString]) -> Failure {
    let [parent, program, args @ ..] = args else {
        return Failure::new(
            Exit::Usage,
            "failed to become a child: no parent and program were named",
            "",
        );
    };
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return start_failure(&program.to_string_lossy(), error, "");
    }
    // The parent may have ended before it was asked for: then nobody would ever end this process.
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if now.as_deref() != parent.to_str() {
        return start_failure(&program.to_string_lossy(), "the process that wanted it is gone", "");
    }
    let path = if program == MY_NAME {
        myself()
    } else {
        Ok(PathBuf::from(program))
    };
    let error = match path {
        Ok(path) => std::process::Command::new(path).arg0(program).args(args).exec(),
        Err(error) => error,
    };
    start_failure(&program.to_string_lossy(), error, "")
}

async fn keep_running(recipe: Recipe, mut child: Child, mut stop: watch::Receiver<bool>, tell: mpsc::Sender<Ended>) {
    let mut pause = PAUSE_MIN;
    loop {
        let started = Instant::now();
        let ended = tokio::select! {
            ended = child.wait() => Some(ended),
            () = told(&mut stop) => None,
        };
        let Some(ended) = ended else {
            return end(&recipe.name, &mut child).await;
        };
        if started.elapsed() >= WELL_AFTER {
            pause = PAUSE_MIN;
        }
        let how = ended.map_or_else(|error| error.to_string(), describe);
        // Nobody listens between the start and the watch for long; a full queue then loses only talk.
        let _ = tell.try_send(Ended {
            name: recipe.name.clone(),
            how,
            log: recipe.log.clone(),
            again_in: pause,
        });
        child = loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = told(&mut stop) => return,
            }
            pause = (pause * 2).min(PAUSE_MAX);
            match start(&recipe) {
                Ok(child) => break child,
                Err(failure) => say(&failure.message),
            }
        };
    }
}

/// Waits for the order to stop; whoever could give it being gone is one too.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Asks a child to stop, insists, and in the end kills it.
async fn end(name: &str, child: &mut Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // A child that is gone already needs no signal.
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(STOP_WITHIN, child.wait()).await.is_err() {
        say(&format!("{name} does not stop; killing it"));
        let _ = child.kill().await;
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last lines of a log, made fit for a terminal.
fn last_words(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let size = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
        file.seek(SeekFrom::End(-size.min(LAST_WORDS_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(4)
        .collect();
    if lines.is_empty() {
        return "it said nothing".to_owned();
    }
    let lines: Vec<String> = lines.into_iter().rev().map(view::printable).collect();
    format!("it said: {}", lines.join(" / "))
}
