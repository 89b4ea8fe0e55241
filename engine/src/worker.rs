//! The worker: a process that compiles one component for somebody else, within limits, and ends.
//!
//! In: one [`CompileJob`] and the component. Out: one [`CompileAnswer`] and the code. The compiler is given bytes that a
//! stranger wrote, so the process first takes from itself what it does not need: time, memory, files, core dumps. What
//! exceeds a limit ends the process, and whoever started it sees that.

use crate::CompileError;
use crate::compile::compile;
use crate::profile::EngineProfile;
use heddle_protocol::compile::{CompileAnswer, CompileJob, LINE_BYTES_MAX};
use heddle_protocol::defaults::{ARTIFACT_BYTES_MAX, CODE_BYTES_MAX};
use rustix::process::{Resource, Rlimit, nice, setrlimit};
use std::io::{BufRead, Read, Write};

/// How far the worker stands back behind schedulers and agents on the same machine.
const NICE: i32 = 10;
/// Processor time between the signal that ends the process politely and the one that cannot be caught, in seconds.
const CPU_GRACE_SECONDS: u64 = 2;
/// Open files: the three that every process begins with.
const FILES: u64 = 3;

/// Does one job. Only a job that cannot be read or an answer that cannot be written is an error.
pub fn work(input: &mut impl BufRead, output: &mut impl Write) -> std::io::Result<()> {
    let job = read_job(input)?;
    let (answer, code) = match limit(&job) {
        Ok(()) => {
            let component = read_component(input, job.bytes)?;
            carry_out(&job, &component)
        }
        Err(e) => {
            let reason = format!("failed to limit the worker: {e}");
            (CompileAnswer::Failed { reason }, Vec::new())
        }
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.write_all(&code)?;
    output.flush()
}

fn read_job(input: &mut impl BufRead) -> std::io::Result<CompileJob> {
    let mut line = Vec::new();
    input.take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

fn read_component(input: &mut impl BufRead, bytes: u64) -> std::io::Result<Vec<u8>> {
    // One more than is taken, so that too much is noticed.
    let mut component = Vec::new();
    input.take(ARTIFACT_BYTES_MAX + 1).read_to_end(&mut component)?;
    if component.len() as u64 != bytes {
        let why = format!(
            "{} bytes of a component came, and {bytes} were announced",
            component.len()
        );
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
    }
    Ok(component)
}

fn limit(job: &CompileJob) -> std::io::Result<()> {
    let set = |resource, current, maximum| {
        let (current, maximum) = (Some(current), Some(maximum));
        setrlimit(resource, Rlimit { current, maximum })
    };
    set(Resource::Core, 0, 0)?;
    set(Resource::Fsize, 0, 0)?;
    set(Resource::Nofile, FILES, FILES)?;
    set(Resource::Data, job.memory_bytes, job.memory_bytes)?;
    set(Resource::Cpu, job.cpu_seconds, job.cpu_seconds + CPU_GRACE_SECONDS)?;
    nice(NICE)?;
    Ok(())
}

fn carry_out(job: &CompileJob, component: &[u8]) -> (CompileAnswer, Vec<u8>) {
    let none = Vec::new;
    let profile = match EngineProfile::read(&job.profile) {
        Ok(profile) => profile,
        Err(e) => return (CompileAnswer::Unsupported { reason: e.to_string() }, none()),
    };
    if profile.fingerprint(job.wasi) != job.fingerprint {
        let reason = "the engine's fingerprint is not that of its profile".to_owned();
        return (CompileAnswer::Unsupported { reason }, none());
    }
    match compile(&profile, job.wasi, component) {
        Ok(code) if code.len() as u64 > CODE_BYTES_MAX => {
            let reason = format!("its native code has {} bytes, more than {CODE_BYTES_MAX}", code.len());
            (CompileAnswer::Refused { reason }, none())
        }
        Ok(code) => {
            let bytes = code.len() as u64;
            (CompileAnswer::Compiled { bytes }, code)
        }
        Err(error @ CompileError::Engine(_)) => (CompileAnswer::Unsupported { reason: whole(&error) }, none()),
        Err(error) => (CompileAnswer::Refused { reason: whole(&error) }, none()),
    }
}

/// An error with its causes, in one line.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string().replace('\n', " "));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::host_spec::Wasi;

    fn job(component: &[u8]) -> CompileJob {
        let profile = EngineProfile::of_this_machine();
        CompileJob {
            profile: profile.settings(),
            wasi: Wasi::P2,
            fingerprint: profile.fingerprint(Wasi::P2),
            bytes: component.len() as u64,
            cpu_seconds: 60,
            memory_bytes: 1 << 30,
        }
    }

    // The limits of a process cannot be taken back, so only what comes after them is tested here.
    #[test]
    fn a_job_is_carried_out_for_the_engine_that_it_names() {
        let component = wat::parse_str("(component)").unwrap();
        let (answer, code) = carry_out(&job(&component), &component);
        assert_eq!(
            answer,
            CompileAnswer::Compiled {
                bytes: code.len() as u64
            }
        );
        assert!(!code.is_empty());
        let other = CompileJob {
            fingerprint: "00".into(),
            ..job(&component)
        };
        assert!(matches!(
            carry_out(&other, &component).0,
            CompileAnswer::Unsupported { .. }
        ));
        let (answer, _) = carry_out(&job(b"x"), b"x");
        assert!(matches!(answer, CompileAnswer::Refused { reason } if reason.contains("failed to compile")));
    }

    #[test]
    fn a_job_that_cannot_be_read_is_an_error() {
        let mut line = serde_json::to_vec(&job(b"four")).unwrap();
        line.push(b'\n');
        assert_eq!(read_job(&mut &line[..]).unwrap(), job(b"four"));
        for bad in [&b""[..], b"{}\n", &vec![b' '; LINE_BYTES_MAX * 2]] {
            assert!(read_job(&mut &bad[..]).is_err());
        }
        assert!(read_component(&mut &b"five!"[..], 4).is_err());
        assert!(read_component(&mut &b"thr"[..], 4).is_err());
    }
}
