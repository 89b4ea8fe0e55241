//! The pool with workers that a shell pretends to be.

use super::*;
use crate::artifact::login::Logins;
use crate::artifact::oci::Fetcher;
use crate::store::ArtifactStore;
use heddle_protocol::api::artifact::{CompiledAnswer, CompiledGet};
use std::path::Path;

const ENGINE: &str = "00112233445566778899aabbccddeeff";

/// Notes each start in a file, and echoes the component as code.
fn echo(count: &Path) -> String {
    format!(
        r#"echo x >> {}; read job; c=$(cat | od -An -tx1 | tr -d ' \n'); printf '{{"answer":"compiled","bytes":%d}}\n%s' ${{#c}} "$c""#,
        count.display()
    )
}

struct Fleet {
    pool: CompilePool,
    store: CodeStore,
    artifacts: ArtifactPool,
    key: Arc<SigningKey>,
    folder: tempfile::TempDir,
    script: String,
}

fn options(script: &str) -> CompileOptions {
    CompileOptions {
        program: Some("/bin/sh".into()),
        args: vec!["-c".into(), script.into()],
        workers: 2,
        cpu_seconds: 5,
        memory_bytes: 64 << 20,
    }
}

fn engine() -> Engine {
    Engine {
        fingerprints: [("p2".to_owned(), ENGINE.to_owned())].into(),
        profile: [("cpu".to_owned(), "baseline".to_owned())].into(),
        ..Engine::default()
    }
}

impl Fleet {
    async fn new(script: impl Fn(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = script(&folder.path().join("count"));
        let artifacts = ArtifactPool::new(ArtifactStore::in_memory(), Fetcher::new(Logins::default(), Vec::new()));
        let (store, key) = (CodeStore::in_memory(), Arc::new(SigningKey::generate()));
        let opened = CompilePool::open(options(&script), artifacts.clone(), store.clone(), Arc::clone(&key));
        let pool = opened.await.unwrap();
        pool.know(&engine());
        Self {
            pool,
            store,
            artifacts,
            key,
            folder,
            script,
        }
    }

    async fn artifact(&self, text: &str) -> ArtifactInfo {
        let bytes = wat::parse_str(text).unwrap();
        self.artifacts.put(None, bytes.into()).await.unwrap()
    }

    fn workers(&self) -> usize {
        let count = std::fs::read_to_string(self.folder.path().join("count")).unwrap_or_default();
        count.lines().count()
    }
}

#[tokio::test]
async fn an_artifact_is_compiled_once_however_many_ask_and_again_after_no_restart() {
    let fleet = Fleet::new(echo).await;
    let info = fleet.artifact("(component)").await;
    let asked = (0..50).map(|_| fleet.pool.compiled(info.digest, ENGINE));
    let answers = futures::future::join_all(asked).await;
    let code = answers[0].clone().unwrap();
    assert!(answers.iter().all(|answer| answer.as_ref() == Ok(&code)));
    assert_eq!((fleet.workers(), fleet.pool.workers_started()), (1, 1));
    fleet.pool.precompile(std::slice::from_ref(&info)).await.unwrap();
    assert_eq!(fleet.workers(), 1);
    // The next scheduler finds it in the store.
    let opened = CompilePool::open(
        options(&fleet.script),
        fleet.artifacts.clone(),
        fleet.store.clone(),
        fleet.key.clone(),
    );
    let next = opened.await.unwrap();
    assert_eq!(next.compiled(info.digest, ENGINE).await, Ok(code.clone()));
    let bytes = next.bytes(&code.code).await.unwrap().unwrap();
    assert_eq!((Digest::of(&bytes), bytes.len() as u64), (code.code, code.bytes));
    assert_eq!(fleet.workers(), 1);
}

#[tokio::test]
async fn what_an_agent_is_told_is_signed_by_the_realm_key() {
    let fleet = Fleet::new(echo).await;
    let artifact = fleet.artifact("(component)").await.digest;
    let get = CompiledGet {
        artifact,
        fingerprint: ENGINE.to_owned(),
    };
    // Starting a shell may take longer than an answer waits.
    let code = fleet.pool.compiled(artifact, ENGINE).await.unwrap();
    let (answer, sealed) = fleet.pool.answer(&get).await.unwrap();
    assert_eq!(answer, CompiledAnswer::Signed);
    let opened = envelope::open(&sealed).unwrap();
    let payload = opened.verified(Kind::Compiled, &[fleet.key.public()]).unwrap();
    assert_eq!(serde_json::from_slice::<CompiledCode>(payload).unwrap(), code);
    let (whole, part) = fleet.pool.chunk(&code.code, 1).await.unwrap().unwrap();
    assert_eq!((whole, part.len() as u64), (code.bytes, code.bytes - 1));
    assert_eq!(fleet.pool.chunk(&Digest::of(b"other"), 0).await.unwrap(), None);
}

#[tokio::test]
async fn who_asks_for_long_work_is_told_that_it_is_under_way() {
    let fleet = Fleet::new(|count| format!("echo x >> {}; cat > /dev/null; sleep 3600", count.display())).await;
    let get = CompiledGet {
        artifact: fleet.artifact("(component)").await.digest,
        fingerprint: ENGINE.to_owned(),
    };
    for _ in 0..2 {
        assert_eq!(fleet.pool.answer(&get).await.unwrap().0, CompiledAnswer::UnderWay);
    }
    assert_eq!(fleet.workers(), 1);
}

#[tokio::test]
async fn what_cannot_be_compiled_is_refused_to_whoever_applies_it_and_not_tried_again() {
    let fleet = Fleet::new(|count| format!("echo x >> {}; kill -XCPU $$", count.display())).await;
    let info = fleet.artifact("(component)").await;
    for _ in 0..3 {
        let refused = fleet.pool.precompile(std::slice::from_ref(&info)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Artifact);
        assert!(
            refused.message.contains("more than 5 s of processor time"),
            "{refused:?}"
        );
    }
    assert_eq!(fleet.workers(), 1);
    let pair = (info.digest, ENGINE.to_owned());
    let later = Instant::now() + REFUSAL_KEPT;
    assert_eq!(fleet.pool.0.lock().known(&pair, later), None);
}

#[tokio::test]
async fn a_worker_that_fails_holds_up_no_apply_and_soon_gets_another_chance() {
    let fleet = Fleet::new(|_| "exit 3".to_owned()).await;
    let info = fleet.artifact("(component)").await;
    fleet.pool.precompile(std::slice::from_ref(&info)).await.unwrap();
    assert!(matches!(
        fleet.pool.compiled(info.digest, ENGINE).await,
        Err(Refusal::Unavailable(_))
    ));
    let pair = (info.digest, ENGINE.to_owned());
    assert_eq!(fleet.pool.0.lock().known(&pair, Instant::now() + FAILURE_KEPT), None);
}

#[tokio::test]
async fn engines_are_known_from_hellos_only_and_an_unsupported_one_is_told_so() {
    let unsupported = r#"cat >/dev/null; echo '{"answer":"unsupported","reason":"another release"}'"#;
    let fleet = Fleet::new(|_| unsupported.to_owned()).await;
    let info = fleet.artifact("(component)").await;
    let other = "ff112233445566778899aabbccddee00";
    assert!(matches!(
        fleet.pool.compiled(info.digest, other).await,
        Err(Refusal::Unavailable(_))
    ));
    let refused = fleet.pool.compiled(info.digest, ENGINE).await;
    assert_eq!(refused, Err(Refusal::Unsupported("another release".into())));
    fleet.pool.precompile(&[info]).await.unwrap();
    let mut strange = engine();
    strange.fingerprints = [("p2".to_owned(), "../../x".to_owned())].into();
    fleet.pool.know(&strange);
    assert_eq!(fleet.pool.0.lock().engines.len(), 1);
    for i in 0..ENGINES_MAX + 5 {
        strange.fingerprints = [("p2".to_owned(), format!("{i:032x}"))].into();
        fleet.pool.know(&strange);
    }
    assert_eq!(fleet.pool.0.lock().engines.len(), ENGINES_MAX);
}

#[tokio::test]
async fn code_goes_with_its_artifact() {
    let fleet = Fleet::new(echo).await;
    let one = fleet.artifact("(component)").await.digest;
    let two = fleet.artifact("(component (component))").await.digest;
    for artifact in [one, two] {
        fleet.pool.compiled(artifact, ENGINE).await.unwrap();
    }
    assert_eq!(
        fleet.pool.collect(&BTreeSet::new()).await.unwrap(),
        0,
        "asked for a moment ago"
    );
    if let Some(long_ago) = Instant::now().checked_sub(ASKED_FOR) {
        for (_, asked) in fleet.pool.0.lock().code.values_mut() {
            *asked = long_ago;
        }
        assert_eq!(fleet.pool.collect(&BTreeSet::from([one])).await.unwrap(), 1);
        let left = fleet.store.list().await.unwrap();
        assert_eq!(left.iter().map(|code| code.artifact).collect::<Vec<_>>(), [one]);
    }
}

#[tokio::test]
async fn code_that_the_store_lost_is_compiled_again() {
    let fleet = Fleet::new(echo).await;
    let artifact = fleet.artifact("(component)").await.digest;
    let code = fleet.pool.compiled(artifact, ENGINE).await.unwrap();
    fleet.store.delete(&code).await.unwrap();
    fleet.pool.0.lock().uncache(&code.code);
    assert_eq!(fleet.pool.bytes(&code.code).await.unwrap(), None);
    assert_eq!(fleet.pool.compiled(artifact, ENGINE).await, Ok(code.clone()));
    assert!(fleet.pool.bytes(&code.code).await.unwrap().is_some());
    assert_eq!(fleet.workers(), 2);
}
