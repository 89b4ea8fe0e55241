//! The short form of the soak.

use crate::run::soak;
use crate::support::Nats;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_of_twenty_thousand_outlives_its_deadline_or_gets_wrong_results() {
    let nats = Nats::start().await;
    let (caller, callee) = (nats.connect().await, nats.connect().await);
    let counts = soak(&caller, &callee, 20_000).await.unwrap();
    assert_eq!(
        (counts.hangs, counts.wrong, counts.left_executing),
        (0, 0, 0),
        "{}",
        counts.json()
    );
    assert!(counts.errors.is_empty(), "{}", counts.json());
    assert!(counts.cancelled > 100 && counts.right > 19_000, "{}", counts.json());
}
