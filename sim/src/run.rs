//! Running seeds: one, or many on all cores.
//!
//! In: scenarios. Out: outcomes. Each world has a thread to itself while it runs, with a clock of its own.

use crate::agent::Keys;
use crate::process::said;
use crate::scenario::{IMAGES, Scenario, is_bad};
use crate::world::{self, Outcome};
use bytes::Bytes;
use heddle_protocol::digest::Digest;
use heddle_protocol::sign::SigningKey;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

/// Keys of hosts; more hosts than this share them.
const HOST_KEYS: u8 = 32;

/// What all worlds share: it is the same in each of them, and costs time to make.
pub struct Stock {
    keys: Keys,
    images: Vec<Bytes>,
}

impl Stock {
    /// Makes it.
    ///
    /// # Errors
    /// If this program was built wrongly.
    pub fn new() -> anyhow::Result<Self> {
        let images = world::images()?;
        let key = |number: u8| -> anyhow::Result<Arc<SigningKey>> {
            let pair = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, [number; 32])?;
            Ok(Arc::new(SigningKey::from_seed(&pair.seed()?)?))
        };
        let bad = (0..IMAGES).zip(&images).filter(|(number, _)| is_bad(*number));
        let keys = Keys {
            realm: key(255)?,
            hosts: (0..HOST_KEYS).map(key).collect::<Result<_, _>>()?,
            bad: Arc::new(bad.map(|(_, image)| Digest::of(image)).collect()),
        };
        Ok(Self { keys, images })
    }

    /// Runs one world.
    pub fn run(&self, scenario: Scenario, tracing: bool) -> Outcome {
        let seed = scenario.seed;
        let lived = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(world::run(scenario, &self.keys, &self.images, tracing)),
                Err(e) => Outcome {
                    seed,
                    broken: vec![format!("simulator: {e}")],
                    ..Outcome::default()
                },
            }
        }));
        lived.unwrap_or_else(|panic| Outcome {
            seed,
            broken: vec![format!("no-panic: {}", said(&*panic))],
            ..Outcome::default()
        })
    }

    /// Runs seeds on so many threads, and hands over each outcome. Stops early when told to.
    pub fn run_all(
        &self,
        seeds: std::ops::Range<u64>,
        threads: usize,
        prepare: &(dyn Fn() + Sync),
        mut take: impl FnMut(Outcome) -> bool,
    ) {
        let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
        let (sender, outcomes) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                let (sender, next, stop) = (sender.clone(), &next, &stop);
                scope.spawn(move || {
                    prepare();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end || stop.load(Ordering::Relaxed) {
                            return;
                        }
                        if sender.send(self.run(Scenario::of(seed), false)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for outcome in outcomes {
                if !take(outcome) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        });
    }
}
