//! Sealing for hosts over backends that answer, take their time, and are dead.

use super::*;
use crate::push::{Delivered, Push, Pushed, Pusher, carry};
use heddle_protocol::digest::Digest;
use heddle_protocol::host_report::{Accepted, SpecAnswer};
use heddle_protocol::host_spec::{Call, Callee, CapabilityOffer, Instances, Limits, Serve};
use heddle_protocol::host_spec::{HostSpec, Template, TemplateComponent, Unit, Wasi};
use heddle_protocol::id::{BootId, Generation, Version};
use heddle_protocol::seal::{OpeningKey, SealedFor};
use heddle_protocol::time::Mono;
use heddle_secret::{Ask, Backend, Secret};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

const VALUE: &str = "sesame";
const NEVER: u64 = u64::MAX;

/// A backend that answers after a while, or never.
#[derive(Debug)]
struct Fake {
    takes_ms: AtomicU64,
    newest: AtomicU32,
}

#[async_trait]
impl Backend for Fake {
    async fn get(&self, ask: &Ask) -> Result<Secret, BackendError> {
        match self.takes_ms.load(Ordering::Relaxed) {
            NEVER => return Err(BackendError::Unreachable("connection refused".into())),
            ms => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
        if ask.path == "none" {
            return Err(BackendError::NotFound("no such secret".into()));
        }
        let newest = self.newest.load(Ordering::Relaxed).to_string();
        let version = ask.version.clone().unwrap_or(newest);
        Secret::new(version, Zeroizing::new(VALUE.as_bytes().to_vec()))
    }

    async fn newest(&self, _: &Ask) -> Result<String, BackendError> {
        match self.takes_ms.load(Ordering::Relaxed) {
            NEVER => Err(BackendError::Unreachable("connection refused".into())),
            _ => Ok(self.newest.load(Ordering::Relaxed).to_string()),
        }
    }
}

fn fake(takes_ms: u64) -> Arc<Fake> {
    Arc::new(Fake {
        takes_ms: AtomicU64::new(takes_ms),
        newest: AtomicU32::new(1),
    })
}

fn pool(backends: &[(&str, &Arc<Fake>)]) -> SecretPool {
    let backends = backends
        .iter()
        .map(|(name, fake)| ((*name).to_owned(), (*fake).clone() as Arc<dyn Backend>));
    let secrets = Secrets::new(backends.collect(), ServiceOptions::default());
    SecretPool::new(realm(), secrets, None)
}

fn realm() -> Realm {
    Realm::parse("eu").unwrap()
}

fn key() -> OpeningKey {
    OpeningKey::from_seed(&Zeroizing::new([7; 32]))
}

fn to(boot: &str) -> Recipient {
    Recipient {
        host: HostId::parse("h-1").unwrap(),
        boot_id: BootId::new(boot),
        seal_key: key().public().to_owned(),
        takes_deltas: false,
    }
}

fn secret(from: &str, path: &str, version: Option<&str>) -> SecretUse {
    SecretUse {
        workload: Some("shop/cart".parse().unwrap()),
        from: from.into(),
        path: path.into(),
        field: None,
        version: version.map(str::to_owned),
        no_cache: false,
        env: None,
    }
}

/// A body whose only unit uses these secrets.
fn body(secrets: &[SecretUse]) -> HostSpecBody {
    let mut component = TemplateComponent::new("cart".parse().unwrap(), Digest::of(b"a"), 1, Wasi::P2);
    component.secrets = secrets
        .iter()
        .map(|secret| (secret.path.clone(), secret.clone()))
        .collect();
    let template = Template {
        requires: BTreeSet::new(),
        components: vec![component],
        limits: Limits::new(1 << 20, 1_000, 1),
        instances: Instances {
            reuse: 1,
            concurrency: 1,
        },
        run: None,
        consumes: Vec::new(),
    };
    let digest = Digest::of_json(&template).unwrap();
    HostSpecBody {
        units: vec![Unit {
            workload: "shop/cart".parse().unwrap(),
            generation: Generation(1),
            template: digest,
            count: 1,
        }],
        templates: BTreeMap::from([(digest, Arc::new(template))]),
        ..HostSpecBody::default()
    }
}

/// One turn of the pusher: what is due goes to an agent that takes everything.
async fn turn(
    pusher: &mut Pusher,
    pool: &SecretPool,
    now: u64,
    accepted: Option<Accepted>,
) -> Option<(Pushed, Option<HostSpec>)> {
    let due = pusher.due(&realm(), &to("b"), accepted, Mono(now))?;
    let mut delivered = None;
    let deliver = async |push: Push| {
        let accepted = Accepted {
            version: push.spec.version,
            digest: push.spec.body_digest,
        };
        delivered = Some(push.spec);
        Ok(Delivered {
            answer: SpecAnswer::Accepted(accepted),
            document: None,
            as_delta: false,
        })
    };
    let pushed = carry(pool, due, deliver).await;
    pusher.note(&pushed, Version { epoch: 1, n: 7 }, Mono(now), 1.0);
    Some((pushed, delivered))
}

fn accepted(pusher: &Pusher) -> Option<Accepted> {
    let digest = pusher.wanted_digest(&to("b").host)?;
    Some(Accepted {
        version: Version { epoch: 1, n: 7 },
        digest,
    })
}

fn pusher(body: HostSpecBody) -> Pusher {
    let mut pusher = Pusher::default();
    pusher.want(&to("b").host, body, Version { epoch: 1, n: 7 }).unwrap();
    pusher
}

#[tokio::test(start_paused = true)]
async fn a_pushed_secret_opens_for_its_agent_and_shows_nowhere() {
    let pool = pool(&[("vault", &fake(0))]);
    let wanted = secret("vault", "db", Some("3"));
    let mut pusher = pusher(body(std::slice::from_ref(&wanted)));
    let (pushed, spec) = turn(&mut pusher, &pool, 0, None).await.unwrap();
    let spec = spec.unwrap();
    let id = wanted.id();
    let what = SealedFor {
        realm: &realm(),
        host: &spec.host,
        boot_id: &spec.boot_id,
        id: &id,
        version: "3",
    };
    assert_eq!(
        key().open(&spec.secrets[&id], &what).unwrap().as_slice(),
        VALUE.as_bytes()
    );
    let shown = format!("{spec:?} {pushed:?} {pool:?} {}", serde_json::to_string(&spec).unwrap());
    assert!(!shown.contains(VALUE), "{shown}");
    let held = accepted(&pusher);
    assert!(
        turn(&mut pusher, &pool, 60_000, held).await.is_none(),
        "the host has all of it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_backend_holds_a_push_up_once_and_a_little_and_its_secret_comes_later() {
    let (slow, quick) = (fake(5_000), fake(0));
    let pool = pool(&[("slow", &slow), ("quick", &quick)]);
    let mut pusher = pusher(body(&[secret("slow", "a", None), secret("quick", "b", None)]));
    let begun = Instant::now();
    let (pushed, spec) = turn(&mut pusher, &pool, 0, None).await.unwrap();
    assert!(begun.elapsed() <= Duration::from_millis(2_100), "{:?}", begun.elapsed());
    assert_eq!((spec.unwrap().secrets.len(), pushed.secrets.missing.len()), (1, 1));

    let again = Instant::now();
    let held = accepted(&pusher);
    let (pushed, spec) = turn(&mut pusher, &pool, 1_000, held).await.unwrap();
    assert!(again.elapsed() <= Duration::from_millis(200), "{:?}", again.elapsed());
    assert!(pushed.held_back && spec.is_none(), "nothing new to send");

    tokio::time::sleep(Duration::from_secs(4)).await;
    let (_, spec) = turn(&mut pusher, &pool, 10_000, held).await.unwrap();
    assert_eq!(
        spec.unwrap().secrets.len(),
        2,
        "the call went on, and its answer goes with this push"
    );
    assert!(turn(&mut pusher, &pool, 60_000, held).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_dead_backend_takes_nothing_from_a_host_that_it_had_before() {
    let backend = fake(0);
    let pool = pool(&[("vault", &backend)]);
    let first = secret("vault", "a", Some("1"));
    let mut pusher = pusher(body(std::slice::from_ref(&first)));
    turn(&mut pusher, &pool, 0, None).await.unwrap();
    backend.takes_ms.store(NEVER, Ordering::Relaxed);
    // Longer than values are kept in clear.
    tokio::time::advance(Duration::from_secs(3_600)).await;

    let both = body(&[first.clone(), secret("vault", "b", Some("1"))]);
    pusher.want(&to("b").host, both, Version { epoch: 1, n: 8 }).unwrap();
    let (pushed, spec) = turn(&mut pusher, &pool, 100, None).await.unwrap();
    let spec = spec.unwrap();
    assert!(spec.secrets.contains_key(&first.id()), "what was sealed is sent again");
    let missing: Vec<&str> = pushed.secrets.missing.values().map(|m| m.why.as_str()).collect();
    assert!(
        missing.len() == 1 && missing[0].contains("connection refused"),
        "{missing:?}"
    );

    let started_again = pool
        .seal_for(&to("c"), &needs_of(&spec.body), Duration::from_secs(2))
        .await;
    assert_eq!(
        started_again.sealed.len(),
        0,
        "what was sealed to an earlier start is of no use to a later one"
    );

    backend.takes_ms.store(0, Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(20)).await;
    let held = accepted(&pusher);
    let (pushed, spec) = turn(&mut pusher, &pool, 60_000, held).await.unwrap();
    assert_eq!((spec.unwrap().secrets.len(), pushed.secrets.missing.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_another_scheduler_pushed_to_is_sent_its_secrets_once() {
    let pool = pool(&[("vault", &fake(0))]);
    let mut with = pusher(body(&[secret("vault", "a", None)]));
    let held = accepted(&with);
    assert!(turn(&mut with, &pool, 0, held).await.is_some());
    assert!(turn(&mut with, &pool, 60_000, held).await.is_none());
    let mut without = pusher(body(&[]));
    let held = accepted(&without);
    assert!(
        turn(&mut without, &pool, 0, held).await.is_none(),
        "nothing to send to a host without secrets"
    );
}

#[tokio::test(start_paused = true)]
async fn a_newer_live_version_is_sealed_anew() {
    let pool = pool(&[("vault", &fake(0))]);
    let live = secret("vault", "a", None);
    for version in ["1", "2"] {
        let mut body = body(std::slice::from_ref(&live));
        body.secret_versions.insert(live.id(), version.to_owned());
        let sealing = pool.seal_for(&to("b"), &needs_of(&body), Duration::from_secs(2)).await;
        assert_eq!(sealing.sealed[&live.id()].version, version);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_tell_what_is_there_what_is_not_and_what_cannot_be_asked() {
    let (vault, dead) = (fake(0), fake(NEVER));
    vault.newest.store(4, Ordering::Relaxed);
    let pool = pool(&[("vault", &vault), ("dead", &dead)]);
    let answer = async |from, path, version| pool.answer(&secret(from, path, version)).await;
    assert_eq!(answer("vault", "a", None).await, SecretAnswer::Version("4".into()));
    assert_eq!(answer("vault", "a", Some("2")).await, SecretAnswer::Version("2".into()));
    assert!(matches!(answer("vault", "none", None).await, SecretAnswer::Refused(_)));
    assert!(matches!(answer("nowhere", "a", None).await, SecretAnswer::Refused(why) if why.contains("dead, vault")));
    assert!(matches!(answer("dead", "a", None).await, SecretAnswer::Unreachable(_)));
    assert!(matches!(
        answer("dead", "a", Some("1")).await,
        SecretAnswer::Unreachable(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn only_versions_whose_values_can_be_read_are_the_newest() {
    let (vault, dead) = (fake(0), fake(NEVER));
    vault.newest.store(9, Ordering::Relaxed);
    let pool = pool(&[("vault", &vault), ("dead", &dead)]);
    let (good, gone, away) = (
        secret("vault", "a", None),
        secret("vault", "none", None),
        secret("dead", "a", None),
    );
    let newest = pool.newest_of(vec![good.clone(), gone, away]).await;
    assert_eq!(newest, BTreeMap::from([(good.id(), "9".to_owned())]));
}

#[test]
fn credentials_allow_what_links_and_triggers_need_and_workloads_without_any_get_none() {
    let mut body = body(&[]);
    let world = World::new(heddle_scheduler_core::LivenessOptions::default());
    let allowed = |body: &HostSpecBody| permissions_of(&realm(), &world, body);
    assert!(allowed(&body).is_empty());

    let cart: WorkloadId = "shop/cart".parse().unwrap();
    let (digest, template) = body.templates.pop_first().unwrap();
    let mut template = (*template).clone();
    let call = |to| Call {
        interface: None,
        part: None,
        to,
        instance: "acme:tax/rates@1.0.0".into(),
        timeout_ms: 1_000,
        idempotent: false,
        max_in_flight: 1,
    };
    let calls = &mut template.components[0].calls;
    calls.insert("a".into(), call(Callee::Workload("shop/tax".parse().unwrap())));
    body.templates.insert(digest, Arc::new(template));
    let cart_may = &allowed(&body)[&cart];
    let set = |subjects: &[&str]| -> BTreeSet<String> { subjects.iter().map(|s| (*s).to_owned()).collect() };
    assert_eq!(
        cart_may.publish,
        set(&["heddle.v1.eu.rpc.shop.tax.>", "_INBOX_w_shop_tax.>"])
    );
    assert_eq!(cart_may.subscribe, set(&["_INBOX_w_shop_cart.>"]));

    body.serves.push(Serve {
        unit: body.units[0].id(),
        component: "cart".parse().unwrap(),
        interface: "acme:cart/items@1.0.0".into(),
        prefix: None,
    });
    let offer = CapabilityOffer::MessagingNats {
        url: None,
        subjects: vec!["orders.>".into()],
    };
    body.capabilities.insert("bus".parse().unwrap(), offer);
    let cart_may = &allowed(&body)[&cart];
    assert_eq!(
        cart_may.subscribe,
        set(&["heddle.v1.eu.rpc.shop.cart.>", "_INBOX_w_shop_cart.>"])
    );
    assert!(
        !cart_may.publish.contains("orders.>"),
        "a capability that it is not bound to"
    );
}

#[test]
fn credentials_are_named_by_what_they_allow_and_made_when_they_are_pushed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let seed = nkeys::KeyPair::new_account().seed().unwrap();
    let signer = WorkloadSigner::from_seed(&seed, None).unwrap();
    let secrets = Secrets::new(BTreeMap::new(), ServiceOptions::default());
    let pool = SecretPool::new(realm(), secrets, Some(signer));
    let mut body = body(&[]);
    body.serves.push(Serve {
        unit: body.units[0].id(),
        component: "cart".parse().unwrap(),
        interface: "acme:cart/items@1.0.0".into(),
        prefix: None,
    });
    let world = World::new(heddle_scheduler_core::LivenessOptions::default());
    let (mut one, mut two) = (body.clone(), body);
    pool.add_credentials(&world, &mut one);
    pool.add_credentials(&world, &mut two);
    assert_eq!(one, two, "the same needs make the same spec");
    let sealing = runtime.block_on(pool.seal_for(&to("b"), &needs_of(&one), Duration::from_secs(1)));
    let secret = &one.credentials[&"shop/cart".parse().unwrap()];
    let id = secret.id();
    let what = SealedFor {
        realm: &realm(),
        host: &to("b").host,
        boot_id: &to("b").boot_id,
        id: &id,
        version: secret.version.as_deref().unwrap(),
    };
    let opened = key().open(&sealing.sealed[&id], &what).unwrap();
    assert!(String::from_utf8_lossy(&opened).contains("BEGIN USER NKEY SEED"));
    assert!(!format!("{pool:?}").contains(&seed));

    pool.keep_credentials(std::iter::empty());
    let later = runtime.block_on(pool.seal_for(&to("c"), &needs_of(&one), Duration::from_secs(1)));
    assert!(
        later.sealed.is_empty(),
        "credentials that no host is to have are not made"
    );
}
