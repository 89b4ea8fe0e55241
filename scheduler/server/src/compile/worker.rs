//! One worker process for one component: started, fed, watched, and ended if it takes too long.
//!
//! In: a job. Out: native code, or what became of the worker. It compiles what a stranger wrote, so it is a process of its
//! own that limits itself, and nothing that it does ends the scheduler.

use bytes::{Bytes, BytesMut};
use heddle_protocol::compile::{CompileAnswer, CompileJob, LINE_BYTES_MAX};
use heddle_protocol::defaults::{CODE_BYTES_MAX, COMPILE_CPU_SECONDS_MAX, COMPILE_MEMORY_BYTES_MAX};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// What a worker says before it ends badly, kept to this many bytes.
const STDERR_BYTES_MAX: usize = 4 << 10;
/// Wall time for each second of processor time: the machine may be busy, and the worker is the first to wait.
const WALL_PER_CPU: u64 = 3;
/// Wall time for starting and for passing bytes.
const WALL_EXTRA: Duration = Duration::from_secs(15);
/// Signals, by number; the same on every Linux that we build for.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;

/// How components are compiled.
#[derive(Debug, Clone)]
pub struct CompileOptions {
    /// The worker's program; this one when left out.
    pub program: Option<PathBuf>,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Workers at the same time.
    pub workers: usize,
    /// Processor time that one component may take, in seconds.
    pub cpu_seconds: u64,
    /// Memory that one component may take, in bytes.
    pub memory_bytes: u64,
}

impl Default for CompileOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            program: None,
            args: vec!["compile-worker".into()],
            // The other half is for deciding.
            workers: (cores / 2).max(1),
            cpu_seconds: COMPILE_CPU_SECONDS_MAX,
            memory_bytes: COMPILE_MEMORY_BYTES_MAX,
        }
    }
}

/// Why there is no code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoCode {
    /// The worker cannot compile for this engine.
    Unsupported(String),
    /// The component cannot be compiled, or not within its limits.
    Refused(String),
    /// The worker failed; trying again may help.
    Failed(String),
}

/// Has a job done.
pub(super) async fn run(options: &CompileOptions, job: &CompileJob, component: &Bytes) -> Result<Bytes, NoCode> {
    let within = Duration::from_secs(options.cpu_seconds * WALL_PER_CPU) + WALL_EXTRA;
    // A worker that is no longer waited for is killed.
    let done = tokio::time::timeout(within, attend(options, job, component)).await;
    done.unwrap_or_else(|_| {
        let seconds = within.as_secs();
        Err(NoCode::Failed(format!(
            "compiling it was ended after {seconds} s: the machine is too busy"
        )))
    })
}

async fn attend(options: &CompileOptions, job: &CompileJob, component: &Bytes) -> Result<Bytes, NoCode> {
    let failed = |doing: &str, e: &dyn std::fmt::Display| NoCode::Failed(format!("failed to {doing}: {e}"));
    let mut line = serde_json::to_vec(job).map_err(|e| failed("describe a job to the compile worker", &e))?;
    line.push(b'\n');
    let mut worker = start(options).map_err(|e| failed("start the compile worker", &e))?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (worker.stdin.take(), worker.stdout.take(), worker.stderr.take())
    else {
        return Err(failed("start the compile worker", &"it has no pipes"));
    };
    let feed = async move {
        // A worker that ends early says why by other means.
        let _ = stdin.write_all(&line).await;
        let _ = stdin.write_all(component).await;
        drop(stdin);
    };
    let most = CODE_BYTES_MAX as usize + LINE_BYTES_MAX;
    let ((), out, complaint) = tokio::join!(feed, read(stdout, most), read(stderr, STDERR_BYTES_MAX));
    let out = out.map_err(|e| failed("read from the compile worker", &e))?;
    let ended = worker
        .wait()
        .await
        .map_err(|e| failed("wait for the compile worker", &e))?;
    match (ended.success(), split(&out)) {
        (true, Some((answer, code))) => judge(answer, code),
        _ => Err(ended_badly(options, ended, &complaint.unwrap_or_default())),
    }
}

fn start(options: &CompileOptions) -> std::io::Result<Child> {
    let program = match &options.program {
        Some(program) => program.clone(),
        // Leads to the program that runs, even where its file was replaced since.
        None if cfg!(target_os = "linux") => PathBuf::from("/proc/self/exe"),
        None => std::env::current_exe()?,
    };
    Command::new(program)
        .args(&options.args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// Reads to the end, and keeps the beginning.
async fn read(mut from: impl AsyncRead + Unpin, most: usize) -> std::io::Result<BytesMut> {
    let mut kept = BytesMut::new();
    let mut rest = BytesMut::new();
    loop {
        let into = if kept.len() < most { &mut kept } else { &mut rest };
        into.reserve(64 << 10);
        if from.read_buf(into).await? == 0 {
            kept.truncate(most);
            return Ok(kept);
        }
        rest.clear();
    }
}

fn split(out: &BytesMut) -> Option<(CompileAnswer, &[u8])> {
    let end = out.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n')?;
    let answer = serde_json::from_slice(&out[..end]).ok()?;
    Some((answer, &out[end + 1..]))
}

fn judge(answer: CompileAnswer, code: &[u8]) -> Result<Bytes, NoCode> {
    match answer {
        CompileAnswer::Compiled { bytes } if bytes == code.len() as u64 && bytes <= CODE_BYTES_MAX => {
            Ok(Bytes::copy_from_slice(code))
        }
        CompileAnswer::Compiled { bytes } => Err(NoCode::Failed(format!(
            "the compile worker announced {bytes} bytes of code and gave {}",
            code.len()
        ))),
        CompileAnswer::Unsupported { reason } => Err(NoCode::Unsupported(reason)),
        CompileAnswer::Refused { reason } => Err(NoCode::Refused(reason)),
        CompileAnswer::Failed { reason } => Err(NoCode::Failed(reason)),
    }
}

fn ended_badly(options: &CompileOptions, ended: ExitStatus, complaint: &[u8]) -> NoCode {
    let text = String::from_utf8_lossy(complaint);
    let said = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("");
    match ended.signal() {
        Some(SIGXCPU) => NoCode::Refused(format!(
            "compiling it takes more than {} s of processor time",
            options.cpu_seconds
        )),
        Some(SIGABRT) if text.contains("memory allocation") => NoCode::Refused(format!(
            "compiling it takes more than {} MiB of memory",
            options.memory_bytes >> 20
        )),
        // Somebody ended it: the kernel for want of memory, or a person.
        Some(SIGKILL) => NoCode::Failed("the compile worker was killed".to_owned()),
        // The compiler itself gave up on it, and would again.
        Some(signal) => NoCode::Refused(format!("the compiler ended with signal {signal}: {said}")),
        None if ended.code() == Some(101) => NoCode::Refused(format!("the compiler gave up: {said}")),
        None => NoCode::Failed(format!("the compile worker ended with {ended}: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::host_spec::Wasi;
    use std::collections::BTreeMap;

    /// A worker that a shell pretends to be.
    fn shell(script: &str) -> CompileOptions {
        CompileOptions {
            program: Some("/bin/sh".into()),
            args: vec!["-c".into(), script.into()],
            workers: 1,
            cpu_seconds: 7,
            memory_bytes: 64 << 20,
        }
    }

    async fn run_shell(script: &str) -> Result<Bytes, NoCode> {
        let job = CompileJob {
            profile: BTreeMap::new(),
            wasi: Wasi::P2,
            fingerprint: "f".into(),
            bytes: 4,
            cpu_seconds: 7,
            memory_bytes: 1,
        };
        run(&shell(script), &job, &Bytes::from_static(b"wasm")).await
    }

    #[tokio::test]
    async fn code_comes_back_with_all_its_bytes() {
        let echo = r#"read job; component=$(cat); printf '{"answer":"compiled","bytes":9}\ncode:%s' "$component""#;
        assert_eq!(run_shell(echo).await.unwrap(), "code:wasm");
        let short = r#"cat >/dev/null; printf '{"answer":"compiled","bytes":9}\ncode'"#;
        assert!(matches!(run_shell(short).await, Err(NoCode::Failed(_))));
    }

    #[tokio::test]
    async fn what_ends_a_worker_says_whose_fault_it_was() {
        let cases = [
            (
                "kill -XCPU $$",
                "Refused(\"compiling it takes more than 7 s of processor time\")",
            ),
            (
                "echo memory allocation of 9 bytes failed >&2; kill -ABRT $$",
                "Refused(\"compiling it takes more than 64 MiB of memory\")",
            ),
            ("kill -KILL $$", "Failed(\"the compile worker was killed\")"),
            (
                "echo stack overflow >&2; kill -SEGV $$",
                "Refused(\"the compiler ended with signal 11: stack overflow\")",
            ),
            (
                "echo assertion >&2; exit 101",
                "Refused(\"the compiler gave up: assertion\")",
            ),
            ("exit 3", "Failed(\"the compile worker ended with exit status: 3: \")"),
            ("exit 0", "Failed(\"the compile worker ended with exit status: 0: \")"),
            ("yes | head -c 300000", "Failed("),
            (
                r#"echo '{"answer":"unsupported","reason":"other"}'"#,
                "Unsupported(\"other\")",
            ),
            (
                r#"echo '{"answer":"refused","reason":"no component"}'"#,
                "Refused(\"no component\")",
            ),
        ];
        for (script, expected) in cases {
            let ended = format!("{:?}", run_shell(script).await.unwrap_err());
            assert!(ended.starts_with(expected), "{script}: {ended}");
        }
        let nowhere = CompileOptions {
            program: Some("/nowhere".into()),
            ..shell("")
        };
        let job = CompileJob {
            profile: BTreeMap::new(),
            wasi: Wasi::P2,
            fingerprint: String::new(),
            bytes: 0,
            cpu_seconds: 1,
            memory_bytes: 1,
        };
        assert!(matches!(
            run(&nowhere, &job, &Bytes::new()).await,
            Err(NoCode::Failed(_))
        ));
    }
}
