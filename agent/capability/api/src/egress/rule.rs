//! Destinations as a manifest names them: `host:port`, `*.host:port` for all hosts below one, or an address.

/// One destination that a component may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRule {
    host: HostRule,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostRule {
    Exactly(String),
    /// Every host whose name ends with this, which begins with a dot.
    Below(String),
}

/// A text that names no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read egress rule {0:?}: write host:port, *.host:port or [address]:port")]
pub struct EgressRuleError(String);

impl EgressRule {
    /// Reads a rule.
    pub fn parse(text: &str) -> Result<Self, EgressRuleError> {
        let bad = || EgressRuleError(text.chars().take(80).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(bad)?,
            None if host.contains(':') => return Err(bad()),
            None => host,
        };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let host = match host.strip_prefix('*') {
            Some(below) if below.starts_with('.') && below.len() > 1 => HostRule::Below(below.to_owned()),
            Some(_) => return Err(bad()),
            None if host.is_empty() || host.contains('*') => return Err(bad()),
            None => HostRule::Exactly(host),
        };
        Ok(Self { host, port })
    }

    /// Whether a destination is this one. `host` is in lower case, without brackets.
    pub(super) fn allows(&self, host: &str, port: u16) -> bool {
        let same_host = match &self.host {
            HostRule::Exactly(name) => name == host,
            HostRule::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        };
        same_host && self.port == port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_one_host_and_port_or_all_below_one() {
        let allows = |rule: &str, host: &str, port| EgressRule::parse(rule).unwrap().allows(host, port);
        assert!(allows("API.example.com:443", "api.example.com", 443));
        assert!(!allows("api.example.com:443", "api.example.com", 80));
        assert!(!allows("api.example.com:443", "evil-api.example.com", 443));
        assert!(allows("*.example.com:443", "a.b.example.com", 443));
        assert!(!allows("*.example.com:443", "example.com", 443));
        assert!(!allows("*.example.com:443", "evilexample.com", 443));
        assert!(allows("[2001:db8::1]:443", "2001:db8::1", 443));
    }

    #[test]
    fn what_names_no_destination_is_refused() {
        for bad in [
            "",
            "host",
            "host:",
            "host:0",
            "host:65536",
            ":443",
            "*:443",
            "a*.b:1",
            "*.:1",
            "1::2:80",
            "[::1:80",
        ] {
            assert!(EgressRule::parse(bad).is_err(), "{bad}");
        }
    }
}
