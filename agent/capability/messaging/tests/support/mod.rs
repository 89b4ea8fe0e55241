//! A handler that does as its messages say, called as an agent calls it, and a NATS server of the test's own.
//!
//! In: messages whose first letter says what becomes of them: `f` fails, `t` traps, all others are taken. Out: how often
//! the handler was called, and how many calls there were at once.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "in a test a broken expectation is the message")]

use futures::future::BoxFuture;
use heddle_capability::{
    CallFailure, Callable, Capability, Ctx, Grants, Guard, Lending, Lent, Log, LogLines, MemoryBudget, MemoryMeter,
    Work,
};
use heddle_capability_messaging::{MessagingJetstream, MessagingNats};
use heddle_protocol::host_spec::{CapabilityOffer, Consume};
use heddle_protocol::id::{CapabilityName, ComponentName, Generation, UnitId, WorkloadId};
use heddle_tests::nats::Nats;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

/// How long a fact may take to come about, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(30);

const HANDLER: &str = r#"
(component
  (core module $code
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (data (i32.const 64) "not today")
    (func (export "handle") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
      (if (i32.eq (i32.load8_u (local.get 2)) (i32.const 116)) (then unreachable))
      (i32.store8 (i32.const 0) (i32.eq (i32.load8_u (local.get 2)) (i32.const 102)))
      (i32.store (i32.const 4) (i32.const 64))
      (i32.store (i32.const 8) (i32.const 9))
      (i32.const 0)))
  (core instance $i (instantiate $code))
  (type $message (record (field "subject" string) (field "body" (list u8)) (field "reply-to" (option string))))
  (func $handle (param "msg" $message) (result (result (error string)))
    (canon lift (core func $i "handle") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (component $shim
    (type $given (record (field "subject" string) (field "body" (list u8)) (field "reply-to" (option string))))
    (import "import-type" (type $named (eq $given)))
    (import "import-func" (func $f (param "msg" $named) (result (result (error string)))))
    (export $shown "broker-message" (type $named))
    (export "handle-message" (func $f) (func (param "msg" $shown) (result (result (error string))))))
  (instance $handler (instantiate $shim
    (with "import-type" (type $message)) (with "import-func" (func $handle))))
  (export "wasmcloud:messaging/handler@0.2.0" (instance $handler)))
"#;

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl LogLines for Lines {
    fn line(&self, _: &UnitId, _: &ComponentName, level: &str, text: &str) {
        self.0.lock().unwrap().push(format!("{level} {text}"));
    }
}

/// A component of a unit, and what a test wants to know of its calls.
pub struct Handler {
    unit: UnitId,
    name: ComponentName,
    code: Component,
    pre: wasmtime::component::InstancePre<Ctx>,
    log: Arc<Log>,
    lines: Arc<Lines>,
    pub replicas: AtomicU32,
    pub draining: AtomicBool,
    pub overloaded: AtomicBool,
    pub calls: AtomicU32,
    pub at_once: AtomicU32,
    pub most_at_once: AtomicU32,
    /// Calls go on only with a permit of it.
    pub gate: Semaphore,
}

impl Handler {
    /// One replica of generation `generation`, whose calls are let through if `open`.
    pub fn new(workload: &str, generation: u64, open: bool) -> Arc<Self> {
        let engine = Engine::default();
        let code = Component::new(&engine, wat::parse_str(HANDLER).unwrap()).unwrap();
        let (unit, name) = (
            UnitId {
                workload: WorkloadId::parse(workload).unwrap(),
                generation: Generation(generation),
            },
            ComponentName::parse("main").unwrap(),
        );
        let lines = Arc::<Lines>::default();
        Arc::new(Self {
            pre: Linker::new(&engine).instantiate_pre(&code).unwrap(),
            log: Arc::new(Log::new(unit.clone(), name.clone(), Arc::clone(&lines) as _)),
            lines,
            unit,
            name,
            code,
            replicas: AtomicU32::new(1),
            draining: AtomicBool::new(false),
            overloaded: AtomicBool::new(false),
            calls: AtomicU32::new(0),
            at_once: AtomicU32::new(0),
            most_at_once: AtomicU32::new(0),
            gate: Semaphore::new(if open { 1_000_000 } else { 0 }),
        })
    }

    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    pub fn log(&self) -> String {
        self.lines.0.lock().unwrap().join("\n")
    }
}

impl Callable for Handler {
    fn unit(&self) -> &UnitId {
        &self.unit
    }
    fn component(&self) -> &ComponentName {
        &self.name
    }
    fn code(&self) -> &Component {
        &self.code
    }
    fn time_limit(&self) -> Duration {
        Duration::from_secs(20)
    }
    fn replicas(&self) -> u32 {
        self.replicas.load(Ordering::SeqCst)
    }
    fn log(&self) -> Option<&Arc<Log>> {
        Some(&self.log)
    }
    fn call(self: Arc<Self>, deadline: Instant, work: Work) -> BoxFuture<'static, Result<(), CallFailure>> {
        Box::pin(async move {
            if self.draining.load(Ordering::SeqCst) {
                return Err(CallFailure::Draining);
            }
            if self.overloaded.load(Ordering::SeqCst) {
                return Err(CallFailure::Overloaded);
            }
            self.calls.fetch_add(1, Ordering::SeqCst);
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(now, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            let memory = MemoryMeter::new(Arc::new(MemoryBudget::new(1 << 30)), 1 << 24);
            let mut store = Ctx::new(&self.log, memory, deadline, &Grants::default()).into_store(self.pre.engine());
            let instance = self.pre.instantiate_async(&mut store).await.unwrap();
            let ended = work(&mut store, instance).await;
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            ended.map_err(|e| CallFailure::Trapped(e.to_string()))
        })
    }
}

/// A NATS server and a client of the test's own.
pub struct Broker {
    pub nats: Nats,
    pub client: async_nats::Client,
    _folder: tempfile::TempDir,
}

impl Broker {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nats = Nats::start(folder.path(), &folder.path().join("nats.log"))
            .await
            .unwrap();
        let client = async_nats::ConnectOptions::new()
            .retry_on_initial_connect()
            .connect(nats.url())
            .await
            .unwrap();
        Self {
            nats,
            client,
            _folder: folder,
        }
    }

    pub fn lend_nats(&self) -> Arc<dyn Lent> {
        let offer = CapabilityOffer::MessagingNats {
            url: None,
            subjects: vec!["orders.>".to_owned()],
        };
        MessagingNats.configure(&name(), &offer, &self.lending()).unwrap()
    }

    pub fn lend_jetstream(&self) -> Arc<dyn Lent> {
        let offer = CapabilityOffer::MessagingJetstream {
            stream: "ORDERS".to_owned(),
            url: None,
            subjects: vec!["orders.>".to_owned()],
            dead_letters: Some("dead".to_owned()),
        };
        MessagingJetstream.configure(&name(), &offer, &self.lending()).unwrap()
    }

    fn lending(&self) -> Lending {
        Lending {
            nats_url: Some(self.nats.url()),
            ..Lending::default()
        }
    }

    /// Puts messages into the stream, once it is there.
    pub async fn put(&self, subject: &str, bodies: &[&str]) {
        let stream = async_nats::jetstream::new(self.client.clone());
        for body in bodies {
            let (subject, body) = (subject.to_owned(), (*body).to_owned());
            until("a message is kept", async || {
                let sent = stream.publish(subject.clone(), body.clone().into()).await;
                match sent {
                    Ok(kept) => kept.await.is_ok(),
                    Err(_) => false,
                }
            })
            .await;
        }
    }

    /// Subscriptions of a subject, as the server counts them.
    pub async fn subscribers(&self, subject: &str) -> usize {
        let told = self.nats.tell("/subsz?subs=1").await.unwrap();
        let list = told["subscriptions_list"].as_array().cloned().unwrap_or_default();
        list.iter().filter(|one| one["subject"] == subject).count()
    }
}

pub fn name() -> CapabilityName {
    CapabilityName::parse("events").unwrap()
}

pub fn consume(max_in_flight: u32, attempts: u32) -> Consume {
    Consume {
        capability: name(),
        component: ComponentName::parse("main").unwrap(),
        subject: "orders.>".to_owned(),
        max_in_flight,
        attempts,
    }
}

pub fn take(lent: &Arc<dyn Lent>, handler: &Arc<Handler>, consume: &Consume) -> Guard {
    lent.consume(consume, Arc::clone(handler) as _).unwrap()
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    heddle_tests::until::eventually(SOON, what, async || {
        anyhow::ensure!(is_so().await, "not yet");
        Ok(())
    })
    .await
    .unwrap();
}
