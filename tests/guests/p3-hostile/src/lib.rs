//! A guest of WASI 0.3 that tries to take more than it is given. In: a request whose path ends with one of the names
//! below. Out: an answer to any other path.
//!
//! | path | does |
//! |---|---|
//! | `/spin` | never gives the processor back |
//! | `/answer-and-spin` | answers, and never gives the processor back |

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_future, wit_stream};

wasip3::http::service::export!(Hostile);

struct Hostile;

impl Guest for Hostile {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        match path.rsplit('/').next().unwrap_or_default() {
            "spin" => spin(),
            "answer-and-spin" => Ok(respond(|| spin())),
            _ => Ok(respond(|| ())),
        }
    }
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        // Without this the compiler may see that nothing is computed.
        turns = core::hint::black_box(turns.wrapping_add(1));
    }
}

/// Answers, and then does something else before it ends the answer.
fn respond(then: impl FnOnce() + 'static) -> Response {
    let (mut body, reader) = wit_stream::new();
    wit_bindgen::spawn_local(async move {
        // What is left over was not wanted: the caller went away.
        let _left_over = body.write_all(b"hostile\n".to_vec()).await;
        then();
    });
    let (trailers, ended) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (response, _sent) = Response::new(Fields::new(), Some(reader), ended);
    response
}
