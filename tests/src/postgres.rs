//! A Postgres of a test's own: a database that asks for a password, and a port that it takes back when it starts again.
//!
//! In: Debian's `postgresql`, or the folder with its programs in `HEDDLE_POSTGRES_BIN`. Out: a running server. Postgres
//! refuses to run as root; where the tests do, it runs as the user `postgres`.

use crate::port;
use crate::process::{Process, Recipe};
use crate::until::eventually;
use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A server reads its data, and after a crash its log, before it answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// The password of the user [`USER`]. The server is reachable from this machine only.
pub const PASSWORD: &str = "password-of-a-test";
/// The user, who may do everything.
pub const USER: &str = "owner";
/// Where Debian keeps the programs, by version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A Postgres server.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    address: SocketAddr,
    /// Of its own, because another user must be able to get there.
    _folder: TempDir,
}

impl Postgres {
    /// Makes a database, starts its server, and waits until it answers.
    pub async fn start(log: &Path) -> Result<Self> {
        let programs = programs()?;
        let user = other_user()?;
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir();
        let folder = folder.context("failed to make a folder for Postgres")?;
        let secret = folder.path().join("password");
        std::fs::write(&secret, PASSWORD).with_context(|| format!("failed to write {}", secret.display()))?;
        if let Some((uid, gid)) = user {
            for path in [folder.path(), &secret] {
                chown(path, Some(uid), Some(gid)).with_context(|| format!("failed to give away {}", path.display()))?;
            }
        }
        let data = folder.path().join("data");
        let made = command(&programs.join("initdb"), user, &arguments(&data, &secret));
        let (program, args) = made;
        let said = Command::new(program)
            .args(args)
            .output()
            .context("failed to start initdb")?;
        ensure!(
            said.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&said.stderr)
        );
        let address = port::free()?;
        let (program, args) = command(&programs.join("postgres"), user, &settings(&data, address));
        let process = Process::start(Recipe {
            name: "postgres".to_owned(),
            program,
            args,
            env: Vec::new(),
            log: log.to_owned(),
        })?;
        let mut postgres = Self {
            process,
            address,
            _folder: folder,
        };
        postgres.answers().await?;
        Ok(postgres)
    }

    /// Where clients connect, without the password.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@{}/postgres", self.address)
    }

    /// The process, for faults.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills it, as a crash would: its connections break.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again on the same data and port.
    pub async fn start_again(&mut self) -> Result<()> {
        self.answers().await
    }

    async fn answers(&mut self) -> Result<()> {
        let (address, process) = (self.address, &mut self.process);
        eventually(ANSWERS_WITHIN, "postgres answers", async || {
            // After a crash it does not start until the last of its old processes is gone.
            if !process.runs()? {
                process.start_again()?;
            }
            tokio::time::timeout(Duration::from_secs(1), ready(address))
                .await
                .context("no answer")?
        })
        .await
    }
}

/// Asks for TLS, which a server answers with one letter as soon as it takes connections, and then for a login.
async fn ready(address: SocketAddr) -> Result<()> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    // Length, version 3.0, and `user owner`.
    let mut login = vec![0, 0, 0, 0, 0, 3, 0, 0];
    login.extend_from_slice(format!("user\0{USER}\0\0").as_bytes());
    login[3] = u8::try_from(login.len())?;
    stream.write_all(&login).await?;
    let mut kind = [0];
    stream.read_exact(&mut kind).await?;
    // It asks for the password; an error (`E`) says that it is starting still.
    ensure!(&kind == b"R", "it does not take logins yet");
    Ok(())
}

fn arguments(data: &Path, secret: &Path) -> Vec<OsString> {
    let mut pwfile = OsString::from("--pwfile=");
    pwfile.push(secret);
    let plain = [
        "--username",
        USER,
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
        "-D",
    ];
    let mut all: Vec<OsString> = plain.iter().map(OsString::from).collect();
    all.push(data.into());
    all.push(pwfile);
    all
}

fn settings(data: &Path, address: SocketAddr) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec!["-D".into(), data.into()];
    for setting in [
        format!("listen_addresses={}", address.ip()),
        format!("port={}", address.port()),
        "unix_socket_directories=".to_owned(),
        "max_connections=50".to_owned(),
        "fsync=off".to_owned(),
    ] {
        all.extend(["-c".into(), setting.into()]);
    }
    all
}

/// A program with its arguments, as the other user if there is one.
fn command(program: &Path, user: Option<(u32, u32)>, args: &[OsString]) -> (PathBuf, Vec<OsString>) {
    let Some((uid, gid)) = user else {
        return (program.to_owned(), args.to_vec());
    };
    let mut all: Vec<OsString> = vec![
        format!("--reuid={uid}").into(),
        format!("--regid={gid}").into(),
        "--clear-groups".into(),
        // The kernel forgets it when the user changes.
        "--pdeathsig=KILL".into(),
        program.into(),
    ];
    all.extend_from_slice(args);
    ("/usr/bin/setpriv".into(), all)
}

/// Whom to run it as; none where the tests run as somebody who is not root.
fn other_user() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").context("failed to read the list of users")?;
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let line = line.context("failed to find the user `postgres`: install Debian's package `postgresql`")?;
    let mut numbers = line.split(':').skip(2).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(uid)), Some(Ok(gid))) => Ok(Some((uid, gid))),
        _ => bail!("failed to read the user `postgres` in the list of users"),
    }
}

/// The folder with initdb and postgres.
fn programs() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("HEDDLE_POSTGRES_BIN").filter(|named| !named.is_empty()) {
        return Ok(named.into());
    }
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    found.retain(|folder| folder.join("initdb").is_file());
    found.sort();
    found
        .pop()
        .context("failed to find Postgres: install it (Debian: apt-get install postgresql), or name its programs' folder in HEDDLE_POSTGRES_BIN")
}
