//! The service over backends that answer, fail, hang and count.

use super::*;
use async_trait::async_trait;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use zeroize::Zeroizing;

/// A backend whose answers a test chooses.
#[derive(Debug, Default)]
struct Fake {
    calls: AtomicU32,
    dead: AtomicBool,
    hangs: AtomicBool,
    takes_ms: AtomicU32,
}

#[async_trait]
impl Backend for Fake {
    async fn get(&self, ask: &Ask) -> Result<Secret, BackendError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(self.takes_ms.load(Ordering::Relaxed).into())).await;
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.dead.load(Ordering::Relaxed) {
            return Err(BackendError::Unreachable("down".into()));
        }
        match ask.path.as_str() {
            "none" => Err(BackendError::NotFound("none".into())),
            path => Secret::new(
                ask.version.clone().unwrap_or_else(|| "7".into()),
                Zeroizing::new(path.as_bytes().to_vec()),
            ),
        }
    }

    async fn newest(&self, _: &Ask) -> Result<String, BackendError> {
        Ok("7".into())
    }
}

fn secret(from: &str, path: &str) -> SecretUse {
    SecretUse {
        workload: None,
        from: from.into(),
        path: path.into(),
        field: None,
        version: None,
        no_cache: false,
        env: None,
    }
}

fn service() -> (Secrets, Arc<Fake>, Arc<Fake>) {
    let (one, two) = (Arc::new(Fake::default()), Arc::new(Fake::default()));
    let mut backends: BTreeMap<String, Arc<dyn Backend>> = BTreeMap::new();
    backends.insert("one".into(), one.clone());
    backends.insert("two".into(), two.clone());
    (Secrets::new(backends, ServiceOptions::default()), one, two)
}

fn calls(fake: &Fake) -> u32 {
    fake.calls.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn askers_of_the_same_secret_share_one_call_and_its_answer_is_kept() {
    let (service, one, _) = service();
    one.takes_ms.store(50, Ordering::Relaxed);
    let wanted = secret("one", "db");
    let all = futures::future::join_all((0..20).map(|_| service.get(&wanted, None))).await;
    assert!(
        all.iter()
            .all(|answer| answer.as_ref().unwrap().value.as_slice() == b"db")
    );
    assert_eq!(calls(&one), 1);
    service.get(&wanted, Some("7")).await.unwrap();
    assert_eq!(calls(&one), 1, "the newest is version 7");
    tokio::time::advance(Duration::from_secs(6)).await;
    service.get(&wanted, None).await.unwrap();
    assert_eq!(calls(&one), 2, "the newest is asked for again");
    service.get(&wanted, Some("7")).await.unwrap();
    assert_eq!(calls(&one), 2, "and a version stays what it is");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_counts_for_a_moment() {
    let (service, one, _) = service();
    let wanted = secret("one", "none");
    for _ in 0..5 {
        assert!(matches!(
            service.get(&wanted, None).await,
            Err(BackendError::NotFound(_))
        ));
    }
    assert_eq!(calls(&one), 1);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(service.get(&wanted, None).await.is_err());
    assert_eq!(calls(&one), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_backend_costs_a_bounded_time_and_the_others_nothing() {
    let (service, one, two) = service();
    one.hangs.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let hung = (0..30).map(|n| {
        let (service, path) = (service.clone(), format!("s{n}"));
        async move { service.get(&secret("one", &path), None).await }
    });
    let (hung, quick) = futures::join!(futures::future::join_all(hung), async {
        service.get(&secret("two", "x"), None).await.unwrap();
        begun.elapsed()
    });
    assert!(quick < Duration::from_millis(10), "{quick:?}");
    assert!(
        hung.iter()
            .all(|answer| answer.as_ref().is_err_and(BackendError::is_retryable))
    );
    assert!(begun.elapsed() <= Duration::from_secs(9), "{:?}", begun.elapsed());
    assert_eq!((calls(&one), calls(&two)), (8, 1), "eight at a time, and then none");
}

#[tokio::test(start_paused = true)]
async fn a_dead_backend_is_not_asked_without_a_pause_and_is_found_again() {
    let (service, one, _) = service();
    one.dead.store(true, Ordering::Relaxed);
    let wanted = secret("one", "db");
    for _ in 0..50 {
        assert!(service.get(&wanted, None).await.unwrap_err().is_retryable());
    }
    assert_eq!(calls(&one), 3);
    one.dead.store(false, Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(16)).await;
    assert!(service.get(&wanted, None).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_asker_that_goes_away_leaves_the_answer_behind() {
    let (service, one, _) = service();
    one.takes_ms.store(3_000, Ordering::Relaxed);
    let wanted = secret("one", "db");
    let short = tokio::time::timeout(Duration::from_secs(2), service.get(&wanted, None)).await;
    assert!(short.is_err());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let now = Instant::now();
    assert!(service.get(&wanted, None).await.is_ok());
    assert_eq!((calls(&one), now.elapsed()), (1, Duration::ZERO));
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_named_with_those_that_are() {
    let (service, ..) = service();
    let error = service.get(&secret("vault", "x"), None).await.unwrap_err().to_string();
    assert!(error.contains("vault") && error.contains("one, two"), "{error}");
    assert_eq!(service.newest(&secret("one", "x")).await.unwrap(), "7");
    assert!(!format!("{service:?}").contains("value"));
}
