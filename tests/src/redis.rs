//! A Redis of a test's own: with a password, with its data on disk at every write, and on a port that it takes back when
//! it starts again.

use crate::process::{Process, Recipe};
use crate::until::eventually;
use crate::{binary, port};
use anyhow::{Context as _, Result, ensure};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A server reads its data before it answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// The password of a test. The server is reachable from this machine only.
pub const PASSWORD: &str = "password-of-a-test";

/// A redis-server.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    address: SocketAddr,
}

impl Redis {
    /// Starts a server that keeps its data in `folder`, and waits until it answers.
    pub async fn start(folder: &Path, log: &Path) -> Result<Self> {
        let address = port::free()?;
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let config = folder.join("redis.conf");
        std::fs::write(&config, configuration(address, folder))
            .with_context(|| format!("failed to write {}", config.display()))?;
        let process = Process::start(Recipe {
            name: "redis-server".to_owned(),
            program: binary::redis_server()?,
            args: vec![config.into()],
            env: Vec::new(),
            log: log.to_owned(),
        })?;
        let redis = Self { process, address };
        redis.answers().await?;
        Ok(redis)
    }

    /// Where clients connect, without the password.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// The process, for faults.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills it: what it acknowledged is on disk, its connections break.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again on the same data and port.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process.start_again()?;
        self.answers().await
    }

    async fn answers(&self) -> Result<()> {
        eventually(ANSWERS_WITHIN, "redis-server answers", async || {
            let ping = async {
                let mut stream = tokio::net::TcpStream::connect(self.address).await?;
                stream.write_all(b"PING\r\n").await?;
                let mut start = [0; 7];
                stream.read_exact(&mut start).await?;
                Ok::<_, std::io::Error>(start)
            };
            let start = tokio::time::timeout(Duration::from_secs(1), ping)
                .await
                .context("no answer")??;
            // It serves only those who log in, and says so once it has read its data.
            ensure!(&start == b"-NOAUTH", "something else answers on its port");
            Ok(())
        })
        .await
    }
}

fn configuration(address: SocketAddr, folder: &Path) -> String {
    format!(
        "bind {}\nport {}\ndir \"{}\"\nrequirepass {PASSWORD}\nappendonly yes\nappendfsync always\nsave \"\"\n",
        address.ip(),
        address.port(),
        folder.display()
    )
}
