//! A recording between everything and a server: whatever goes over the wire, byte by byte, as an eavesdropper has it.
//!
//! In: the address of a server. Out: an address that leads there, and files with all that was sent, one for each direction
//! of each connection.

use anyhow::{Context as _, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// A recording proxy.
#[derive(Debug)]
pub struct Tap {
    address: SocketAddr,
    folder: PathBuf,
    task: JoinHandle<()>,
}

/// What one connection carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// What the client sent.
    pub sent: Vec<u8>,
    /// What the server sent to it.
    pub received: Vec<u8>,
}

impl Recorded {
    /// The name that a NATS client gave itself.
    pub fn client_name(&self) -> Option<String> {
        let start = self.sent.get(..self.sent.len().min(8_192))?;
        let line = start.strip_prefix(b"CONNECT ")?.split(|byte| *byte == b'\r').next()?;
        let connect: serde_json::Value = serde_json::from_slice(line).ok()?;
        Some(connect["name"].as_str()?.to_owned())
    }
}

impl Tap {
    /// Listens, leads to `server`, and records into `folder`.
    pub async fn start(server: SocketAddr, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("failed to bind a tap")?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, server, folder.to_owned()));
        Ok(Self {
            address,
            folder: folder.to_owned(),
            task,
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything so far, connection by connection.
    pub fn recorded(&self) -> Result<Vec<Recorded>> {
        let mut all = Vec::new();
        for number in 0.. {
            let (sent, received) = files(&self.folder, number);
            if !sent.exists() {
                break;
            }
            let read = |path: &Path| std::fs::read(path).with_context(|| format!("failed to read {}", path.display()));
            all.push(Recorded {
                sent: read(&sent)?,
                received: read(&received)?,
            });
        }
        Ok(all)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn files(folder: &Path, number: u64) -> (PathBuf, PathBuf) {
    (
        folder.join(format!("{number}.sent")),
        folder.join(format!("{number}.received")),
    )
}

async fn serve(listener: TcpListener, server: SocketAddr, folder: PathBuf) {
    let mut number = 0;
    while let Ok((client, _)) = listener.accept().await {
        // While the server is away the client sees its connection end, as it would without a tap.
        let Ok(upstream) = TcpStream::connect(server).await else {
            continue;
        };
        let (sent, received) = files(&folder, number);
        let (Ok(received), Ok(sent)) = (File::create(&received).await, File::create(&sent).await) else {
            return;
        };
        number += 1;
        // A tap that waits to fill its packets would slow down what it listens to.
        let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
        tokio::spawn(async move {
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = upstream.into_split();
            // When either side closes, the other is closed too: NATS knows no half of a connection.
            tokio::select! {
                _ = pass(from_client, to_server, sent) => {}
                _ = pass(from_server, to_client, received) => {}
            }
        });
    }
}

/// Passes bytes on after they are recorded: what has arrived anywhere is in the file.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut record: File,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
            return Ok(());
        };
        record.write_all(part).await?;
        record.flush().await?;
        to.write_all(part).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_through_is_recorded_in_both_directions() {
        let folder = tempfile::tempdir().unwrap();
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let tap = Tap::start(server.local_addr().unwrap(), folder.path()).await.unwrap();
        let mut client = TcpStream::connect(tap.address()).await.unwrap();
        let (mut upstream, _) = server.accept().await.unwrap();
        let connect = b"CONNECT {\"name\":\"somebody\"}\r\n";
        client.write_all(connect).await.unwrap();
        let mut seen = vec![0; connect.len()];
        upstream.read_exact(&mut seen).await.unwrap();
        upstream.write_all(b"INFO").await.unwrap();
        client.read_exact(&mut seen[..4]).await.unwrap();
        let recorded = tap.recorded().unwrap();
        assert_eq!(recorded.len(), 1);
        assert_eq!(recorded[0].client_name().as_deref(), Some("somebody"));
        assert_eq!(recorded[0].received, b"INFO");
    }
}
