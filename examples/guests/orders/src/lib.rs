//! Takes orders. In: messages whose body is an order's number, and GET requests. Out: for each order a message on
//! `orders.confirmed` with the same body; for a request `{"orders":n}`, how many were taken so far. A body that is no
//! number is an error, so the message counts as not handled.

use wasip2::exports::http::incoming_handler::Guest as Http;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "orders", generate_all });
}

use bindings::exports::wasmcloud::messaging::handler::Guest as Messages;
use bindings::wasi::keyvalue::{atomics, store as keyvalue};
use bindings::wasmcloud::messaging::consumer::publish;
use bindings::wasmcloud::messaging::types::BrokerMessage;

wasip2::http::proxy::export!(Orders);
bindings::export!(Orders with_types_in bindings);

struct Orders;

/// The bucket, and the key that all replicas count in.
const BUCKET: &str = "default";
const KEY: &str = "orders";
/// Where orders are confirmed.
const CONFIRMED: &str = "orders.confirmed";

impl Messages for Orders {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        let order = String::from_utf8_lossy(&message.body);
        let number: u64 = order
            .trim()
            .parse()
            .map_err(|_| format!("{order:?} is no number of an order"))?;
        let bucket = open()?;
        atomics::increment(&bucket, KEY, 1).map_err(|error| format!("failed to count: {error:?}"))?;
        publish(&BrokerMessage {
            subject: CONFIRMED.to_owned(),
            body: number.to_string().into_bytes(),
            reply_to: None,
        })
    }
}

impl Http for Orders {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        match count() {
            Ok(orders) => respond(out, 200, &format!("{{\"orders\":{orders}}}\n")),
            Err(why) => respond(out, 500, &format!("{why}\n")),
        }
    }
}

fn open() -> Result<keyvalue::Bucket, String> {
    keyvalue::open(BUCKET).map_err(|error| format!("failed to open the bucket: {error:?}"))
}

/// How many orders were taken. Adding nothing reads the count, however the store writes numbers down.
fn count() -> Result<u64, String> {
    atomics::increment(&open()?, KEY, 0).map_err(|error| format!("failed to read the count: {error:?}"))
}

fn respond(out: ResponseOutparam, status: u16, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
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
