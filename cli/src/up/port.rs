//! Free ports on the loopback address.
//!
//! They are chosen by chance below the range from which the system gives ports to outgoing connections: a port of that
//! range that is free now may be somebody's connection a moment later, before the server that it is for has taken it.

use crate::exit::Exit;
use crate::failure::Failure;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// How many ports below the system's range are chosen from.
const CHOICE: u16 = 12_000;
/// Where the system's range starts if it does not tell.
const RANGE_START: u16 = 32_768;
/// Ports below this have owners.
const LOWEST: u16 = 10_000;
/// Attempts for each port before the system is asked for any.
const ATTEMPTS: usize = 200;

/// Ports that were free a moment ago. All are held until all are chosen, so that none is chosen twice.
pub fn free(n: usize) -> Result<Vec<SocketAddr>, Failure> {
    let listeners: Result<Vec<TcpListener>, _> = (0..n).map(|_| hold_one()).collect();
    let addresses = listeners.and_then(|all| all.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>());
    addresses.map_err(|error| Failure::new(Exit::Failed, format!("failed to find {n} free ports: {error}"), ""))
}

fn hold_one() -> std::io::Result<TcpListener> {
    let end = range_start();
    let start = end.saturating_sub(CHOICE).max(LOWEST);
    if start < end {
        for _ in 0..ATTEMPTS {
            let offset = uuid::Uuid::new_v4().as_u128() % u128::from(end - start);
            let port = start + u16::try_from(offset).unwrap_or_default();
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                return Ok(listener);
            }
        }
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}

/// The first port that outgoing connections get.
fn range_start() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range
        .split_whitespace()
        .next()
        .and_then(|start| start.parse().ok())
        .unwrap_or(RANGE_START)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_port_is_chosen_twice() {
        let ports: BTreeSet<u16> = free(20).unwrap().iter().map(SocketAddr::port).collect();
        assert_eq!(ports.len(), 20);
    }
}
