//! Many calls of all sizes at once, some of them cancelled: counts those that outlive their deadline.
//!
//! In: a connection that calls, one that serves, how many calls. Out: counts and times. A hang is a call that is
//! unfinished a second after its deadline.

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use heddle_wrpc::{CallError, Connection, Fault, Incoming, Limits, Service, Target};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const INSTANCE: &str = "soak:calls/echo@0.1.0";
/// Callers at once, one after another.
const IN_FLIGHT: [u64; 4] = [1, 4, 16, 64];
/// What a healthy call has at most.
const DEADLINE: Duration = Duration::from_secs(5);
/// What a call that is to be cancelled has.
const SHORT: Duration = Duration::from_millis(3);
/// How long after its deadline a call is a hang.
const GRACE: Duration = Duration::from_secs(1);

/// What came of the calls.
#[derive(Debug, Default)]
pub struct Counts {
    /// All of them.
    pub calls: u64,
    /// Those with the right results.
    pub right: u64,
    /// Those with results of another call, or with broken ones.
    pub wrong: u64,
    /// Those that outlived their deadline by a second.
    pub hangs: u64,
    /// Those that were to be cancelled.
    pub cancelled: u64,
    /// Errors of healthy calls, by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Calls per second, by callers at once.
    pub per_second: BTreeMap<u64, u64>,
    /// Calls that were still executing at the callee when all was over.
    pub left_executing: u64,
}

impl Counts {
    /// One JSON object.
    pub fn json(&self) -> Value {
        json!({
            "calls": self.calls, "right": self.right, "wrong": self.wrong, "hangs": self.hangs,
            "cancelled": self.cancelled, "errors": self.errors, "per_second": self.per_second,
            "left_executing": self.left_executing,
        })
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.right += other.right;
        self.wrong += other.wrong;
        self.hangs += other.hangs;
        self.cancelled += other.cancelled;
        for (kind, count) in other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
    }
}

/// Makes `calls` calls, a quarter of them with each number of callers.
pub async fn soak(caller: &Connection, callee: &Connection, calls: u64) -> Result<Counts, heddle_wrpc::ServeError> {
    let executing = Arc::new(AtomicU64::new(0));
    let handler = {
        let executing = executing.clone();
        move |incoming| execute(incoming, Executing::new(&executing))
    };
    let service = Service {
        prefix: "soak".to_owned(),
        instance: INSTANCE.to_owned(),
        function: "echo".to_owned(),
        queue_group: Some("soak".to_owned()),
    };
    let limits = Limits {
        in_flight: 4096,
        ..Limits::default()
    };
    let serving = callee.serve(service, Arc::new(handler), limits).await?;
    let mut counts = Counts::default();
    for callers in IN_FLIGHT {
        let share = calls / IN_FLIGHT.len() as u64;
        let began = Instant::now();
        let tasks = (0..callers).map(|n| tokio::spawn(many(caller.clone(), n, share / callers)));
        for part in futures::future::join_all(tasks).await.into_iter().flatten() {
            counts.add(part);
        }
        let per_second = share as f64 / began.elapsed().as_secs_f64().max(1e-9);
        counts.per_second.insert(callers, per_second as u64);
    }
    let until = Instant::now() + DEADLINE;
    while executing.load(Ordering::SeqCst) > 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    counts.left_executing = executing.load(Ordering::SeqCst);
    serving.drain().await;
    Ok(counts)
}

struct Executing(Arc<AtomicU64>);

impl Executing {
    fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Executing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Gives its arguments back; those that begin with 1 wait for a cancel.
fn execute(incoming: Incoming, executing: Executing) -> BoxFuture<'static, Result<Bytes, Fault>> {
    async move {
        let _executing = executing;
        if incoming.params.first() == Some(&1) {
            std::future::pending::<()>().await;
        }
        Ok(incoming.params)
    }
    .boxed()
}

async fn many(caller: Connection, who: u64, calls: u64) -> Counts {
    let mut counts = Counts::default();
    for call in 0..calls {
        one(&caller, who << 40 | call, &mut counts).await;
    }
    counts
}

/// Mostly small, now and then large enough for several messages.
fn size(number: u64) -> usize {
    match number % 1000 {
        0 => 1_200_000,
        1..=10 => 64 << 10,
        11..=200 => 1 << 10,
        _ => 16,
    }
}

async fn one(caller: &Connection, number: u64, counts: &mut Counts) {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
    let is_cancelled = number % 50 == 7;
    let mut params = BytesMut::zeroed(size(number / 50));
    params[0] = u8::from(is_cancelled);
    params[1..9].copy_from_slice(&number.to_le_bytes());
    let params = params.freeze();
    let within = if is_cancelled { SHORT } else { DEADLINE };
    let target = Target::new("soak", INSTANCE, "echo");
    let call = caller.call(&target, params.clone(), Instant::now() + within);
    counts.calls += 1;
    let Ok(result) = tokio::time::timeout(within + GRACE, call).await else {
        counts.hangs += 1;
        return;
    };
    match result {
        Err(CallError::Deadline) if is_cancelled => counts.cancelled += 1,
        Ok(results) if results == params => counts.right += 1,
        Ok(_) => counts.wrong += 1,
        Err(error) => *counts.errors.entry(kind(&error)).or_default() += 1,
    }
}

fn kind(error: &CallError) -> &'static str {
    match error {
        CallError::Deadline => "deadline",
        CallError::NoResponders => "no-responders",
        CallError::Refused(_) => "refused",
        CallError::Failed(_) => "failed",
        CallError::TooLarge { .. } => "too-large",
        CallError::Protocol(_) => "protocol",
        CallError::Connection(_) => "connection",
        CallError::Cancelled => "cancelled",
    }
}
