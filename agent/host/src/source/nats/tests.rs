//! The NATS source against a real nats-server, with this test in the scheduler's place.

use super::*;
use heddle_protocol::api::Response;
use heddle_protocol::api::logs::LogLines;
use heddle_protocol::host_report::{Accepted, Capacity, Engine};
use heddle_protocol::host_spec::{HostSpec, HostSpecBody};
use heddle_protocol::id::{BootId, HostId, Realm, Version, WorkloadId};
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    async fn start() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        Self::start_on(free).await
    }

    async fn start_on(port: u16) -> Self {
        let named = std::env::var_os("HEDDLE_NATS_SERVER");
        let program = named.unwrap_or_else(|| "nats-server".into());
        let child = Command::new(&program)
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is no nats-server on the PATH, and HEDDLE_NATS_SERVER names none: run `cargo xtask test`");
        let server = Self { child, port };
        for _ in 0..1_000 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nats-server does not listen on port {port}");
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    async fn scheduler(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn me() -> Identity {
    Identity {
        realm: Realm::parse("eu").unwrap(),
        host: HostId::parse("h-1").unwrap(),
        boot_id: BootId::new("boot"),
    }
}

fn hello() -> Hello {
    Hello {
        realm: me().realm,
        host: me().host,
        boot_id: me().boot_id,
        join_token: None,
        labels: BTreeMap::new(),
        capacity: Capacity::default(),
        features: BTreeSet::new(),
        engine: Engine::default(),
        version: "0".into(),
        bound: BTreeMap::new(),
        accepted: None,
        seal_key: String::new(),
    }
}

async fn agent(server: &Server, host_key: &Arc<SigningKey>, realm_key: &SigningKey) -> Started {
    start(
        &server.url(),
        None,
        &me(),
        Arc::clone(host_key),
        vec![realm_key.public()],
    )
    .await
    .unwrap()
}

/// The next event that `wanted` picks; others are passed over.
async fn next<T>(started: &mut Started, what: &str, mut wanted: impl FnMut(SourceEvent) -> Option<T>) -> T {
    let search = async {
        loop {
            let event = started.events.recv().await.expect("the source has ended");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    };
    timeout(PATIENCE, search)
        .await
        .unwrap_or_else(|_| panic!("never heard: {what}"))
}

async fn link_up(started: &mut Started) {
    next(started, "link up", |e| matches!(e, SourceEvent::LinkUp).then_some(())).await;
    next(started, "hello wanted", |e| {
        matches!(e, SourceEvent::HelloWanted).then_some(())
    })
    .await;
}

fn sealed_spec(key: &SigningKey, description_bytes: usize) -> Bytes {
    use heddle_protocol::host_spec::CapabilityOffer;
    let mut body = HostSpecBody::default();
    for i in 0..description_bytes.div_ceil(1_000) {
        let name = heddle_protocol::id::CapabilityName::parse(&format!("c-{i}")).unwrap();
        body.capabilities.insert(
            name,
            CapabilityOffer::Http {
                listen: "x".repeat(1_000),
                max_connections: 1,
            },
        );
    }
    let spec = HostSpec {
        realm: me().realm,
        host: me().host,
        boot_id: me().boot_id,
        version: Version { epoch: 1, n: 1 },
        body_digest: body.digest().unwrap(),
        body,
        secrets: BTreeMap::new(),
    };
    envelope::seal(Kind::Spec, &serde_json::to_vec(&spec).unwrap(), key)
        .unwrap()
        .into()
}

#[tokio::test]
async fn a_hello_is_signed_and_said_again_until_the_scheduler_answers() {
    let server = Server::start().await;
    let (host_key, realm_key) = (Arc::new(SigningKey::generate()), SigningKey::generate());
    let mut started = agent(&server, &host_key, &realm_key).await;
    link_up(&mut started).await;
    // Nobody listens yet.
    started.uplink.hello(hello());
    let scheduler = server.scheduler().await;
    let mut hellos = scheduler.subscribe(subject::all_hellos(&me().realm)).await.unwrap();
    let message = timeout(PATIENCE, hellos.next()).await.unwrap().unwrap();
    let (payload, key) = envelope::open(&message.payload)
        .unwrap()
        .self_signed(Kind::Hello)
        .map(|(p, k)| (p.to_vec(), k.to_owned()))
        .unwrap();
    assert_eq!(key, host_key.public());
    assert_eq!(serde_json::from_slice::<Hello>(&payload).unwrap(), hello());
    // A refusal is not an answer that ends the matter.
    let refused = HelloAnswer::Refused {
        reason: "no such host".into(),
        next: "join with a token".into(),
    };
    scheduler
        .publish(message.reply.unwrap(), serde_json::to_vec(&refused).unwrap().into())
        .await
        .unwrap();
    // Nor is one that makes no sense.
    let again = timeout(PATIENCE, hellos.next()).await.unwrap().unwrap();
    scheduler
        .publish(again.reply.unwrap(), Bytes::from_static(b"{}"))
        .await
        .unwrap();
    let again = timeout(PATIENCE, hellos.next()).await.unwrap().unwrap();
    let welcome = HelloAnswer::Welcome {
        scheduler: "s-1".into(),
        epoch: 1,
    };
    scheduler
        .publish(again.reply.unwrap(), serde_json::to_vec(&welcome).unwrap().into())
        .await
        .unwrap();
    next(&mut started, "hello answered", |e| {
        matches!(e, SourceEvent::HelloAnswered).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_spec_of_any_size_arrives_verified_and_the_answer_goes_back() {
    let server = Server::start().await;
    let (host_key, realm_key) = (Arc::new(SigningKey::generate()), SigningKey::generate());
    let mut started = agent(&server, &host_key, &realm_key).await;
    link_up(&mut started).await;
    let scheduler = server.scheduler().await;
    let subject = Subject::Host(me().realm, me().host, HostVerb::Spec).to_string();
    for size in [0, 1_500_000] {
        let envelope = sealed_spec(&realm_key, size);
        let asked = tokio::spawn({
            let (scheduler, subject, envelope) = (scheduler.clone(), subject.clone(), envelope.clone());
            async move { heddle_wire::chunk::request(&scheduler, &subject, envelope, PATIENCE).await }
        });
        let (read, bytes, reply) = next(&mut started, "the spec", |e| match e {
            SourceEvent::Spec {
                read, envelope, reply, ..
            } => Some((read, envelope, reply)),
            _ => None,
        })
        .await;
        let read = read.unwrap();
        assert_eq!(bytes.unwrap(), envelope);
        let accepted = Accepted {
            version: read.spec.version,
            digest: read.body_digest,
        };
        reply.send(SpecAnswer::Accepted(accepted)).unwrap();
        let answer = asked.await.unwrap().unwrap();
        assert_eq!(
            serde_json::from_slice::<SpecAnswer>(&answer.payload).unwrap(),
            SpecAnswer::Accepted(accepted)
        );
    }
    let forged = sealed_spec(&SigningKey::generate(), 0);
    scheduler.publish(subject, forged).await.unwrap();
    let read = next(&mut started, "the forged spec", |e| match e {
        SourceEvent::Spec { read, .. } => Some(read),
        _ => None,
    })
    .await;
    assert!(matches!(*read, Err(SpecRefusal::Signature(_))));
}

#[tokio::test]
async fn a_delta_is_made_whole_by_who_has_the_spec_before_and_refused_by_others() {
    let server = Server::start().await;
    let (host_key, realm_key) = (Arc::new(SigningKey::generate()), SigningKey::generate());
    let mut started = agent(&server, &host_key, &realm_key).await;
    link_up(&mut started).await;
    let scheduler = server.scheduler().await;
    let subject = Subject::Host(me().realm, me().host, HostVerb::Spec).to_string();
    let (first, second) = (sealed_spec(&realm_key, 8_000), sealed_spec(&realm_key, 9_000));
    let payload = envelope::open(&first).unwrap().payload;
    let outline = heddle_protocol::delta::Outline::of(payload).unwrap();
    let delta = Bytes::from(envelope::as_delta(&second, &outline).unwrap());
    assert!(delta.len() * 2 < second.len());

    let answer = scheduler.request(subject.clone(), delta.clone());
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    let answer = serde_json::from_slice::<SpecAnswer>(&answer.payload).unwrap();
    let reason = match answer {
        SpecAnswer::Refused { reason, .. } => reason,
        accepted => panic!("{accepted:?}"),
    };
    assert!(matches!(reason, SpecRefusal::NotKept(_)), "{reason:?}");

    for (sent, whole) in [(&first, &first), (&delta, &second)] {
        scheduler.publish(subject.clone(), sent.clone()).await.unwrap();
        let (read, bytes) = next(&mut started, "the spec", |e| match e {
            SourceEvent::Spec { read, envelope, .. } => Some((read, envelope)),
            _ => None,
        })
        .await;
        read.unwrap();
        assert_eq!(bytes.as_ref(), Some(whole), "what is cached is whole and signed");
    }
}

#[tokio::test]
async fn artifacts_reports_and_logs_go_both_ways() {
    let server = Server::start().await;
    let (host_key, realm_key) = (Arc::new(SigningKey::generate()), SigningKey::generate());
    let mut started = agent(&server, &host_key, &realm_key).await;
    link_up(&mut started).await;
    let scheduler = server.scheduler().await;
    let whole = Bytes::from(vec![7u8; 600_000]);
    let digest = Digest::of(&whole);
    let mut asked = scheduler
        .subscribe(subject::all_artifact_requests(&me().realm))
        .await
        .unwrap();
    scheduler.flush().await.unwrap();
    let (served, answering) = (whole.clone(), scheduler.clone());
    tokio::spawn(async move {
        while let Some(message) = asked.next().await {
            let get: ArtifactGet = serde_json::from_slice(&message.payload).unwrap();
            let answer = if get.digest == digest {
                let (chunk, data) = crate::source::chunk_of(&served, get.offset).unwrap();
                let ok = Some(serde_json::to_value(chunk).unwrap());
                api::join(
                    "artifact chunk",
                    &Response {
                        v: api::VERSION,
                        ok,
                        error: None,
                    },
                    &data,
                )
                .unwrap()
            } else {
                let error = api::ApiError::new(api::ErrorCode::NotFound, "there is no such artifact", "");
                serde_json::to_vec(&Response {
                    v: api::VERSION,
                    ok: None,
                    error: Some(error),
                })
                .unwrap()
            };
            answering.publish(message.reply.unwrap(), answer.into()).await.unwrap();
        }
    });
    let data = tempfile::tempdir().unwrap();
    let files = crate::artifact::ArtifactFiles::new(data.path());
    crate::artifact::fetch(&files, &*started.uplink, digest, whole.len() as u64)
        .await
        .unwrap();
    assert_eq!(files.read(&digest).unwrap(), whole);
    let refused = started
        .uplink
        .artifact_chunk(Digest::of(b"other"), 0)
        .await
        .unwrap_err();
    assert_eq!(refused, ChunkError::Refused("there is no such artifact".into()));

    let logs = Logs {
        workload: WorkloadId::parse("web").unwrap(),
        tail: 5,
        after: BTreeMap::new(),
    };
    let subject = Subject::Host(me().realm, me().host, HostVerb::Logs).to_string();
    let asked = scheduler.request(subject, serde_json::to_vec(&logs).unwrap().into());
    let answered = next(&mut started, "logs wanted", |e| match e {
        SourceEvent::LogsWanted { logs, reply } => Some((logs, reply)),
        _ => None,
    });
    let (answer, ()) = tokio::join!(asked, async {
        let (found, reply) = answered.await;
        assert_eq!(found, logs);
        reply.send(LogLines::default()).unwrap();
    });
    assert_eq!(
        serde_json::from_slice::<LogLines>(&answer.unwrap().payload).unwrap(),
        LogLines::default()
    );
}

#[tokio::test]
async fn a_restarted_server_is_found_again_and_the_agent_introduces_itself_again() {
    let server = Server::start().await;
    let (host_key, realm_key) = (Arc::new(SigningKey::generate()), SigningKey::generate());
    let mut started = agent(&server, &host_key, &realm_key).await;
    link_up(&mut started).await;
    let port = server.port;
    drop(server);
    next(&mut started, "link down", |e| {
        matches!(e, SourceEvent::LinkDown).then_some(())
    })
    .await;
    assert!(!started.uplink.is_up());
    let chunk = started.uplink.artifact_chunk(Digest::of(b"x"), 0).await;
    assert!(
        matches!(chunk, Err(ChunkError::NoAnswer(_))),
        "it fails at once and does not wait for the link"
    );
    let server = Server::start_on(port).await;
    link_up(&mut started).await;
    // The host's subjects are heard again.
    let scheduler = server.scheduler().await;
    let asked = Subject::Host(me().realm, me().host, HostVerb::Hello).to_string();
    timeout(PATIENCE, async {
        while scheduler.request(asked.clone(), Bytes::new()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_agent_starts_before_its_server() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (host_key, realm_key) = (Arc::new(SigningKey::generate()), SigningKey::generate());
    let url = format!("nats://127.0.0.1:{port}");
    let me = me();
    let begin = start(&url, None, &me, host_key, vec![realm_key.public()]);
    let mut started = timeout(Duration::from_secs(2), begin)
        .await
        .expect("starting does not wait for NATS")
        .unwrap();
    assert!(!started.uplink.is_up());
    let _server = Server::start_on(port).await;
    link_up(&mut started).await;
}
