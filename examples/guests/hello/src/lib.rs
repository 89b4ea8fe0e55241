//! The smallest useful guest. In: any HTTP request. Out: `hello from heddle, path=…` as plain text.
//! It imports HTTP and nothing else, so it runs on every host.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wasip2::http::proxy::export!(Hello);

struct Hello;

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        respond(out, &format!("hello from heddle, path={path}\n"));
    }
}

fn respond(out: ResponseOutparam, text: &str) {
    let headers = Fields::new();
    // A fresh set of fields takes any well-formed header.
    let _ = headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]);
    let response = OutgoingResponse::new(headers);
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    let Ok(body) = body else { return };
    if let Ok(stream) = body.write() {
        // `blocking-write-and-flush` takes at most 4096 bytes at a time.
        for chunk in text.as_bytes().chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                // The caller went away; nobody is left to tell.
                return;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}
