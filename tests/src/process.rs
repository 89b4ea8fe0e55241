//! One real process: its signals, its log, and its certain end.
//!
//! Processes are started through `heddle become-child`, so that the kernel ends them when this program ends, however
//! it ends. The kernel watches the *thread* that started a process: start them from the test's own thread or from a
//! worker of its runtime, never from `spawn_blocking`.

use crate::binary;
use crate::until::eventually;
use anyhow::{Context as _, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How much of a log is shown when a test fails, in bytes.
const TAIL_BYTES: i64 = 6_000;

/// How to start a process, again and again.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// What failures call it.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables added to its environment.
    pub env: Vec<(String, String)>,
    /// Where its output goes, one start after the other.
    pub log: PathBuf,
}

impl Recipe {
    /// Adds a flag and its value.
    pub fn pair(&mut self, flag: &str, value: impl AsRef<OsStr>) -> &mut Self {
        self.args.extend([flag.into(), value.as_ref().to_owned()]);
        self
    }
}

/// A process, dead or alive.
#[derive(Debug)]
pub struct Process {
    recipe: Recipe,
    child: Option<Child>,
}

impl Process {
    /// Starts it.
    pub fn start(recipe: Recipe) -> Result<Self> {
        let mut process = Self { recipe, child: None };
        process.start_again()?;
        Ok(process)
    }

    /// Starts it after it ended, with the same arguments.
    pub fn start_again(&mut self) -> Result<()> {
        let Recipe {
            name,
            program,
            args,
            env,
            log,
        } = &self.recipe;
        anyhow::ensure!(self.child.is_none(), "failed to start {name}: it runs already");
        let output = || -> std::io::Result<File> { OpenOptions::new().create(true).append(true).open(log) };
        let log_failed = || format!("failed to open log {}", log.display());
        let child = Command::new(binary::heddle()?)
            .arg("become-child")
            .arg(std::process::id().to_string())
            .arg(program)
            .args(args)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output().with_context(log_failed)?)
            .stderr(output().with_context(log_failed)?)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        self.child = Some(child);
        Ok(())
    }

    /// The recipe, for starting it with other arguments the next time.
    pub fn recipe_mut(&mut self) -> &mut Recipe {
        &mut self.recipe
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends it at once, as a crash would, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        child
            .kill()
            .with_context(|| format!("failed to kill {}", self.recipe.name))?;
        child
            .wait()
            .with_context(|| format!("failed to wait for {}", self.recipe.name))?;
        Ok(())
    }

    /// Asks it to stop.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Halts it: it stays and does nothing.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let name = &self.recipe.name;
        let id = self
            .id()
            .with_context(|| format!("failed to signal {name}: it does not run"))?;
        let pid = i32::try_from(id)
            .ok()
            .and_then(Pid::from_raw)
            .with_context(|| format!("{id} is no process id"))?;
        kill_process(pid, signal).with_context(|| format!("failed to signal {name}"))
    }

    /// Whether it runs. One that ended is forgotten and can be started again.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.look()?.is_none())
    }

    fn look(&mut self) -> Result<Option<Option<ExitStatus>>> {
        let Some(child) = &mut self.child else {
            return Ok(Some(None));
        };
        let ended = child
            .try_wait()
            .with_context(|| format!("failed to look after {}", self.recipe.name))?;
        if ended.is_some() {
            self.child = None;
        }
        Ok(ended.map(Some))
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self, bound: Duration) -> Result<ExitStatus> {
        let what = format!("{} ends", self.recipe.name);
        let status = eventually(bound, &what, async || self.look()?.ok_or_else(|| anyhow!("it runs"))).await?;
        status.with_context(|| format!("failed to learn how {} ended: it was not running", self.recipe.name))
    }

    /// The last lines of its log, under its name.
    pub fn tail(&self) -> String {
        tail(&self.recipe.name, &self.recipe.log)
    }

    /// All of its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.recipe.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to tell, and the kernel ends it with this program anyway.
        let _ = self.kill();
    }
}

fn tail(name: &str, log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let size = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
        file.seek(SeekFrom::End(-size.min(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => format!("--- the end of {}\n{}\n", log.display(), text.trim_end()),
        Err(error) => format!("--- no log of {name} at {}: {error}\n", log.display()),
    }
}
