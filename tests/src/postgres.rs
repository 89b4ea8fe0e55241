//! A Postgres of a test's own: a database that asks for a password, and a port that it takes back when it starts again.
//!
//! In: the folder with its programs in `HEDDLE_POSTGRES_BIN`, as `cargo xtask test` names it, or Debian's `postgresql`. Out:
//! a running server. Postgres refuses to run as root; where the tests do, it runs as the user `postgres`, or `nobody`.

use crate::port;
use crate::process::{Process, Recipe};
use crate::until::eventually;
use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
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
    /// Makes a database whose owner has the password [`PASSWORD`], starts its server, and waits until it answers.
    pub async fn start(log: &Path) -> Result<Self> {
        Self::start_with("scram-sha-256", log).await
    }

    /// The same, but it asks nobody on this machine for a password.
    pub async fn start_open(log: &Path) -> Result<Self> {
        Self::start_with("trust", log).await
    }

    async fn start_with(login: &str, log: &Path) -> Result<Self> {
        let user = other_user()?;
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir();
        let folder = folder.context("failed to make a folder for Postgres")?;
        let programs = Programs::find()?.for_user(user, folder.path())?;
        let secret = folder.path().join("password");
        std::fs::write(&secret, PASSWORD).with_context(|| format!("failed to write {}", secret.display()))?;
        if let Some((uid, gid)) = user {
            for path in [folder.path(), &secret] {
                chown(path, Some(uid), Some(gid)).with_context(|| format!("failed to give away {}", path.display()))?;
            }
        }
        let data = folder.path().join("data");
        let (program, args) = command(&programs.folder.join("initdb"), user, &arguments(login, &data, &secret));
        let said = Command::new(program)
            .args(args)
            .envs(programs.env.iter().cloned())
            .output()
            .context("failed to start initdb")?;
        ensure!(
            said.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&said.stderr)
        );
        let address = port::free()?;
        let (program, args) = command(&programs.folder.join("postgres"), user, &settings(&data, address));
        let process = Process::start(Recipe {
            name: "postgres".to_owned(),
            program,
            args,
            env: programs.env,
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
    // It asks for the password, or takes the login without one; an error (`E`) says that it is starting still.
    ensure!(&kind == b"R", "it does not take logins yet");
    Ok(())
}

fn arguments(login: &str, data: &Path, secret: &Path) -> Vec<OsString> {
    let mut pwfile = OsString::from("--pwfile=");
    pwfile.push(secret);
    let plain = [
        "--username",
        USER,
        "--auth",
        login,
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
    let line = |name| users.lines().find(|line| line.starts_with(name));
    let line = line("postgres:").or_else(|| line("nobody:"));
    let line =
        line.context("failed to find a user `postgres` or `nobody` to run Postgres as: it refuses to run as root")?;
    let mut numbers = line.split(':').skip(2).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(uid)), Some(Ok(gid))) => Ok(Some((uid, gid))),
        _ => bail!("failed to read a user in the list of users: {line:?}"),
    }
}

/// Where initdb and postgres are, and what they need in their environment.
struct Programs {
    folder: PathBuf,
    env: Vec<(String, String)>,
}

impl Programs {
    fn find() -> Result<Self> {
        let named = std::env::var_os("HEDDLE_POSTGRES_BIN").filter(|named| !named.is_empty());
        let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
        found.retain(|folder| folder.join("initdb").is_file());
        found.sort();
        let folder = named.map(PathBuf::from).or_else(|| found.pop()).context(
            "failed to find Postgres: run `cargo xtask test`, which fetches it, or install it (Debian: apt-get install \
             postgresql), or name its programs' folder in HEDDLE_POSTGRES_BIN",
        )?;
        Ok(Self {
            folder,
            env: Vec::new(),
        })
    }

    /// The same, or a copy in `folder` where the user cannot get at them: a cache in root's home is nobody else's.
    fn for_user(self, user: Option<(u32, u32)>, folder: &Path) -> Result<Self> {
        if user.is_none() || anybody_reaches(&self.folder)? {
            return Ok(self);
        }
        let prefix = self
            .folder
            .parent()
            .context("the programs of Postgres are in no folder")?;
        let copy = folder.join("installed");
        let bin = copy.join("bin");
        std::fs::create_dir_all(&bin).with_context(|| format!("failed to make {}", bin.display()))?;
        let (initdb, postgres) = (self.folder.join("initdb"), self.folder.join("postgres"));
        for (from, to) in [
            (initdb, &bin),
            (postgres, &bin),
            (prefix.join("lib"), &copy),
            (prefix.join("share"), &copy),
        ] {
            let copied = Command::new("cp").arg("-R").arg(&from).arg(to).status();
            let copied = copied.context("failed to start cp")?;
            ensure!(
                copied.success(),
                "failed to copy {} to {}",
                from.display(),
                to.display()
            );
        }
        let libraries = copy.join("lib").to_string_lossy().into_owned();
        Ok(Self {
            folder: bin,
            env: vec![("LD_LIBRARY_PATH".to_owned(), libraries)],
        })
    }
}

/// Whether every folder on the way lets everybody through.
fn anybody_reaches(folder: &Path) -> Result<bool> {
    let whole = folder.canonicalize();
    let whole = whole.with_context(|| format!("failed to find {}", folder.display()))?;
    for part in whole.ancestors() {
        let mode = std::fs::metadata(part)?.permissions().mode();
        if mode & 0o001 == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
