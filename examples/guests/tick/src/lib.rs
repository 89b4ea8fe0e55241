//! Counts how often it was run. In: a call of `wasi:cli/run`. Out: `ticks` in a key-value store, one higher.

use wasip2::exports::cli::run::Guest;

mod imports {
    wit_bindgen::generate!({ path: "../wit", world: "tick", generate_all });
}

use imports::wasi::keyvalue::{atomics, store};

wasip2::cli::command::export!(Tick);

struct Tick;

impl Guest for Tick {
    fn run() -> Result<(), ()> {
        let bucket = store::open("default").map_err(|_| ())?;
        atomics::increment(&bucket, "ticks", 1).map(drop).map_err(|_| ())
    }
}
