//! An HTTP handler of WASI 0.3 that calls another component. In: a request whose path ends with one of the names below.
//! Out: what the other said.
//!
//! | path | answers |
//! |---|---|
//! | `/greet/NAME` | a greeting |
//! | `/shout` | the request's body in capitals, while it comes |
//! | `/meet/N` | `here` at once, and `met N` when N such requests have come to this one instance |

use std::sync::atomic::{AtomicUsize, Ordering};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_future, wit_stream};
use wit_bindgen::StreamReader;

mod imports {
    wit_bindgen::generate!({ path: "../wit", world: "caller", generate_all });
}

use imports::test::shout::shouter;

wasip3::http::service::export!(Caller);

struct Caller;

/// Requests that came to meet others in this instance.
static HERE: AtomicUsize = AtomicUsize::new(0);
/// How often it is looked who is there, in nanoseconds.
const LOOK: u64 = 1_000_000;

impl Guest for Caller {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        let mut parts = path.rsplit('/');
        let (last, verb) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match (verb, last) {
            ("greet", name) => Ok(text(shouter::greet(name.to_owned()).await)),
            ("meet", n) => Ok(meet(n.parse().unwrap_or(1))),
            (_, "shout") => {
                let (sent, taken) = wit_future::new(|| Ok(()));
                drop(sent);
                let (quiet, _trailers) = Request::consume_body(request, taken);
                Ok(respond(shouter::shout(quiet).await))
            }
            _ => Ok(text("nothing".to_owned())),
        }
    }
}

/// Waits for others. Alone it waits until it is stopped.
fn meet(n: usize) -> Response {
    HERE.fetch_add(1, Ordering::SeqCst);
    let (mut body, reader) = wit_stream::new();
    wit_bindgen::spawn_local(async move {
        let _left_over = body.write_all(b"here\n".to_vec()).await;
        let greeting = shouter::greet("all".to_owned()).await;
        while HERE.load(Ordering::SeqCst) < n {
            wait_for(LOOK).await;
        }
        let _left_over = body.write_all(format!("{greeting} met {n}\n").into_bytes()).await;
    });
    respond(reader)
}

fn text(text: String) -> Response {
    let (mut body, reader) = wit_stream::new();
    wit_bindgen::spawn_local(async move {
        // What is left over was not wanted: the caller went away.
        let _left_over = body.write_all(format!("{text}\n").into_bytes()).await;
    });
    respond(reader)
}

fn respond(body: StreamReader<u8>) -> Response {
    let (trailers, reader) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (response, _sent) = Response::new(Fields::new(), Some(body), reader);
    response
}
