//! A service. In: a call of `wasi:cli/run`, and the configuration value `rounds`. Out: in a key-value store, `starts`, one
//! higher for each call, and `rounds`, one higher every 100 milliseconds. It ends after so many rounds, or else never.

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::cli::run::Guest;

mod imports {
    wit_bindgen::generate!({ path: "../wit", world: "runner", generate_all });
}

use imports::wasi::config::store as config;
use imports::wasi::keyvalue::{atomics, store};

wasip2::cli::command::export!(Watch);

struct Watch;

/// How long one round takes, in nanoseconds.
const ROUND: u64 = 100_000_000;

impl Guest for Watch {
    fn run() -> Result<(), ()> {
        let rounds: u64 = match config::get("rounds").map_err(|_| ())? {
            Some(text) => text.parse().map_err(|_| ())?,
            None => u64::MAX,
        };
        let bucket = store::open("default").map_err(|_| ())?;
        atomics::increment(&bucket, "starts", 1).map_err(|_| ())?;
        for _ in 0..rounds {
            atomics::increment(&bucket, "rounds", 1).map_err(|_| ())?;
            subscribe_duration(ROUND).block();
        }
        Ok(())
    }
}
