//! Loopback ports that a process can be given, lose and take back.
//!
//! They come from below the range that the system hands out to clients: a client that keeps trying to reach a dead
//! server on a port of that range can be given that very port, and then speaks to itself.

use anyhow::{Result, bail};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u16 = 12_000;
/// Linux hands out ports from 32768.
const COUNT: u16 = 20_000;

/// A port that was free a moment ago, and that no other call in this process returned lately.
pub fn free() -> Result<SocketAddr> {
    // Processes begin at different places, so that two that start together rarely meet.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(7_919);
    for _ in 0..COUNT {
        let step = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        // The remainder is below COUNT, which is a u16.
        let port = FIRST + (step % u32::from(COUNT)) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok((Ipv4Addr::LOCALHOST, port).into());
        }
    }
    bail!("failed to find a free port from {FIRST} to {}", FIRST + COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_port_is_given_twice() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free().unwrap().port()).collect();
        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| (FIRST..FIRST + COUNT).contains(port)));
    }
}
