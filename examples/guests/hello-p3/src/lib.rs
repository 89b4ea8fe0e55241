//! `hello` over WASI 0.3: the handler is an async function, and one instance may serve many requests at once.
//! In: any HTTP request. Out: `hello from heddle over WASI 0.3, path=…` as plain text.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

wasip3::http::service::export!(HelloP3);

struct HelloP3;

impl Guest for HelloP3 {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        let text = format!("hello from heddle over WASI 0.3, path={path}\n");
        let headers = Fields::new();
        // A fresh set of fields takes any well-formed header.
        let _ = headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]);

        let (mut body, body_reader) = wit_stream::new();
        let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(headers, Some(body_reader), trailers_reader);
        drop(trailers);
        // The body is written while the host reads it, after the headers have been returned.
        wit_bindgen::spawn_local(async move {
            // What is left over was not wanted: the caller went away.
            let _left_over = body.write_all(text.into_bytes()).await;
        });
        Ok(response)
    }
}
