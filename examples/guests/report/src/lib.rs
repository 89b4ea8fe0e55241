//! A job that may take several attempts. In: a call of `wasi:cli/run`, and the configuration value `failures`. Out:
//! `attempts` in a key-value store, one higher. The first so many attempts end with an error, all others well.

use wasip2::exports::cli::run::Guest;

mod imports {
    wit_bindgen::generate!({ path: "../wit", world: "runner", generate_all });
}

use imports::wasi::config::store as config;
use imports::wasi::keyvalue::{atomics, store};

wasip2::cli::command::export!(Report);

struct Report;

impl Guest for Report {
    fn run() -> Result<(), ()> {
        let failures: u64 = match config::get("failures").map_err(|_| ())? {
            Some(text) => text.parse().map_err(|_| ())?,
            None => 0,
        };
        let bucket = store::open("default").map_err(|_| ())?;
        let attempt = atomics::increment(&bucket, "attempts", 1).map_err(|_| ())?;
        if attempt > failures { Ok(()) } else { Err(()) }
    }
}
