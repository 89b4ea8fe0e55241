//! A neighbour that is asked at a steady rate, whatever happens.
//!
//! In: an address and a time. Out: the latency of each request, from the moment at which it was due. Some threads with a
//! connection each take turns, so that one late answer does not hold up the requests after it.

use super::RATE;
use super::attack::{Client, Head};
use anyhow::{Result, anyhow, ensure};
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Connections that take turns.
const LANES: u32 = 8;
/// Before the first request, so that all threads are there.
const START: Duration = Duration::from_millis(20);

/// Requests that are under way.
pub(super) struct Neighbour(Vec<JoinHandle<Result<Vec<f64>>>>);

impl Neighbour {
    /// Begins to ask.
    pub(super) fn start(address: SocketAddr, time: Duration) -> Self {
        let begin = Instant::now() + START;
        let lane = |lane| std::thread::spawn(move || ask(address, begin, time, lane));
        Self((0..LANES).map(lane).collect())
    }

    /// Waits until all are answered.
    pub(super) fn latencies_us(self) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        for lane in self.0 {
            all.extend(lane.join().map_err(|_| anyhow!("a thread of the load ended"))??);
        }
        Ok(all)
    }
}

fn ask(address: SocketAddr, begin: Instant, time: Duration, lane: u32) -> Result<Vec<f64>> {
    let mut client = Client::connect(address)?;
    let request = b"GET /neighbour HTTP/1.1\r\nhost: bench.example\r\n\r\n";
    let mut latencies = Vec::new();
    for turn in (lane..).step_by(LANES as usize) {
        let after = Duration::from_secs(1) * turn / RATE;
        if after >= time {
            break;
        }
        let due = begin + after;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let Head { status, code, .. } = client.ask(request)?;
        ensure!(
            status == 200,
            "the neighbour answered {status} {}",
            code.unwrap_or_default()
        );
        latencies.push(due.elapsed().as_secs_f64() * 1e6);
    }
    Ok(latencies)
}
