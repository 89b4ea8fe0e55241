//! Shows that it has a secret without showing the secret. In: a GET of `…/<name>`, for the secret that the manifest calls
//! so, or `…/<name>?env`, for the environment variable of that name. Out: `{"name":…,"digest":…}`, the SHA-256 of the value
//! in hex; 404 where there is none, 503 where it has not come to this host yet. The value itself leaves this file nowhere.

use sha2::{Digest as _, Sha256};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};

mod imports {
    wit_bindgen::generate!({ path: "../wit", world: "vaulted", generate_all });
}

use imports::wasmcloud::secrets::reveal::reveal;
use imports::wasmcloud::secrets::store::{SecretValue, SecretsError, get};

wasip2::http::proxy::export!(Vaulted);

struct Vaulted;

/// Why no digest can be answered: a status, and in words why.
type Refusal = (u16, String);

impl Guest for Vaulted {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        if !matches!(request.method(), Method::Get) {
            return respond(out, 405, "{\"error\":\"only GET is answered here\"}\n");
        }
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let name = path.rsplit('/').next().unwrap_or_default();
        let found = match query {
            "env" => from_environment(name),
            _ => from_store(name),
        };
        match found {
            Ok(digest) => respond(
                out,
                200,
                &format!("{{\"name\":{},\"digest\":\"{digest}\"}}\n", json_string(name)),
            ),
            Err((status, why)) => respond(out, status, &format!("{{\"error\":{}}}\n", json_string(&why))),
        }
    }
}

fn from_store(name: &str) -> Result<String, Refusal> {
    let secret = get(name).map_err(|error| match error {
        SecretsError::NotFound => (404, format!("the manifest names no secret {name}")),
        SecretsError::Upstream(why) | SecretsError::Io(why) => (503, why),
    })?;
    Ok(match reveal(&secret) {
        SecretValue::String(text) => digest(text.as_bytes()),
        SecretValue::Bytes(bytes) => digest(&bytes),
    })
}

fn from_environment(name: &str) -> Result<String, Refusal> {
    let variables = wasip2::cli::environment::get_environment();
    match variables.into_iter().find(|(variable, _)| variable == name) {
        Some((_, value)) => Ok(digest(value.as_bytes())),
        None => Err((404, format!("there is no variable {name}"))),
    }
}

fn digest(value: &[u8]) -> String {
    Sha256::digest(value).iter().map(|byte| format!("{byte:02x}")).collect()
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
