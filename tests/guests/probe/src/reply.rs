//! Answers. In: a status and text, or a request whose body goes back. Out: a finished response; a caller that went away
//! in the middle is not an error here, because nobody is left to tell.

use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, OutputStream, ResponseOutparam,
};

/// What `blocking-write-and-flush` takes at most.
const CHUNK: usize = 4096;

/// Answers with plain text.
pub(crate) fn text(out: ResponseOutparam, status: u16, text: &str) {
    respond(out, status, |stream| {
        for chunk in text.as_bytes().chunks(CHUNK) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                return;
            }
        }
    });
}

/// Sends the request's body back while it arrives.
pub(crate) fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    respond(out, 200, |stream| {
        let Ok(body) = request.consume() else { return };
        let Ok(input) = body.stream() else { return };
        // Reading ends with an error: `closed` at the end of the body.
        while let Ok(bytes) = input.blocking_read(CHUNK as u64) {
            if stream.blocking_write_and_flush(&bytes).is_err() {
                return;
            }
        }
    });
}

fn respond(out: ResponseOutparam, status: u16, write: impl FnOnce(&OutputStream)) {
    let headers = Fields::new();
    // A fresh set of fields takes any well-formed header.
    let _ = headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]);
    let response = OutgoingResponse::new(headers);
    // A number that is no HTTP status leaves the 200.
    let _ = response.set_status_code(status);
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    let Ok(body) = body else { return };
    if let Ok(stream) = body.write() {
        write(&stream);
    }
    let _ = OutgoingBody::finish(body, None);
}
