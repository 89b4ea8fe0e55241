//! The attacks: who does what, and which answer shows that it was stopped.
//!
//! In: an address. Out: attackers that begin again and again, how many attempts they made, and how long the slowest of
//! these lasted beyond its limit.

mod client;

use super::AT_ONCE;
use super::agent::TIME_LIMIT;
use anyhow::{Context as _, Result, anyhow, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

pub(super) use client::{Client, Head};

/// What clients of a hostile guest wait before they ask again, where it is over at once: crashes are no load test.
const PAUSE: Duration = Duration::from_millis(10);
/// How often a byte of a slow body comes.
const DRIP_EVERY: Duration = Duration::from_millis(50);
/// Bytes of a request's head that no listener should take.
const HEAD_BYTES: usize = 1 << 20;

/// One attack.
#[derive(Debug, Clone)]
pub(super) struct Attack {
    /// As it stands in the metrics.
    pub(super) name: &'static str,
    by: By,
    /// Answers that show that it was stopped: a status, and the host's reason where it answered in the guest's place.
    stopped: &'static [&'static str],
}

#[derive(Debug, Clone)]
enum By {
    /// A guest that is asked this.
    Guest(String),
    /// A client whose request has a head without end.
    Head,
    /// A client whose request has a body that comes slowly.
    Body,
}

/// All attacks. Those that connect somewhere connect to `sink`.
pub(super) fn all(sink: SocketAddr) -> Vec<Attack> {
    let guest = |name, path: &str, stopped| Attack {
        name,
        by: By::Guest(path.to_owned()),
        stopped,
    };
    const TIME: &[&str] = &["504 time-limit"];
    const TRAP: &[&str] = &["500 trapped"];
    // Where processors are scarce, its time may be over before it reaches its other limit.
    const EITHER: &[&str] = &["500 trapped", "504 time-limit"];
    vec![
        guest("spin", "/hostile/spin", TIME),
        guest("memory", "/hostile/grow", &["200", "504 time-limit"]),
        guest("table", "/table", TRAP),
        guest("recursion", "/hostile/recurse", TRAP),
        guest("handles", "/hostile/hoard", EITHER),
        guest("log_flood", "/hostile/flood", TIME),
        guest("trap_loop", "/hostile/trap", TRAP),
        guest("connections", &format!("/hostile/connect?to={sink}&n=10000"), EITHER),
        guest("metadata", "/hostile/reach?to=169.254.169.254:80", &["200"]),
        guest("headers", "/hostile/headers?kib=100000", TRAP),
        guest("endless_answer", "/hostile/drip", &["200"]),
        Attack {
            name: "huge_head",
            by: By::Head,
            stopped: &["431"],
        },
        Attack {
            name: "slow_body",
            by: By::Body,
            stopped: TIME,
        },
        guest("spin_p3", "/p3/spin", TIME),
        guest("answer_and_spin_p3", "/p3/answer-and-spin", &["200"]),
    ]
}

/// Attackers that go on until they are told to stop.
pub(super) struct Attackers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(Duration, u64)>>>,
}

impl Attack {
    /// Sets the attackers going.
    pub(super) fn start(&self, address: SocketAddr) -> Attackers {
        let stop = Arc::new(AtomicBool::new(false));
        let attacker = |_| {
            let (attack, stop) = (self.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                elsewhere();
                attack.again_and_again(address, &stop)
            })
        };
        let threads = (0..AT_ONCE).map(attacker).collect();
        Attackers { stop, threads }
    }

    fn again_and_again(&self, address: SocketAddr, stop: &AtomicBool) -> Result<(Duration, u64)> {
        let (mut longest, mut attempts) = (Duration::ZERO, 0);
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let head = self.once(address)?;
            let took = began.elapsed();
            let said = head.line();
            ensure!(self.stopped.contains(&said.as_str()), "it was answered {said}");
            // What ends before its time has met another limit, at a moment that only the host knows.
            longest = longest.max(took.checked_sub(TIME_LIMIT).unwrap_or(took));
            attempts += 1;
            if took < PAUSE {
                std::thread::sleep(PAUSE);
            }
        }
        Ok((longest, attempts))
    }

    /// One attempt, to its very end.
    fn once(&self, address: SocketAddr) -> Result<Head> {
        let mut client = Client::connect(address)?;
        match &self.by {
            By::Guest(path) => {
                let request = format!("GET {path} HTTP/1.1\r\nhost: bench.example\r\nconnection: close\r\n\r\n");
                let head = client.begin(request.as_bytes())?;
                client.drain();
                Ok(head)
            }
            By::Head => {
                let head = format!(
                    "GET /hostile/ HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
                    "y".repeat(HEAD_BYTES)
                );
                // It may be refused, and closed, before all of it is written, so that the answer is lost on the way.
                Ok(client.begin(head.as_bytes()).unwrap_or(Head::refused()))
            }
            By::Body => client.drip(
                b"POST /hostile/body HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n",
                DRIP_EVERY,
            ),
        }
    }
}

impl Attackers {
    /// Waits until each has ended its last attempt. The longest that one lasted beyond its limit, and how many there were.
    pub(super) fn stop(self) -> Result<(Duration, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut longest, mut attempts) = (Duration::ZERO, 0);
        for thread in self.threads {
            let (one, more) = thread.join().map_err(|_| anyhow!("an attacker ended"))??;
            longest = longest.max(one);
            attempts += more;
        }
        Ok((longest, attempts))
    }
}

/// A server that takes every connection and answers none.
pub(super) fn sink() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("failed to listen")?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    std::thread::spawn(move || {
        elsewhere();
        runtime.block_on(async move {
            let Ok(listener) = TcpListener::from_std(listener) else {
                return;
            };
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 1_024];
                    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
                });
            }
        })
    });
    Ok(address)
}

/// What stands for other machines must not take the processors of this one from those that are measured: the calling thread
/// runs where nobody else wants to. The lowest priority is not enough, because such threads still kept a processor for up
/// to 3 ms while the host waited for it.
fn elsewhere() {
    let nothing = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads a structure that outlives the call. 0 is the calling thread.
    #[allow(unsafe_code)]
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const nothing) };
    if answer != 0 {
        let error = std::io::Error::last_os_error();
        eprintln!("hostile: a thread that stands for another machine keeps its priority: {error}");
    }
}
