//! Processes that never outlive this one: a nats-server and a scheduler to measure against.
//!
//! They are started through a *launcher*, a program with the verb `become-child` that has the kernel end the process when
//! its parent ends, and then becomes the program that is wanted: `heddle`, or this crate's own binary.

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The verb that ties a process to its parent before it becomes the program that is wanted.
pub const VERB: &str = "become-child";
/// How much of a log is shown when something fails, in bytes.
const TAIL_BYTES: i64 = 4_000;
/// The unit of processor times in `/proc`: the same on every Linux, whatever the kernel counts in.
const TICKS_PER_SECOND: u64 = 100;
/// The first port that is tried: below those that the system hands out to clients.
const FIRST_PORT: u16 = 14_000;
/// How many are.
const PORTS: u16 = 16_000;

/// A process. It ends with the value.
#[derive(Debug)]
pub struct Child {
    name: String,
    log: PathBuf,
    child: std::process::Child,
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Child {
    /// Starts a program through a launcher, with its output in a log.
    ///
    /// # Errors
    /// If the launcher cannot be started.
    pub fn start(launcher: &Path, name: &str, program: &Path, args: &[OsString], log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("failed to open log {}", log.display()))?;
        let child = Command::new(launcher)
            .arg(VERB)
            .arg(std::process::id().to_string())
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("failed to share a log")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("failed to start {name} with {}", launcher.display()))?;
        Ok(Self {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
        })
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => bail!("{} ended with {status}:\n{}", self.name, self.tail()),
            Err(e) => Err(e).with_context(|| format!("failed to look after {}", self.name)),
        }
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// If it cannot be told.
    pub fn terminate(&self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("{} has no process id", self.name))?;
        kill_process(pid, Signal::TERM).with_context(|| format!("failed to stop {}", self.name))
    }

    /// Processor time that it has used, and the memory that it has now.
    ///
    /// # Errors
    /// If it has ended.
    pub fn usage(&self) -> Result<Usage> {
        let read = |what: &str| {
            let path = format!("/proc/{}/{what}", self.child.id());
            std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))
        };
        let stat = read("stat")?;
        // The name in parentheses may hold anything; what follows are fields, of which the 12th and 13th are times.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let status = read("status")?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| {
                rest.trim_start_matches(':')
                    .trim()
                    .trim_end_matches(" kB")
                    .parse::<u64>()
                    .ok()
            })
        };
        Ok(Usage {
            cpu: Duration::from_millis((ticks(11) + ticks(12)) * 1_000 / TICKS_PER_SECOND),
            rss_kib: kib("VmRSS").unwrap_or(0),
            rss_max_kib: kib("VmHWM").unwrap_or(0),
        })
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let length = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
            file.seek(SeekFrom::End(-length.min(TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_else(|e| e.to_string());
        format!("--- the end of {}:\n{text}\n", self.log.display())
    }
}

/// What a process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Processor time so far.
    pub cpu: Duration,
    /// Memory now, in KiB.
    pub rss_kib: u64,
    /// The most memory so far, in KiB.
    pub rss_max_kib: u64,
}

/// Ties this process to its parent and becomes another program; returns only if it cannot.
pub fn become_child(parent: &str, program: &Path, args: &[OsString]) -> anyhow::Error {
    #[cfg(target_os = "linux")]
    if let Err(e) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return anyhow::Error::from(e).context("failed to be tied to the parent");
    }
    // The parent may have ended before it was asked for: then nobody would ever end this process.
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if now.as_deref() != Some(parent) {
        return anyhow::anyhow!(
            "failed to start {}: the process that wanted it is gone",
            program.display()
        );
    }
    let error = Command::new(program).args(args).exec();
    anyhow::Error::from(error).context(format!("failed to start {}", program.display()))
}

/// A port that was free a moment ago.
///
/// # Errors
/// If none is.
pub fn free_port() -> Result<SocketAddr> {
    // Two processes that look at the same time begin at different places.
    let begin = rand::random_range(0..PORTS);
    for step in 0..PORTS {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST_PORT + (begin + step) % PORTS));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("failed to find a free port from {FIRST_PORT} on")
}

/// What a server answers to `GET path`; anything but 200 is an error.
///
/// # Errors
/// If it does not answer.
pub async fn get(address: SocketAddr, path: &str) -> Result<String> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), ask)
        .await
        .with_context(|| format!("no answer from {address}"))??;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").context("the answer is no HTTP")?;
    ensure!(
        head.contains(" 200 "),
        "{address}{path} answers {}",
        head.lines().next().unwrap_or_default()
    );
    Ok(body.to_owned())
}

/// Looks until `look` returns something, and gives up after `bound` with what it saw last.
///
/// # Errors
/// What was seen last.
pub async fn eventually<T>(bound: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(seen) if started.elapsed() >= bound => {
                return Err(seen.context(format!("waited {bound:?} for this and did not see it: {what}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
