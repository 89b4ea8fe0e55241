//! An HTTP component that has its greetings from elsewhere. In: a GET of `…/greet/<name>`, `…/try/<name>` or
//! `…/echo/<bytes>`. Out: what the greeter says as plain text. It knows one interface and not what meets it: a component
//! in any language, composed into this one or called on another host. What goes wrong with `try` is an answer: 422 for a
//! name that the greeter refuses, 504 when the call took too long, 502 when it failed otherwise.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};

mod imports {
    wit_bindgen::generate!({ path: "../wit", world: "storefront", generate_all });
}

use imports::example::greet::greeter;

wasip2::http::proxy::export!(Storefront);

struct Storefront;

/// How the host words a call that had no answer in time, and how it words all that a call can fail with.
const LATE: &str = "failed to get results in time";
const FAILED: &str = "failed to";

impl Guest for Storefront {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        if !matches!(request.method(), Method::Get) {
            return respond(out, 405, b"only GET is answered here\n");
        }
        let target = request.path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        // Whatever route leads here: the last two parts say what is asked.
        let mut parts = path.rsplit('/');
        let (last, verb) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match verb {
            "greet" => respond(out, 200, line(&greeter::greet(last)).as_bytes()),
            "try" => match greeter::try_greet(last) {
                Ok(greeting) => respond(out, 200, line(&greeting).as_bytes()),
                Err(why) => respond(out, status_of(&why), line(&why).as_bytes()),
            },
            "echo" => respond(out, 200, &greeter::echo(last.as_bytes())),
            _ => respond(out, 404, b"ask for greet/<name>, try/<name> or echo/<bytes>\n"),
        }
    }
}

/// The status for an error: the greeter's own words, or those of a call that failed on its way.
fn status_of(why: &str) -> u16 {
    if why.starts_with(LATE) {
        504
    } else if why.starts_with(FAILED) {
        502
    } else {
        422
    }
}

fn line(text: &str) -> String {
    format!("{text}\n")
}

fn respond(out: ResponseOutparam, status: u16, bytes: &[u8]) {
    let headers = Fields::new();
    // A fresh set of fields takes any well-formed header.
    let _ = headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]);
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    let Ok(body) = body else { return };
    if let Ok(stream) = body.write() {
        // `blocking-write-and-flush` takes at most 4096 bytes at a time.
        for chunk in bytes.chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                // The caller went away; nobody is left to tell.
                return;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}
