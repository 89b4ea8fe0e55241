//! Records amounts with a capability that does not come with the agent. In: a GET of `…/<account>/<amount>`. Out: what is
//! in the account then, as plain text; 400 for an amount that is no number, 422 where the ledger refuses.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};

mod imports {
    wit_bindgen::generate!({ path: "../wit", world: "till", generate_all });
}

use imports::acme::ledger::book;

wasip2::http::proxy::export!(Till);

struct Till;

impl Guest for Till {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        if !matches!(request.method(), Method::Get) {
            return respond(out, 405, "only GET is answered here\n");
        }
        let target = request.path_with_query().unwrap_or_default();
        let mut parts = target.rsplit('/');
        let (amount, account) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let Ok(amount) = amount.parse::<i64>() else {
            return respond(out, 400, "ask for <account>/<amount>\n");
        };
        match book::record(account, amount) {
            Ok(balance) => respond(out, 200, &format!("{account}: {balance}\n")),
            Err(why) => respond(out, 422, &format!("{why}\n")),
        }
    }
}

fn respond(out: ResponseOutparam, status: u16, text: &str) {
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
        for chunk in text.as_bytes().chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                // The caller went away; nobody is left to tell.
                return;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}
