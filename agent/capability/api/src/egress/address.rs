//! Which addresses a guest may never reach, whatever its manifest names: this host itself, its neighbours on the link, the
//! metadata services of clouds, and the fleet's own NATS.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Which addresses the guests of a host may reach.
#[derive(Debug, Default)]
pub struct AddressPolicy {
    /// Networks that the operator allows although they would be forbidden.
    allowed: Vec<IpNet>,
    /// The fleet's own servers, which nothing allows.
    own: Vec<SocketAddr>,
}

/// Where clouds tell machines their secrets, beside the link-local address that all of them use.
const METADATA: [IpAddr; 2] = [
    // AWS over IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    // Alibaba.
    IpAddr::V4(std::net::Ipv4Addr::new(100, 100, 100, 200)),
];

impl AddressPolicy {
    /// A policy with exceptions, and servers to which there is none.
    pub fn new(allowed: Vec<IpNet>, own: Vec<SocketAddr>) -> Self {
        Self { allowed, own }
    }

    /// Why an address may not be reached; none if it may.
    pub fn forbids(&self, address: SocketAddr) -> Option<&'static str> {
        let ip = address.ip().to_canonical();
        if self
            .own
            .iter()
            .any(|own| own.port() == address.port() && same_machine(own.ip(), ip))
        {
            return Some("that is the fleet's own server");
        }
        let why = reserved(ip)?;
        (!self.allowed.iter().any(|net| net.contains(&ip))).then_some(why)
    }
}

/// Whether two addresses lead to one machine, as far as can be told: any loopback address leads to this one.
fn same_machine(a: IpAddr, b: IpAddr) -> bool {
    let a = a.to_canonical();
    let here = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    a == b || (here(a) && here(b))
}

fn reserved(ip: IpAddr) -> Option<&'static str> {
    if METADATA.contains(&ip) {
        return Some("that is a cloud's metadata service");
    }
    match ip {
        ip if ip.is_loopback() => Some("that is a loopback address: the host itself"),
        ip if ip.is_unspecified() => Some("that is no address: it would be the host itself"),
        ip if ip.is_multicast() => Some("that is a multicast address"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("that is a link-local address, where clouds keep their metadata"),
        IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0 => Some("that is no address of a machine"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("that is a link-local address"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_host_its_link_and_metadata_are_out_of_reach() {
        let policy = AddressPolicy::default();
        for bad in [
            "127.0.0.1:80",
            "127.9.9.9:80",
            "0.0.0.0:80",
            "169.254.169.254:80",
            "100.100.100.200:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "[::1]:80",
            "[::]:80",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:169.254.169.254]:80",
            "[fe80::1]:80",
            "[fd00:ec2::254]:80",
            "[ff02::1]:80",
        ] {
            assert!(policy.forbids(address(bad)).is_some(), "{bad}");
        }
        for good in ["10.1.2.3:80", "192.0.2.1:443", "[2001:db8::1]:443"] {
            assert_eq!(policy.forbids(address(good)), None, "{good}");
        }
    }

    #[test]
    fn an_operator_may_allow_a_network_but_never_the_fleets_own_servers() {
        let allowed = vec!["127.0.0.0/8".parse().unwrap()];
        let policy = AddressPolicy::new(allowed, vec![address("127.0.0.1:4222"), address("10.0.0.7:4222")]);
        assert_eq!(policy.forbids(address("127.0.0.1:8080")), None);
        assert!(policy.forbids(address("127.0.0.5:4222")).is_some());
        assert!(policy.forbids(address("10.0.0.7:4222")).is_some());
        assert_eq!(policy.forbids(address("10.0.0.7:80")), None);
        assert!(policy.forbids(address("169.254.169.254:80")).is_some());
    }
}
