//! The guest that tests drive: each path does one thing that a host must cope with. In: a request whose path *ends* with
//! one of the names below (so any route prefix may stand before it). Out: plain text.
//!
//! | path | does |
//! |---|---|
//! | `/` and everything unknown | answers `probe <version>` |
//! | `/version` | answers the version |
//! | `/echo` | streams the request's body back |
//! | `/status/NNN` | answers with that status |
//! | `/sleep?ms=N` | waits on the clock, then answers |
//! | `/spin` | never gives the CPU back |
//! | `/alloc?mib=N` | takes and touches that much memory; 507 when it is refused |
//! | `/trap` | traps |
//! | `/env` | answers the environment, one `NAME=value` a line |
//! | `/kv?key=K` | increments a key and answers its value |
//! | `/instance` | answers `<random id of this instance> <requests it has served>` |

mod reply;

use std::cell::Cell;

use reply::{echo, text};
use wasip2::cli::environment::get_environment;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};
use wasip2::random::random::get_random_u64;

mod imports {
    wit_bindgen::generate!({ path: "../../../examples/guests/wit", world: "probe", generate_all });
}

use imports::wasi::keyvalue::{atomics, store};

thread_local! {
    /// Made at the first request and kept for as long as the instance lives.
    static INSTANCE_ID: u64 = get_random_u64();
    static SERVED: Cell<u64> = const { Cell::new(0) };
}

const MIB: usize = 1024 * 1024;
const WASM_PAGE: usize = 64 * 1024;

/// Does what the request's path says.
pub fn handle(version: &str, request: &IncomingRequest, out: ResponseOutparam) {
    SERVED.set(SERVED.get() + 1);
    let target = request.path_with_query().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut segments = path.rsplit('/');
    let last = segments.next().unwrap_or_default();
    let before_last = segments.next().unwrap_or_default();
    match (before_last, last) {
        ("status", status) => match status.parse() {
            Ok(status) => text(out, status, &format!("status {status}\n")),
            Err(_) => text(out, 400, "a status is a number\n"),
        },
        (_, "version") => text(out, 200, version),
        (_, "echo") => echo(request, out),
        (_, "sleep") => sleep(number(query, "ms"), out),
        (_, "spin") => spin(),
        (_, "alloc") => allocate(number(query, "mib"), out),
        (_, "trap") => core::arch::wasm32::unreachable(),
        (_, "env") => environment(out),
        (_, "kv") => increment(value(query, "key").unwrap_or("probe"), out),
        (_, "instance") => text(out, 200, &format!("{:016x} {}\n", INSTANCE_ID.with(|id| *id), SERVED.get())),
        _ => text(out, 200, &format!("probe {version}\n")),
    }
}

fn sleep(ms: u64, out: ResponseOutparam) {
    subscribe_duration(ms.saturating_mul(1_000_000)).block();
    text(out, 200, &format!("slept {ms} ms\n"));
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        // Without this the compiler may see that nothing is computed.
        turns = core::hint::black_box(turns.wrapping_add(1));
    }
}

fn allocate(mib: u64, out: ResponseOutparam) {
    let size = usize::try_from(mib).unwrap_or(usize::MAX).saturating_mul(MIB);
    let mut memory: Vec<u8> = Vec::new();
    if memory.try_reserve_exact(size).is_err() {
        return text(out, 507, &format!("refused {mib} MiB\n"));
    }
    memory.resize(size, 0);
    for page in memory.chunks_mut(WASM_PAGE) {
        page[0] = 1;
    }
    core::hint::black_box(&memory);
    text(out, 200, &format!("allocated {mib} MiB\n"));
}

fn environment(out: ResponseOutparam) {
    let lines: String = get_environment().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    text(out, 200, &lines);
}

fn increment(key: &str, out: ResponseOutparam) {
    let counted = store::open("default").and_then(|bucket| atomics::increment(&bucket, key, 1));
    match counted {
        Ok(count) => text(out, 200, &format!("{count}\n")),
        Err(error) => text(out, 500, &format!("failed to increment {key}: {error:?}\n")),
    }
}

fn number(query: &str, name: &str) -> u64 {
    value(query, name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}
