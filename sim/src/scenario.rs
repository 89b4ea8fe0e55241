//! What happens in one seed: how large the fleet is, what people ask, what breaks and when. All of it is drawn before
//! anything runs, as plain data, so that a failing seed can be made smaller by leaving parts of it out.

use crate::draw::Draw;

/// One seed's world.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// Hosts.
    pub hosts: u32,
    /// Zones that they are spread over: regions, as the product knows them now.
    pub zones: u32,
    /// Replicas that one host has room for.
    pub slots: u32,
    /// Schedulers that may be started.
    pub schedulers: u32,
    /// How long things break, in milliseconds.
    pub storm_ms: u64,
    /// How messages fare while things break.
    pub messages: Messages,
    /// How the store fares while things break.
    pub store: StoreFaults,
    /// How quick the agents are.
    pub pace: Pace,
    /// What breaks, in order of time.
    pub faults: Vec<Timed<Fault>>,
    /// What people ask, in order of time.
    pub asks: Vec<Timed<AskOf>>,
}

/// Something that happens at a time, in milliseconds from the start.
#[derive(Debug, Clone)]
pub struct Timed<T> {
    /// When.
    pub at: u64,
    /// What.
    pub what: T,
}

/// How messages fare: chances per message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Messages {
    /// Lost.
    pub lost: f64,
    /// Delivered twice.
    pub twice: f64,
    /// Held back for up to two seconds, behind later ones.
    pub late: f64,
    /// Ordinary delay, in milliseconds at most.
    pub delay_ms: u64,
}

/// How questions to the store fare: chances per question.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreFaults {
    /// The request never arrives.
    pub request_lost: f64,
    /// It is carried out, and the answer never arrives.
    pub answer_lost: f64,
    /// It arrives after whoever asked has given up.
    pub very_late: f64,
    /// Ordinary delay each way, in milliseconds at most.
    pub delay_ms: u64,
}

/// How long agents take for what they do, and how often it fails.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// One step (fetch, compile, prepare), in milliseconds at most.
    pub step_ms: u64,
    /// The chance that a step fails.
    pub fails: f64,
    /// Draining, in milliseconds at most.
    pub drain_ms: u64,
}

/// Which ways of a link are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both.
    Both,
    /// What is sent is lost.
    Out,
    /// What should be received is lost.
    In,
}

/// Something that breaks.
#[allow(missing_docs, reason = "the names of the fields say what they are")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A scheduler's process ends, in the middle of anything.
    CrashScheduler(u32),
    /// Another scheduler starts beside the one that leads.
    StartRival(u32),
    /// A scheduler's process stands still.
    PauseScheduler(u32, u64),
    /// A scheduler's link breaks. `noticed` tells whether it learns of it at once.
    CutScheduler {
        slot: u32,
        cut: Cut,
        noticed: bool,
        ms: u64,
    },
    /// The time of day jumps on the machine of a scheduler.
    JumpClock(u32, i64),
    /// An agent's process ends. It comes back after a while, with its cache or without.
    CrashAgent { host: u32, keeps_cache: bool, ms: u64 },
    /// An agent is told to stop: it leaves in peace, and comes back.
    StopAgent { host: u32, ms: u64 },
    /// An agent's process stands still.
    PauseAgent(u32, u64),
    /// An agent's link breaks.
    CutAgent {
        host: u32,
        cut: Cut,
        noticed: bool,
        ms: u64,
    },
    /// A whole zone is cut off.
    CutZone { zone: u32, cut: Cut, ms: u64 },
    /// The store answers nobody.
    StallStore(u64),
    /// The store's disk is full.
    FillDisk(u64),
    /// The store loses a record without a word.
    LoseRecord(u64),
    /// An agent's disk loses what was fetched.
    LoseArtifact(u32),
}

/// Something that people ask.
#[allow(missing_docs, reason = "the names of the fields say what they are")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskOf {
    /// Apply a workload.
    Apply(Wish),
    /// Delete a workload.
    Delete(u32),
    /// Take a workload back to the generation before.
    Undo(u32),
    /// Say whether a host takes work: 0 yes, 1 cordoned, 2 draining.
    SetHost(u32, u32),
    /// Forget a host.
    Forget { host: u32, force: bool },
    /// Apply the platform in one of its forms.
    Platform(u32),
    /// Move at most so many replicas to where they are better.
    Rebalance(u32),
    /// Ask for the status of everything.
    Status,
    /// Apply with an id that was used before, for something else.
    ReusedId(u32),
}

/// A workload as somebody wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which workload.
    pub workload: u32,
    /// How many replicas; none is one on each host.
    pub replicas: Option<u32>,
    /// Which image; every fourth one does not start anywhere.
    pub image: u32,
    /// Only hosts of this zone.
    pub zone: Option<u32>,
    /// Spread over zones.
    pub spread: bool,
}

/// Images that there are.
pub const IMAGES: u32 = 8;
/// Workloads that there may be.
pub const WORKLOADS: u32 = 6;

/// Whether an image never starts.
pub fn is_bad(image: u32) -> bool {
    image % 4 == 3
}

impl Scenario {
    /// What a seed means.
    pub fn of(seed: u64) -> Self {
        let mut draw = Draw::part(seed, "scenario", 0);
        let hosts = match draw.below(4_000) {
            0 => draw.log(1_000, 10_000),
            1..=40 => draw.log(64, 256),
            1_000..=1_400 => 1,
            _ => draw.log(1, 24),
        } as u32;
        let zones = draw.between(1, 4) as u32;
        let schedulers = *draw.pick(&[1, 1, 2, 2, 3, 4, 5]);
        let storm_ms = match draw.below(10) {
            0 => draw.between(40_000, 90_000),
            _ => draw.between(6_000, 30_000),
        };
        // Swarm: each kind of fault is there or not, so that kinds do not always hide each other.
        let calm = draw.happens(0.08);
        let on = |draw: &mut Draw, chance: f64| !calm && draw.happens(chance);
        let rate = |draw: &mut Draw, chance: f64, most: f64| match !calm && draw.happens(chance) {
            true => most * draw.share(),
            false => 0.0,
        };
        let messages = Messages {
            lost: rate(&mut draw, 0.4, 0.2),
            twice: rate(&mut draw, 0.4, 0.2),
            late: rate(&mut draw, 0.4, 0.2),
            delay_ms: draw.log(1, 200),
        };
        let store = StoreFaults {
            request_lost: rate(&mut draw, 0.3, 0.2),
            answer_lost: rate(&mut draw, 0.3, 0.3),
            very_late: rate(&mut draw, 0.25, 0.1),
            delay_ms: draw.log(1, 60),
        };
        let pace = Pace {
            step_ms: draw.log(1, 2_000),
            fails: rate(&mut draw, 0.3, 0.3),
            drain_ms: draw.log(1, 3_000),
        };
        let faults = faults(&mut draw, &on, hosts, zones, schedulers, storm_ms);
        let mut asks = asks(&mut draw, hosts, zones, storm_ms);
        // Drawn by itself, so that the rest of a world is what it was before this could be asked.
        let mut also = Draw::part(seed, "rebalances", 0);
        let rebalances = if also.happens(0.4) { also.between(1, 4) } else { 0 };
        asks.extend((0..rebalances).map(|_| Timed {
            at: also.between(1_000, storm_ms),
            what: AskOf::Rebalance(also.log(1, 50) as u32),
        }));
        let slots = *draw.pick(&[2, 4, 10, 100]);
        Self {
            seed,
            hosts,
            zones,
            slots,
            schedulers,
            storm_ms,
            messages,
            store,
            pace,
            faults,
            asks,
        }
    }
}

fn faults(
    draw: &mut Draw,
    on: &dyn Fn(&mut Draw, f64) -> bool,
    hosts: u32,
    zones: u32,
    schedulers: u32,
    storm_ms: u64,
) -> Vec<Timed<Fault>> {
    let kinds: Vec<u32> = (0..14).filter(|_| on(draw, 0.4)).collect();
    let mut faults = Vec::new();
    if kinds.is_empty() {
        return faults;
    }
    let count = draw.log(1, 30);
    for _ in 0..count {
        let at = draw.between(500, storm_ms.saturating_sub(500).max(501));
        let (slot, host, ms) = (
            draw.below(u64::from(schedulers)) as u32,
            draw.below(u64::from(hosts)) as u32,
            draw.log(100, 12_000),
        );
        let cut = *draw.pick(&[Cut::Both, Cut::Both, Cut::Out, Cut::In]);
        let noticed = draw.happens(0.5);
        let fault = match *draw.pick(&kinds) {
            0 => Fault::CrashScheduler(slot),
            1 => Fault::StartRival(slot),
            2 => Fault::PauseScheduler(slot, ms),
            3 => Fault::CutScheduler { slot, cut, noticed, ms },
            4 => Fault::JumpClock(
                slot,
                draw.log(1, 7_200_000) as i64 * if draw.happens(0.5) { 1 } else { -1 },
            ),
            5 => {
                let keeps_cache = draw.happens(0.6);
                Fault::CrashAgent { host, keeps_cache, ms }
            }
            6 => Fault::StopAgent { host, ms },
            7 => Fault::PauseAgent(host, ms),
            8 => Fault::CutAgent { host, cut, noticed, ms },
            9 => {
                let zone = draw.below(u64::from(zones)) as u32;
                Fault::CutZone { zone, cut, ms }
            }
            10 => Fault::StallStore(ms),
            11 => Fault::FillDisk(ms),
            12 => match draw.happens(0.2) {
                true => Fault::LoseRecord(draw.number()),
                false => Fault::StallStore(ms),
            },
            _ => Fault::LoseArtifact(host),
        };
        faults.push(Timed { at, what: fault });
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

fn asks(draw: &mut Draw, hosts: u32, zones: u32, storm_ms: u64) -> Vec<Timed<AskOf>> {
    let mut asks = vec![Timed {
        at: 100,
        what: AskOf::Platform(0),
    }];
    let count = draw.log(2, 24);
    let uses_hosts = draw.happens(0.5);
    let workloads = draw.between(1, u64::from(WORKLOADS));
    for i in 0..count {
        let at = match i {
            0 => draw.between(200, 1_500),
            _ => draw.between(500, storm_ms),
        };
        let workload = draw.below(workloads) as u32;
        let host = draw.below(u64::from(hosts)) as u32;
        let what = match draw.below(20) {
            0 | 1 if i > 0 => AskOf::Delete(workload),
            2 | 3 if i > 0 => AskOf::Undo(workload),
            4..=6 if uses_hosts => AskOf::SetHost(host, draw.below(3) as u32),
            7 if uses_hosts => AskOf::Forget {
                host,
                force: draw.happens(0.5),
            },
            8 => AskOf::Platform(draw.below(3) as u32),
            9 => AskOf::Status,
            10 if i > 0 => AskOf::ReusedId(draw.below(i) as u32),
            _ => AskOf::Apply(wish(draw, workload, hosts, zones)),
        };
        asks.push(Timed { at, what });
    }
    asks.sort_by_key(|ask| ask.at);
    asks
}

fn wish(draw: &mut Draw, workload: u32, hosts: u32, zones: u32) -> Wish {
    let most = u64::from(hosts).saturating_mul(3).clamp(4, 2_000);
    let replicas = match draw.below(10) {
        0 => None,
        1 => Some(0),
        2..=5 => Some(draw.between(1, 3) as u32),
        _ => Some(draw.log(1, most) as u32),
    };
    Wish {
        workload,
        replicas,
        image: draw.below(u64::from(IMAGES)) as u32,
        zone: draw.happens(0.2).then(|| draw.below(u64::from(zones)) as u32),
        spread: draw.happens(0.2),
    }
}
