//! A scheduler's process: the production loop on a simulated network, store and clock, which may be paused and killed.
//!
//! In: what is shared by all processes of a realm. Out: a process that runs until it ends by itself or is killed; its end
//! is an event. What a killed process had begun to send goes on its way; all else of it is gone.

use crate::draw::Draw;
use crate::net::{End, Event, Net, Reply};
use crate::scenario::StoreFaults;
use async_nats::{HeaderMap, Message, Subject};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::StreamExt as _;
use heddle_protocol::id::{HostId, Realm};
use heddle_protocol::sign::SigningKey;
use heddle_protocol::subject::HostVerb;
use heddle_protocol::time::UnixMs;
use heddle_scheduler::artifact::ArtifactPool;
use heddle_scheduler::artifact::login::Logins;
use heddle_scheduler::artifact::oci::Fetcher;
use heddle_scheduler::compile::{CompileOptions, CompilePool};
use heddle_scheduler::health::Metrics;
use heddle_scheduler::outside::{Inputs, Outside};
use heddle_scheduler::secret::SecretPool;
use heddle_scheduler::store::{
    ArtifactStore, CodeStore, Image, MemoryRealm, PastStore, Preflight, Store, StoreOptions, SyncMode, Trip, Weather,
};
use heddle_scheduler::{Ground, SchedulerOptions, run_on};
use heddle_secret::{Secrets, ServiceOptions};
use heddle_wire::chunk::RequestError;
use heddle_wire::connect::LinkState;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Things that all processes may begin in one millisecond.
const BEGUN_MAX: u64 = 200_000;
/// The time of day when every world begins, in milliseconds since 1970.
const MORNING_MS: i64 = 1_750_000_000_000;

/// What all processes of a realm share.
pub struct Commons {
    /// The network.
    pub net: Arc<Net>,
    /// The store.
    pub realm: MemoryRealm,
    /// The artifacts.
    pub artifacts: ArtifactStore,
    /// What decisions were made from.
    pub past: PastStore,
    /// The realm's key.
    pub key: Arc<SigningKey>,
    /// The realm's name.
    pub name: Realm,
    /// How the store fares.
    pub store: Mutex<StoreFaults>,
    /// Until when the store answers nobody.
    pub stalled_until: AtomicU64,
    /// Faults that chance did to questions to the store.
    pub store_hurt: AtomicU64,
    /// What is on the way to hosts: pushes, by process and host.
    pub pushes: Mutex<Pushes>,
    /// Hosts whose agents were ever told to stop.
    pub leaving: Mutex<BTreeSet<HostId>>,
    /// Whether hosts may be forgotten and come back, with pushes to them still under way.
    pub forgets: bool,
    /// What was begun in the present millisecond, and which one that is: more than a bound never comes to an end.
    pub begun: Mutex<(u64, u64)>,
    /// What must never be, as it was seen.
    pub broken: Mutex<Vec<String>>,
}

/// Pushes of specs.
#[derive(Debug, Default)]
pub struct Pushes {
    /// Under way, by process and host.
    pub under_way: BTreeMap<(u32, HostId), u32>,
    /// All that were ever begun, by host.
    pub begun: BTreeMap<HostId, u64>,
    /// When the last one began.
    pub last_at: u64,
}

impl Commons {
    /// Counts something that a process begins. Says whether it may: work that begets work without time passing would go on
    /// for ever, and the world with it.
    fn may_begin(&self) -> bool {
        let now = self.net.now();
        let mut begun = lock(&self.begun);
        if begun.0 != now {
            *begun = (now, 0);
        }
        begun.1 += 1;
        if begun.1 == BEGUN_MAX {
            self.break_rule("bounded", format!("{BEGUN_MAX} things are begun at one moment"));
        }
        begun.1 < BEGUN_MAX
    }

    /// Notes that something is as it must never be.
    pub fn break_rule(&self, rule: &str, what: String) {
        let mut broken = lock(&self.broken);
        if broken.len() < 20 {
            broken.push(format!("{rule}: {what}"));
        }
    }
}

/// Takes a lock: what is behind it is whole whatever a panicking holder did.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of one of the realm's schedulers.
pub fn scheduler_id(slot: u32) -> String {
    format!("scheduler-{slot}")
}

/// A process.
pub struct Process {
    /// Its number; no other process ever has it.
    pub number: u32,
    /// Which of the realm's schedulers it is.
    pub slot: u32,
    /// Its link to NATS.
    pub link: watch::Sender<LinkState>,
    /// How far its machine's time of day is off, in milliseconds.
    pub clock: Arc<AtomicI64>,
    group: Group,
}

impl Process {
    /// Starts a process.
    pub fn start(commons: &Arc<Commons>, seed: u64, slot: u32, number: u32) -> Self {
        let (link, link_state) = watch::channel(LinkState {
            up: true,
            connects: 1,
            dropped: 0,
        });
        let group = Group::default();
        let clock = Arc::new(AtomicI64::new(0));
        let world = Arc::new(SimOutside {
            commons: Arc::clone(commons),
            number,
            group: group.clone(),
            clock: Arc::clone(&clock),
            draw: Mutex::new(Draw::part(seed, "process", u64::from(number))),
        });
        let (commons, outside) = (Arc::clone(commons), Arc::clone(&world));
        let weather = ProcessWeather {
            commons: Arc::clone(&commons),
            number,
            draw: Mutex::new(Draw::part(seed, "weather", u64::from(number))),
        };
        let life = async move {
            let (net, me) = (Arc::clone(&commons.net), number);
            let lived = live(&commons, slot, outside, link_state, weather);
            let reason = match AssertUnwindSafe(lived).catch_unwind().await {
                Ok(Ok(())) => "it ended".to_owned(),
                Ok(Err(e)) => format!("{e:#}"),
                Err(panic) => {
                    let why = said(&*panic);
                    commons.break_rule("no-panic", format!("scheduler {slot} panicked: {why}"));
                    why
                }
            };
            net.after(0, Event::Ended { process: me, reason });
        };
        group.spawn(life.boxed(), None);
        Self {
            number,
            slot,
            link,
            clock,
            group,
        }
    }

    /// Ends it in the middle of anything.
    pub fn kill(&self) {
        self.group.kill();
    }

    /// Has it stand still, or go on.
    pub fn pause(&self, paused: bool) {
        self.group.pause(paused);
    }
}

async fn live(
    commons: &Arc<Commons>,
    slot: u32,
    outside: Arc<SimOutside>,
    link_state: watch::Receiver<LinkState>,
    weather: ProcessWeather,
) -> anyhow::Result<()> {
    let mut options = SchedulerOptions::new(
        commons.name.clone(),
        "nats://nowhere.invalid",
        "nowhere".into(),
        "nowhere".into(),
    );
    options.id = scheduler_id(slot);
    options.dev = true;
    let store_options = StoreOptions::new(commons.name.as_str());
    let pool = ArtifactPool::new(commons.artifacts.clone(), Fetcher::new(Logins::default(), Vec::new()));
    let code = CodeStore::in_memory();
    let compile = CompilePool::open(CompileOptions::default(), pool.clone(), code, Arc::clone(&commons.key)).await?;
    let secrets = Secrets::new(BTreeMap::new(), ServiceOptions::default());
    let ground = Ground {
        outside,
        link_state,
        store: Store::in_weather(&commons.realm, store_options, Arc::new(weather)),
        pool,
        compile,
        secrets: SecretPool::new(commons.name.clone(), secrets, None),
        past: commons.past.clone(),
        key: Arc::clone(&commons.key),
        preflight: Preflight {
            version: "simulated".to_owned(),
            sync: SyncMode::Always,
            warnings: Vec::new(),
        },
    };
    run_on(ground, options, Arc::new(Metrics::default()), std::future::pending()).await
}

/// The world of one process.
struct SimOutside {
    commons: Arc<Commons>,
    number: u32,
    group: Group,
    clock: Arc<AtomicI64>,
    draw: Mutex<Draw>,
}

#[async_trait]
impl Outside for SimOutside {
    async fn listen(&self, _realm: &Realm) -> anyhow::Result<Inputs> {
        let receiver = self.commons.net.listen(self.number);
        let inputs = futures::stream::unfold(receiver, |mut receiver| async move {
            let input = receiver.recv().await?;
            Some((input, receiver))
        });
        Ok(inputs.boxed())
    }

    async fn publish(&self, to: Subject, _headers: Option<HeaderMap>, payload: Bytes) -> Result<(), String> {
        self.commons.net.send(End::Process(self.number), &to, None, payload);
        Ok(())
    }

    async fn request(&self, subject: &str, payload: Bytes, within: Duration) -> Result<Message, RequestError> {
        let push = match crate::net::host_verb(subject) {
            Some((host, HostVerb::Spec)) => Some(PushUnderWay::begin(&self.commons, self.number, host)),
            _ => None,
        };
        let net = &self.commons.net;
        let (number, answer) = net.ask(End::Process(self.number), subject, payload);
        let answer = tokio::time::timeout(within, answer).await;
        net.give_up(number);
        drop(push);
        match answer {
            Ok(Ok(Reply::Message(message))) => Ok(message),
            Ok(Ok(Reply::NoResponders)) => Err(RequestError::NoResponders(subject.to_owned())),
            _ => Err(RequestError::NoReply {
                subject: subject.to_owned(),
                why: format!("nothing within {within:?}"),
            }),
        }
    }

    async fn flush(&self) {}

    fn spawn(&self, work: BoxFuture<'static, ()>) {
        if self.commons.may_begin() {
            self.group.spawn(work, Some(&self.commons));
        }
    }

    async fn keep_image(&self, _path: std::path::PathBuf, _realm: Realm, _image: Image) -> Result<(), String> {
        Ok(())
    }

    fn wall_clock(&self) -> UnixMs {
        let off = self.clock.load(Ordering::Relaxed);
        let now = MORNING_MS + self.commons.net.now() as i64 + off;
        UnixMs(now.max(0) as u64)
    }

    fn random(&self) -> u64 {
        lock(&self.draw).number()
    }
}

/// Counts a push for as long as it is under way.
struct PushUnderWay {
    commons: Arc<Commons>,
    key: (u32, HostId),
}

impl PushUnderWay {
    fn begin(commons: &Arc<Commons>, number: u32, host: HostId) -> Self {
        let key = (number, host);
        let now = commons.net.now();
        let under_way = {
            let mut pushes = lock(&commons.pushes);
            *pushes.begun.entry(key.1.clone()).or_default() += 1;
            pushes.last_at = now;
            let under_way = pushes.under_way.entry(key.clone()).or_default();
            *under_way += 1;
            (*under_way, pushes.under_way.len())
        };
        crate::check::pushes::begun(commons, &key.1, under_way.0, under_way.1);
        Self {
            commons: Arc::clone(commons),
            key,
        }
    }
}

impl Drop for PushUnderWay {
    fn drop(&mut self) {
        let mut pushes = lock(&self.commons.pushes);
        if let Some(under_way) = pushes.under_way.get_mut(&self.key) {
            *under_way -= 1;
            if *under_way == 0 {
                pushes.under_way.remove(&self.key);
            }
        }
    }
}

/// How a process's questions to the store fare.
struct ProcessWeather {
    commons: Arc<Commons>,
    number: u32,
    draw: Mutex<Draw>,
}

impl std::fmt::Debug for ProcessWeather {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProcessWeather({})", self.number)
    }
}

impl Weather for ProcessWeather {
    fn trip(&self) -> Trip {
        if !self.commons.may_begin() {
            return Trip {
                there: None,
                back: None,
            };
        }
        let faults = *lock(&self.commons.store);
        let mut draw = lock(&self.draw);
        let (now, link) = (self.commons.net.now(), self.commons.net.link(End::Process(self.number)));
        let stall = self.commons.stalled_until.load(Ordering::Relaxed).saturating_sub(now);
        let mut hurt = 0;
        let mut there = Some(draw.between(0, faults.delay_ms) + stall);
        let mut back = Some(draw.between(0, faults.delay_ms));
        if draw.happens(faults.request_lost) {
            (there, hurt) = (None, hurt + 1);
        }
        if draw.happens(faults.answer_lost) {
            (back, hurt) = (None, hurt + 1);
        }
        if draw.happens(faults.very_late) {
            there = there.map(|ms| ms + draw.between(3_000, 20_000));
            hurt += 1;
        }
        if now < link.out_until {
            there = None;
        }
        if now < link.in_until {
            back = None;
        }
        self.commons.store_hurt.fetch_add(hurt, Ordering::Relaxed);
        Trip {
            there: there.map(Duration::from_millis),
            back: back.map(Duration::from_millis),
        }
    }
}

/// The tasks of a process.
#[derive(Clone, Default)]
struct Group(Arc<GroupState>);

#[derive(Default)]
struct GroupState {
    paused: AtomicBool,
    dead: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Group {
    fn spawn(&self, work: BoxFuture<'static, ()>, panics: Option<&Arc<Commons>>) {
        if self.0.dead.load(Ordering::Relaxed) {
            return;
        }
        let panics = panics.cloned();
        let work = async move {
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await
                && let Some(commons) = panics
            {
                commons.break_rule("no-panic", format!("work beside the loop panicked: {}", said(&*panic)));
            }
        };
        let task = tokio::spawn(Pausable {
            group: self.clone(),
            work: work.boxed(),
        });
        let mut tasks = lock(&self.0.tasks);
        if tasks.len() > 256 {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(task.abort_handle());
    }

    fn kill(&self) {
        self.0.dead.store(true, Ordering::Relaxed);
        lock(&self.0.tasks).drain(..).for_each(|task| task.abort());
    }

    fn pause(&self, paused: bool) {
        self.0.paused.store(paused, Ordering::Relaxed);
        if !paused {
            lock(&self.0.waiting).drain(..).for_each(Waker::wake);
        }
    }
}

/// Work that does nothing while its process stands still.
struct Pausable {
    group: Group,
    work: BoxFuture<'static, ()>,
}

impl Future for Pausable {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.group.0.paused.load(Ordering::Relaxed) {
            lock(&self.group.0.waiting).push(cx.waker().clone());
            return Poll::Pending;
        }
        self.work.poll_unpin(cx)
    }
}

/// What a panic said.
pub fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
        .to_owned()
}
