//! Code from a scheduler that a test pretends to be: believed, refused, or not needed.

use super::*;
use crate::engine::{Allocator, EngineOptions};
use crate::source::chunk_of;
use async_trait::async_trait;
use heddle_protocol::api::artifact::ArtifactChunk;
use heddle_protocol::host_report::{Heartbeat, Hello, HostReport};
use heddle_protocol::sign::SigningKey;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A scheduler that gives the same answer to every question about code, and whatever bytes it has.
struct Scheduler {
    answer: Mutex<Result<CodeAnswer, ChunkError>>,
    bytes: Vec<Bytes>,
    asked: AtomicUsize,
    fetched: Mutex<Vec<Digest>>,
}

#[async_trait]
impl Uplink for Scheduler {
    fn is_up(&self) -> bool {
        true
    }
    fn heartbeat(&self, _: Heartbeat) {}
    fn status(&self, _: Vec<HostReport>) {}
    fn hello(&self, _: Hello) {}
    async fn artifact_chunk(&self, digest: Digest, offset: u64) -> Result<(ArtifactChunk, Bytes), ChunkError> {
        self.fetched.lock().unwrap().push(digest);
        match self.bytes.iter().find(|bytes| Digest::of(bytes) == digest) {
            Some(bytes) => chunk_of(bytes, offset),
            None => Err(ChunkError::Refused("it is not there".into())),
        }
    }
    async fn compiled(&self, _: Digest, _: &str) -> Result<CodeAnswer, ChunkError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut answer = self.answer.lock().unwrap();
        match &*answer {
            // Under way once.
            Ok(CodeAnswer::UnderWay) => std::mem::replace(&mut *answer, Err(ChunkError::NoAnswer("away".into()))),
            other => other.clone(),
        }
    }
}

struct Host {
    data: tempfile::TempDir,
    compiler: Compiler,
    realm: SigningKey,
    wanted: Wanted,
    component: Bytes,
    code: Bytes,
}

fn engines() -> Engines {
    let options = EngineOptions {
        allocator: Allocator::OnDemand,
        ..EngineOptions::default()
    };
    Engines::new(&options).unwrap()
}

impl Host {
    fn new(by: Compile) -> Self {
        let (data, realm, engines) = (tempfile::tempdir().unwrap(), SigningKey::generate(), engines());
        let component: Bytes = wat::parse_str("(component (core module (func)))").unwrap().into();
        let code = engines.compile(&component, Wasi::P2).unwrap().into();
        let wanted = Wanted {
            digest: Digest::of(&component),
            bytes: component.len() as u64,
            wasi: Wasi::P2,
            by,
        };
        Self {
            compiler: compiler(data.path(), engines, &realm),
            data,
            realm,
            wanted,
            component,
            code,
        }
    }

    fn described(&self) -> CompiledCode {
        CompiledCode {
            artifact: self.wanted.digest,
            fingerprint: self.compiler.files.engines.fingerprint(Wasi::P2),
            code: Digest::of(&self.code),
            bytes: self.code.len() as u64,
        }
    }

    fn sealed(&self, code: &CompiledCode, key: &SigningKey) -> Result<CodeAnswer, ChunkError> {
        let payload = envelope::to_bytes("code", code).unwrap();
        Ok(CodeAnswer::Signed(
            envelope::seal(Kind::Compiled, &payload, key).unwrap().into(),
        ))
    }

    fn scheduler(&self, answer: Result<CodeAnswer, ChunkError>) -> Scheduler {
        Scheduler {
            answer: Mutex::new(answer),
            bytes: vec![self.component.clone(), self.code.clone()],
            asked: AtomicUsize::new(0),
            fetched: Mutex::default(),
        }
    }

    async fn reason(&self, scheduler: &Scheduler) -> (String, bool) {
        match self.compiler.component(self.wanted, scheduler).await {
            Err(NotCompiled::Failed(failure)) => (failure.reason, failure.for_good),
            Err(NotCompiled::Lost) => panic!("lost"),
            Ok(_) => panic!("it was taken"),
        }
    }
}

fn compiler(data: &std::path::Path, engines: Engines, realm: &SigningKey) -> Compiler {
    let compiled = CompiledFiles::open(data).unwrap();
    Compiler::new(engines, ArtifactFiles::new(data), compiled, vec![realm.public()])
}

#[tokio::test]
async fn signed_code_is_fetched_instead_of_the_component_and_found_again_after_a_restart() {
    let host = Host::new(Compile::Precompiled);
    let scheduler = host.scheduler(host.sealed(&host.described(), &host.realm));
    host.compiler.component(host.wanted, &scheduler).await.unwrap();
    assert_eq!(*scheduler.fetched.lock().unwrap(), [Digest::of(&host.code)]);
    // Cut off, and started again.
    let away = host.scheduler(Err(ChunkError::NoAnswer("away".into())));
    let restarted = compiler(host.data.path(), engines(), &host.realm);
    restarted.component(host.wanted, &away).await.unwrap();
    assert_eq!(away.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn code_that_the_realm_did_not_sign_for_this_very_engine_is_refused() {
    let host = Host::new(Compile::Precompiled);
    let right = host.described();
    let stranger = SigningKey::generate();
    let spec = envelope::seal(Kind::Spec, &envelope::to_bytes("code", &right).unwrap(), &host.realm).unwrap();
    let cases = [
        (host.sealed(&right, &stranger), "signature"),
        (Ok(CodeAnswer::Signed(spec.into())), "signature"),
        (Ok(CodeAnswer::Signed(Bytes::from_static(b"{}\n{}"))), "failed to trust"),
        (
            host.sealed(
                &CompiledCode {
                    artifact: Digest::of(b"other"),
                    ..right.clone()
                },
                &host.realm,
            ),
            "it is of artifact",
        ),
        (
            host.sealed(
                &CompiledCode {
                    fingerprint: "other".into(),
                    ..right.clone()
                },
                &host.realm,
            ),
            "another engine",
        ),
        (
            host.sealed(
                &CompiledCode {
                    bytes: CODE_BYTES_MAX + 1,
                    ..right.clone()
                },
                &host.realm,
            ),
            "more than",
        ),
        (
            host.sealed(
                &CompiledCode {
                    code: Digest::of(b"other"),
                    ..right.clone()
                },
                &host.realm,
            ),
            "it is not there",
        ),
    ];
    for (answer, expected) in cases {
        let (reason, for_good) = host.reason(&host.scheduler(answer)).await;
        assert!(reason.contains(expected) && !for_good, "{expected}: {reason}");
    }
    assert!(!host.data.path().join("compiled").exists(), "nothing of it was kept");
}

#[tokio::test]
async fn code_whose_bytes_were_changed_on_the_way_is_refused() {
    let host = Host::new(Compile::Precompiled);
    struct Changing(Scheduler);
    #[async_trait]
    impl Uplink for Changing {
        fn is_up(&self) -> bool {
            true
        }
        fn heartbeat(&self, _: Heartbeat) {}
        fn status(&self, _: Vec<HostReport>) {}
        fn hello(&self, _: Hello) {}
        async fn artifact_chunk(&self, digest: Digest, offset: u64) -> Result<(ArtifactChunk, Bytes), ChunkError> {
            let (chunk, part) = self.0.artifact_chunk(digest, offset).await?;
            let mut part = part.to_vec();
            if let Some(byte) = part.last_mut() {
                *byte ^= 1;
            }
            Ok((chunk, part.into()))
        }
        async fn compiled(&self, artifact: Digest, fingerprint: &str) -> Result<CodeAnswer, ChunkError> {
            self.0.compiled(artifact, fingerprint).await
        }
    }
    let changing = Changing(host.scheduler(host.sealed(&host.described(), &host.realm)));
    match host.compiler.component(host.wanted, &changing).await {
        Err(NotCompiled::Failed(failure)) => assert!(failure.reason.contains("the bytes that came are")),
        _ => panic!("changed code was taken"),
    }
}

#[tokio::test]
async fn an_agent_whose_scheduler_is_silent_waits_and_does_not_compile() {
    let host = Host::new(Compile::Precompiled);
    for answer in [Err(ChunkError::NoAnswer("away".into())), Ok(CodeAnswer::UnderWay)] {
        let scheduler = host.scheduler(answer);
        let (reason, for_good) = host.reason(&scheduler).await;
        assert!(reason.contains("away") && !for_good, "{reason}");
        assert!(scheduler.asked.load(Ordering::Relaxed) >= ASKS_MAX as usize);
        assert!(scheduler.fetched.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_the_scheduler_could_not_compile_is_refused_for_good() {
    let host = Host::new(Compile::Precompiled);
    let scheduler = host.scheduler(Err(ChunkError::Refused("more than 60 s".into())));
    assert_eq!(host.reason(&scheduler).await, ("more than 60 s".into(), true));
}

#[tokio::test]
async fn an_engine_that_the_scheduler_cannot_compile_for_compiles_for_itself_if_it_can() {
    let mut host = Host::new(Compile::Precompiled);
    let scheduler = host.scheduler(Ok(CodeAnswer::Unsupported("another release".into())));
    Arc::get_mut(&mut host.compiler.files).unwrap().compiles = false;
    let (reason, for_good) = host.reason(&scheduler).await;
    assert!(
        reason.contains("another release") && reason.contains("without a compiler") && !for_good,
        "{reason}"
    );
    assert!(scheduler.fetched.lock().unwrap().is_empty());
    Arc::get_mut(&mut host.compiler.files).unwrap().compiles = true;
    host.compiler.component(host.wanted, &scheduler).await.unwrap();
    assert_eq!(*scheduler.fetched.lock().unwrap(), [host.wanted.digest]);
}

#[tokio::test]
async fn an_agent_that_compiles_for_itself_takes_nobody_elses_code() {
    let host = Host::new(Compile::Precompiled);
    let scheduler = host.scheduler(host.sealed(&host.described(), &host.realm));
    host.compiler.component(host.wanted, &scheduler).await.unwrap();
    let local = Wanted {
        by: Compile::Local,
        ..host.wanted
    };
    // The signed code is on the disk; the component is not.
    let lost = host.compiler.component(local, &scheduler).await;
    assert!(matches!(lost, Err(NotCompiled::Lost)));
    host.compiler
        .files
        .artifacts
        .keep(&local.digest, &host.component)
        .unwrap();
    host.compiler.component(local, &scheduler).await.unwrap();
    assert_eq!(scheduler.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_component_that_does_not_compile_here_is_refused_for_good() {
    let host = Host::new(Compile::Local);
    let bad = Bytes::from_static(b"no component");
    let wanted = Wanted {
        digest: Digest::of(&bad),
        ..host.wanted
    };
    host.compiler.files.artifacts.keep(&wanted.digest, &bad).unwrap();
    let scheduler = host.scheduler(Err(ChunkError::NoAnswer("away".into())));
    match host.compiler.component(wanted, &scheduler).await {
        Err(NotCompiled::Failed(failure)) => assert!(failure.for_good, "{failure:?}"),
        _ => panic!("it compiled"),
    }
}
