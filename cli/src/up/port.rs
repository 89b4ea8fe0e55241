//! Free ports on the loopback address.

use crate::exit::Exit;
use crate::failure::Failure;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Ports that were free a moment ago. All are held until all are chosen, so that none is chosen twice.
pub fn free(n: usize) -> Result<Vec<SocketAddr>, Failure> {
    let listeners: Result<Vec<TcpListener>, _> = (0..n).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    let addresses = listeners.and_then(|all| all.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>());
    addresses.map_err(|error| Failure::new(Exit::Failed, format!("failed to find {n} free ports: {error}"), ""))
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
