//! Whether a spec becomes what this host runs.
//!
//! In: who this agent is, the spec that it holds, and a spec whose signature the shell has verified. Out: the spec as
//! accepted, or the rule that it broke. A spec that is lost, repeated or late needs no case of its own: only a higher
//! version is taken, and the one that is held already is taken again with the same answer.

use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::{Accepted, SpecRefusal};
use heddle_protocol::host_spec::HostSpec;
use heddle_protocol::id::{BootId, HostId, Realm};
use heddle_protocol::mutant::mutant;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Who this agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The realm that it serves.
    pub realm: Realm,
    /// Its host.
    pub host: HostId,
    /// This start of it.
    pub boot_id: BootId,
}

/// Who handed over a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The network: the spec must name this start of the agent, so that a wiped agent cannot be fed an old one (D10).
    Network,
    /// The agent's own cache, from an earlier start.
    OwnCache,
}

/// A spec that was read, and the digest of its body's bytes as they were signed.
#[derive(Debug, Clone)]
pub struct ReadSpec {
    /// The spec.
    pub spec: HostSpec,
    /// The digest of its body. Taken from the bytes and not from the value read: a body may hold words that only newer
    /// agents know, and those do not survive being read and written again.
    pub body_digest: Digest,
}

/// Reads the payload of a spec's envelope.
pub fn read_spec(payload: &[u8]) -> Result<ReadSpec, SpecRefusal> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        body: &'a RawValue,
    }
    let unreadable = |e: serde_json::Error| SpecRefusal::Unreadable(e.to_string());
    let spec: HostSpec = serde_json::from_slice(payload).map_err(unreadable)?;
    let raw: Body<'_> = serde_json::from_slice(payload).map_err(unreadable)?;
    Ok(ReadSpec {
        spec,
        body_digest: Digest::of(raw.body.get().as_bytes()),
    })
}

/// Decides whether to take a spec whose signature is good.
pub fn accept(me: &Identity, held: Option<Accepted>, sender: Sender, read: &ReadSpec) -> Result<Accepted, SpecRefusal> {
    let spec = &read.spec;
    if spec.realm != me.realm {
        return Err(SpecRefusal::OtherRealm(spec.realm.to_string()));
    }
    if spec.host != me.host {
        return Err(SpecRefusal::OtherHost(spec.host.to_string()));
    }
    if sender == Sender::Network && spec.boot_id != me.boot_id && !mutant("accepts-for-another-start") {
        return Err(SpecRefusal::OtherBoot(spec.boot_id.to_string()));
    }
    if spec.body_digest != read.body_digest {
        return Err(SpecRefusal::DigestMismatch);
    }
    let offered = Accepted {
        version: spec.version,
        digest: spec.body_digest,
    };
    match held {
        // Sent again because our answer was lost: the same answer again.
        Some(held) if held == offered => Ok(offered),
        Some(_) if mutant("accepts-older") => Ok(offered),
        Some(held) if held.version >= offered.version => Err(SpecRefusal::Older(offered.version.to_string())),
        _ => Ok(offered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::envelope::{Kind, open, seal};
    use heddle_protocol::host_spec::HostSpecBody;
    use heddle_protocol::id::Version;
    use heddle_protocol::sign::SigningKey;

    fn me() -> Identity {
        Identity {
            realm: Realm::parse("eu").unwrap(),
            host: HostId::parse("h-1").unwrap(),
            boot_id: BootId::new("boot-2"),
        }
    }

    fn spec(epoch: u64, n: u64) -> HostSpec {
        let body = HostSpecBody::default();
        HostSpec {
            realm: me().realm,
            host: me().host,
            boot_id: me().boot_id,
            version: Version { epoch, n },
            body_digest: body.digest().unwrap(),
            body,
            secrets: std::collections::BTreeMap::new(),
        }
    }

    fn read(spec: &HostSpec) -> ReadSpec {
        read_spec(&serde_json::to_vec(spec).unwrap()).unwrap()
    }

    fn held(epoch: u64, n: u64) -> Option<Accepted> {
        Some(Accepted {
            version: Version { epoch, n },
            digest: HostSpecBody::default().digest().unwrap(),
        })
    }

    #[test]
    fn a_newer_spec_is_taken() {
        for (epoch, n) in [(3, 8), (4, 1)] {
            let taken = accept(&me(), held(3, 7), Sender::Network, &read(&spec(epoch, n))).unwrap();
            assert_eq!(taken.version, Version { epoch, n });
        }
        assert!(accept(&me(), None, Sender::Network, &read(&spec(1, 1))).is_ok());
    }

    #[test]
    fn the_held_spec_is_taken_again_with_the_same_answer() {
        let again = accept(&me(), held(3, 7), Sender::Network, &read(&spec(3, 7))).unwrap();
        assert_eq!(Some(again), held(3, 7));
    }

    #[test]
    fn replayed_older_specs_are_refused() {
        for (epoch, n) in [(3, 6), (2, 900), (0, 0)] {
            let refusal = accept(&me(), held(3, 7), Sender::Network, &read(&spec(epoch, n))).unwrap_err();
            assert_eq!(refusal, SpecRefusal::Older(format!("{epoch}.{n}")));
        }
    }

    #[test]
    fn a_different_spec_of_the_held_version_is_refused() {
        let held = Some(Accepted {
            version: Version { epoch: 3, n: 7 },
            digest: Digest::of(b"another body"),
        });
        let refusal = accept(&me(), held, Sender::Network, &read(&spec(3, 7))).unwrap_err();
        assert_eq!(refusal, SpecRefusal::Older("3.7".into()));
    }

    #[test]
    fn specs_for_others_are_refused() {
        let other = |change: fn(&mut HostSpec)| {
            let mut spec = spec(9, 9);
            change(&mut spec);
            accept(&me(), None, Sender::Network, &read(&spec)).unwrap_err()
        };
        assert_eq!(
            other(|s| s.realm = Realm::parse("us").unwrap()),
            SpecRefusal::OtherRealm("us".into())
        );
        assert_eq!(
            other(|s| s.host = HostId::parse("h-2").unwrap()),
            SpecRefusal::OtherHost("h-2".into())
        );
        assert_eq!(
            other(|s| s.boot_id = BootId::new("boot-1")),
            SpecRefusal::OtherBoot("boot-1".into())
        );
        assert_eq!(other(|s| s.body_digest = Digest::of(b"x")), SpecRefusal::DigestMismatch);
    }

    #[test]
    fn the_own_cache_may_hold_a_spec_of_an_earlier_start() {
        let mut old = spec(3, 7);
        old.boot_id = BootId::new("boot-1");
        assert!(accept(&me(), None, Sender::OwnCache, &read(&old)).is_ok());
        old.host = HostId::parse("h-2").unwrap();
        assert!(accept(&me(), None, Sender::OwnCache, &read(&old)).is_err());
    }

    #[test]
    fn a_forged_spec_never_reaches_this_decision() {
        let (realm_key, forger) = (SigningKey::generate(), SigningKey::generate());
        let payload = serde_json::to_vec(&spec(9, 9)).unwrap();
        let forged = seal(Kind::Spec, &payload, &forger).unwrap();
        assert!(
            open(&forged)
                .unwrap()
                .verified(Kind::Spec, &[realm_key.public()])
                .is_err()
        );
        let hello = seal(Kind::Hello, &payload, &realm_key).unwrap();
        assert!(
            open(&hello)
                .unwrap()
                .verified(Kind::Spec, &[realm_key.public()])
                .is_err()
        );
    }

    #[test]
    fn a_body_with_words_of_a_newer_release_keeps_its_digest() {
        let body = format!(
            r#"{{"templates":{{"{}":{{"requires":["wasi-p2","teleport"],"components":[],"limits":{{"memory_bytes":1,"time_ms":1,"concurrency":1}},"instances":{{"reuse":1,"concurrency":1}}}}}},"units":[],"routes":[],"capabilities":{{}}}}"#,
            Digest::of(b"t")
        );
        let payload = format!(
            r#"{{"realm":"eu","host":"h-1","boot_id":"boot-2","epoch":1,"n":1,"body_digest":"{}","body":{body}}}"#,
            Digest::of(body.as_bytes())
        );
        assert!(accept(&me(), None, Sender::Network, &read_spec(payload.as_bytes()).unwrap()).is_ok());
    }

    #[test]
    fn garbage_is_refused_without_a_panic() {
        for bad in [&b""[..], b"{}", b"[]", b"\xff\xfe", br#"{"body":{}}"#] {
            assert!(matches!(read_spec(bad), Err(SpecRefusal::Unreadable(_))));
        }
    }
}
