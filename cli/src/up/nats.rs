//! The nats-server of a local fleet: found, checked, configured and started, never adopted (D29).

use super::child::{Family, Recipe};
use super::data::Data;
use super::{UpArgs, port, start_failure};
use crate::context::process_env;
use crate::failure::Failure;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;

/// The oldest nats-server that keeps what the store needs: atomic batches that survive a kill (D7).
const VERSION_MIN: (u32, u32) = (2, 15);
/// How long a server may take to greet: it reads its streams first.
const GREETS_WITHIN: Duration = Duration::from_secs(30);
/// What the server lets streams reserve. Without it that is a share of what the disk has free at its start, and a laptop with
/// a few gigabytes left has no room for what a realm reserves and hardly uses.
const FILE_STORE_MAX: &str = "32GB";

/// Where NATS is.
#[derive(Debug, Clone)]
pub struct Nats {
    /// Its URL.
    pub url: String,
    /// The address of its monitoring, if known.
    pub monitor: Option<String>,
}

/// Starts a server, unless another one was named.
pub async fn start(args: &UpArgs, data: &Data, family: &mut Family) -> Result<Nats, Failure> {
    if let Some(url) = &args.nats {
        return Ok(Nats {
            url: url.clone(),
            monitor: args.nats_monitor.clone(),
        });
    }
    let program = find().await?;
    let ports = port::free(2)?;
    let [client, monitor] = ports[..] else {
        return Err(start_failure("nats-server", "no free port was found", ""));
    };
    let config = data.nats().join("nats.conf");
    std::fs::write(&config, configuration(client, monitor, &data.nats()))
        .map_err(|error| Failure::file("write", &config, &error))?;
    family.add(Recipe {
        name: "nats-server".to_owned(),
        rank: 0,
        program: Some(program),
        args: vec!["--config".into(), config.into()],
        env: Vec::new(),
        log: data.log("nats"),
    })?;
    family.unharmed(greeted(client)).await?;
    Ok(Nats {
        url: format!("nats://{client}"),
        monitor: Some(format!("http://{monitor}")),
    })
}

/// Every acknowledged write is on disk: a local fleet survives a power cut like a real one.
fn configuration(client: SocketAddr, monitor: SocketAddr, folder: &Path) -> String {
    let store = serde_json::Value::from(folder.join("jetstream").to_string_lossy()).to_string();
    format!(
        "# Written by `heddle up` at each start.\n\
         server_name: \"heddle-up\"\n\
         listen: \"{client}\"\n\
         http: \"{monitor}\"\n\
         jetstream {{\n  store_dir: {store}\n  max_file_store: {FILE_STORE_MAX}\n  sync_interval: always\n}}\n"
    )
}

/// Waits for the line with which a server greets.
async fn greeted(address: SocketAddr) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        let greeting = async {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            let mut start = [0; 5];
            stream.read_exact(&mut start).await?;
            Ok::<_, std::io::Error>(start)
        };
        let why = match tokio::time::timeout(Duration::from_secs(2), greeting).await {
            Ok(Ok(start)) if &start == b"INFO " => return Ok(()),
            Ok(Ok(_)) => "something else answers on its port".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not greet".to_owned(),
        };
        if started.elapsed() >= GREETS_WITHIN {
            return Err(start_failure("nats-server", why, "see its log"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The server that `HEDDLE_NATS_SERVER` names, or the one on the path, if it is new enough.
async fn find() -> Result<PathBuf, Failure> {
    const NEXT: &str = "`cargo xtask up` fetches one; or install nats-server 2.15 or newer and put it on PATH, or name it in HEDDLE_NATS_SERVER; or use one that runs with --nats URL";
    let named = process_env("HEDDLE_NATS_SERVER").map(PathBuf::from);
    let on_path = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join("nats-server"))
            .find(|file| file.is_file())
    };
    let Some(program) = named.or_else(on_path) else {
        return Err(start_failure("nats-server", "none was found", NEXT));
    };
    let shown = program.display().to_string();
    let said = tokio::process::Command::new(&program).arg("--version").output().await;
    let said = said.map_err(|error| start_failure(&shown, error, NEXT))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    match version(&said) {
        Some(found) if found >= VERSION_MIN => Ok(program),
        Some((major, minor)) => {
            let why = format!("its version {major}.{minor} is too old, 2.15 is needed");
            Err(start_failure(&shown, why, NEXT))
        }
        None => Err(start_failure(
            &shown,
            format!("it says {:?} instead of a version", said.trim()),
            NEXT,
        )),
    }
}

/// Reads `nats-server: v2.15.1`.
fn version(said: &str) -> Option<(u32, u32)> {
    let number = said.trim().rsplit_once('v')?.1;
    let mut parts = number.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("nats-server: v2.15.1\n"), Some((2, 15)));
        assert_eq!(version("nats-server: v2.9.10"), Some((2, 9)));
        assert!(version("nats-server: v2.9.10") < Some(VERSION_MIN));
        assert_eq!(version("nats-server: v3.0.0-beta"), Some((3, 0)));
        assert_eq!(version("nonsense"), None);
    }

    #[test]
    fn every_write_is_synced_and_room_does_not_depend_on_the_disk() {
        let address: SocketAddr = "127.0.0.1:4222".parse().unwrap();
        let text = configuration(address, address, Path::new("/tmp/with \"quotes\""));
        assert!(text.contains("sync_interval: always"));
        assert!(text.contains("max_file_store: 32GB"));
        assert!(
            text.contains(r#"store_dir: "/tmp/with \"quotes\"/jetstream""#),
            "{text}"
        );
    }
}
