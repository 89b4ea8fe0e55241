//! Counts its requests in a key-value store. In: a GET of any path that a route sends here, and the configuration value
//! `greeting`. Out: `{"greeting":…,"count":n}`, one higher each time on whichever replica answers, and a line of log.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};

mod imports {
    wit_bindgen::generate!({ path: "../wit", world: "counter", generate_all });
}

use imports::wasi::config::store as config;
use imports::wasi::keyvalue::{atomics, store as keyvalue};
use imports::wasi::logging::logging::{Level, log};

wasip2::http::proxy::export!(Counter);

struct Counter;

/// The key that all replicas count in.
const KEY: &str = "hits";

impl Guest for Counter {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        if !matches!(request.method(), Method::Get) {
            return respond(out, 405, "{\"error\":\"only GET is answered here\"}\n");
        }
        match count() {
            Ok((greeting, count)) => {
                log(Level::Info, "counter", &format!("{KEY}={count}"));
                respond(out, 200, &format!("{{\"greeting\":{},\"count\":{count}}}\n", json_string(&greeting)));
            }
            Err(reason) => {
                log(Level::Error, "counter", &reason);
                respond(out, 500, &format!("{{\"error\":{}}}\n", json_string(&reason)));
            }
        }
    }
}

fn count() -> Result<(String, u64), String> {
    let greeting = config::get("greeting")
        .map_err(|error| format!("failed to read the configuration value `greeting`: {error:?}"))?
        .unwrap_or_else(|| "hello".to_owned());
    let bucket = keyvalue::open("default").map_err(|error| format!("failed to open the bucket: {error:?}"))?;
    let count = atomics::increment(&bucket, KEY, 1).map_err(|error| format!("failed to count: {error:?}"))?;
    Ok((greeting, count))
}

/// Quotes text for JSON; small enough to write out, and it spares the guest a library.
fn json_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn respond(out: ResponseOutparam, status: u16, json: &str) {
    let headers = Fields::new();
    // A fresh set of fields takes any well-formed header.
    let _ = headers.set("content-type", &[b"application/json".to_vec()]);
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    let Ok(body) = body else { return };
    if let Ok(stream) = body.write() {
        // `blocking-write-and-flush` takes at most 4096 bytes at a time.
        for chunk in json.as_bytes().chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                // The caller went away; nobody is left to tell.
                return;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}
