//! The load: connections that each send a request as soon as the last one is answered.
//!
//! In: an address and requests. Out: how many were answered, and how long each took. One thread with plain sockets: it
//! must cost little, because it shares the machine with what it measures.

use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Requests that a connection keeps from the end of its slice, in case a server hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where requests go, and what they say: one after the other, over and over.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Vec<Vec<u8>>>,
}

/// How much load there is, and for how long.
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) slice: Duration,
}

/// What one slice came to.
pub(crate) struct Measured {
    /// Nanoseconds of each answer, in order.
    latencies: Vec<u64>,
    took: Duration,
}

impl Load {
    /// Loads a server from this thread.
    pub(crate) fn run(&self, target: &Target) -> Result<Measured> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let started = Instant::now();
            let end = started + self.slice;
            let connections = (0..self.connections).map(|first| tokio::spawn(connection(target.clone(), first, end)));
            let mut latencies = Vec::new();
            for connection in connections.collect::<Vec<_>>() {
                let answered = tokio::time::timeout(self.slice + ANSWER_TIMEOUT, connection);
                latencies.extend(answered.await.context("a server gave no answer")???);
            }
            let took = started.elapsed();
            latencies.sort_unstable();
            ensure!(!latencies.is_empty(), "failed to get a single answer");
            Ok(Measured { latencies, took })
        })
    }
}

impl Measured {
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn p50_us(&self) -> f64 {
        self.quantile_us(50)
    }

    pub(crate) fn p99_us(&self) -> f64 {
        self.quantile_us(99)
    }

    fn quantile_us(&self, percent: usize) -> f64 {
        let at = (self.latencies.len() * percent / 100).min(self.latencies.len() - 1);
        self.latencies[at] as f64 / 1_000.0
    }
}

async fn connection(target: Target, first: usize, end: Instant) -> Result<Vec<u64>> {
    let mut stream = TcpStream::connect(target.address)
        .await
        .context("failed to connect to the server")?;
    stream.set_nodelay(true)?;
    let mut latencies = Vec::with_capacity(1 << 14);
    let mut buffer = Vec::with_capacity(4 << 10);
    // A stride that shares no factor with the number of routes visits all of them, in no order that a cache likes.
    let mut next = first * 631;
    let mut now = Instant::now();
    while now < end {
        let request = &target.requests[next % target.requests.len()];
        next += 7_919;
        let sent = now;
        stream.write_all(request).await?;
        answer(&mut stream, &mut buffer).await?;
        now = Instant::now();
        latencies.push(u64::try_from((now - sent).as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(latencies)
}

/// Reads one answer and sees that it is a success.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    loop {
        ensure!(stream.read_buf(buffer).await? > 0, "the server closed the connection");
        let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let (head, body) = buffer.split_at(head + 4);
        ensure!(
            head.starts_with(b"HTTP/1.1 200"),
            "the server answered {}",
            String::from_utf8_lossy(&buffer[..])
        );
        match length(head)? {
            Some(length) if body.len() >= length => return Ok(()),
            None if body.ends_with(b"0\r\n\r\n") => return Ok(()),
            _ => {}
        }
    }
}

/// The length that a head announces; none if the body comes in chunks.
fn length(head: &[u8]) -> Result<Option<usize>> {
    for line in head.split(|byte| *byte == b'\n') {
        if let Some((name, value)) = line.split_at_checked(15)
            && name.eq_ignore_ascii_case(b"content-length:")
        {
            return Ok(Some(std::str::from_utf8(value)?.trim().parse()?));
        }
        if line.len() > 17 && line[..17].eq_ignore_ascii_case(b"transfer-encoding") {
            return Ok(None);
        }
    }
    bail!("the server did not say how long its answer is")
}
