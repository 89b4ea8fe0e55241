//! What records ask for: what hosts are lent, and which hosts a rule speaks of.
//!
//! In: platform and workload records, a host's labels. Out: the host's offers, or where two platforms clash.

use heddle_protocol::host_spec::{CapabilityOffer, Compile, SecretUse};
use heddle_protocol::id::{CapabilityName, PlatformName};
use heddle_protocol::record::{PlatformRecord, Requirement};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A host's labels.
pub type Labels = BTreeMap<String, String>;

/// What one host is lent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostOffers {
    /// The capabilities, by name. Where two platforms clash, the first by name wins: what the host has goes on.
    pub offers: BTreeMap<CapabilityName, CapabilityOffer>,
    /// The secrets that they need.
    pub secrets: BTreeMap<CapabilityName, BTreeMap<String, SecretUse>>,
    /// Who compiles for the host; none is not said.
    pub compile: Option<Compile>,
    /// The first clash: a host with one gets no new work.
    pub conflict: Option<Clash>,
}

/// Two platforms that give the same thing to one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// What both give: `capability web`, `address 127.0.0.1:80` or `engines.compile`.
    pub what: String,
    /// The first platform, by name. None where every host has the capability anyway.
    pub first: Option<PlatformName>,
    /// The second.
    pub second: PlatformName,
}

/// What every host is lent, whatever the platforms say (D23).
pub fn always_offered() -> BTreeMap<CapabilityName, CapabilityOffer> {
    let named = [
        ("config", CapabilityOffer::Config {}),
        ("logging", CapabilityOffer::Logging {}),
        ("secrets", CapabilityOffer::Secrets {}),
    ];
    named
        .into_iter()
        .filter_map(|(name, offer)| Some((CapabilityName::parse(name).ok()?, offer)))
        .collect()
}

/// Whether a host's labels keep all requirements.
pub fn selects(requirements: &[Requirement], labels: &Labels) -> bool {
    requirements
        .iter()
        .all(|r| r.rule.allows(labels.get(&r.label).map(String::as_str)))
}

/// The union of what the platforms that select a host lend it.
pub fn offers_of(labels: &Labels, platforms: &BTreeMap<PlatformName, Arc<PlatformRecord>>) -> HostOffers {
    let selected = platforms.iter().filter(|(_, record)| selects(&record.hosts, labels));
    union(selected.map(|(name, record)| (name, record.as_ref())))
}

/// The union of what some platforms lend, in the order of their names.
pub fn union<'a>(platforms: impl Iterator<Item = (&'a PlatformName, &'a PlatformRecord)>) -> HostOffers {
    let mut result = HostOffers {
        offers: always_offered(),
        ..HostOffers::default()
    };
    let mut compiles: Option<(&PlatformName, Compile)> = None;
    let mut names: BTreeMap<&CapabilityName, &PlatformName> = BTreeMap::new();
    let mut addresses: BTreeMap<&str, &PlatformName> = BTreeMap::new();
    for (platform, record) in platforms {
        match (compiles, record.compile) {
            (Some((first, before)), Some(compile)) if before != compile => {
                result.conflict.get_or_insert(Clash {
                    what: "engines.compile".to_owned(),
                    first: Some(first.clone()),
                    second: platform.clone(),
                });
            }
            (None, Some(compile)) => compiles = Some((platform, compile)),
            _ => {}
        }
        for (name, offer) in &record.offers {
            let clash = |what: String, first: Option<&PlatformName>| Clash {
                what,
                first: first.cloned(),
                second: platform.clone(),
            };
            let owner = names.get(name).copied();
            // Naming what every host has anyway is no clash, if it is the same.
            if owner.is_some() || result.offers.get(name).is_some_and(|always| always != offer) {
                result
                    .conflict
                    .get_or_insert(clash(format!("capability {name}"), owner));
                continue;
            }
            if let CapabilityOffer::Http { listen, .. } = offer
                && let Some(first) = addresses.insert(listen, platform)
            {
                result
                    .conflict
                    .get_or_insert(clash(format!("address {listen}"), Some(first)));
                addresses.insert(listen, first);
                continue;
            }
            names.insert(name, platform);
            result.offers.insert(name.clone(), offer.clone());
            if let Some(secrets) = record.secrets.get(name) {
                result.secrets.insert(name.clone(), secrets.clone());
            }
        }
    }
    result.compile = compiles.map(|(_, compile)| compile);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::id::Generation;
    use heddle_protocol::time::UnixMs;

    fn platform(listen: &str, name: &str) -> PlatformRecord {
        let offer = CapabilityOffer::Http {
            listen: listen.into(),
            max_connections: 1,
        };
        PlatformRecord {
            generation: Generation(1),
            manifest: serde_json::Value::Null,
            hosts: Vec::new(),
            offers: BTreeMap::from([(CapabilityName::parse(name).unwrap(), offer)]),
            applied_at: UnixMs(0),
            secrets: BTreeMap::new(),
            compile: None,
        }
    }

    fn clash_of(a: PlatformRecord, b: PlatformRecord) -> Option<String> {
        let name = |n: &str| PlatformName::parse(n).unwrap();
        let both = BTreeMap::from([(name("a"), Arc::new(a)), (name("b"), Arc::new(b))]);
        offers_of(&Labels::new(), &both).conflict.map(|c| c.what)
    }

    #[test]
    fn two_platforms_clash_over_a_name_or_an_address_and_over_nothing_else() {
        assert_eq!(
            clash_of(platform("[::]:1", "web"), platform("[::]:2", "web")).as_deref(),
            Some("capability web")
        );
        assert_eq!(
            clash_of(platform("[::]:1", "web"), platform("[::]:1", "api")).as_deref(),
            Some("address [::]:1")
        );
        assert_eq!(clash_of(platform("[::]:1", "web"), platform("[::]:2", "api")), None);
        assert_eq!(
            clash_of(platform("[::]:1", "config"), platform("[::]:2", "api")).as_deref(),
            Some("capability config")
        );
    }

    #[test]
    fn two_platforms_may_not_disagree_on_who_compiles() {
        let compiling = |name: &str, compile| PlatformRecord {
            compile,
            ..platform(&format!("[::]:{}", name.len()), name)
        };
        let (local, central) = (Some(Compile::Local), Some(Compile::Precompiled));
        let clash = clash_of(compiling("a", local), compiling("bb", central));
        assert_eq!(clash.as_deref(), Some("engines.compile"));
        assert_eq!(clash_of(compiling("a", local), compiling("bb", local)), None);
        assert_eq!(clash_of(compiling("a", local), compiling("bb", None)), None);
    }

    #[test]
    fn config_logging_and_secrets_are_always_offered() {
        let names: Vec<String> = always_offered().keys().map(ToString::to_string).collect();
        assert_eq!(names, ["config", "logging", "secrets"]);
    }
}
