//! Keeps notes. In: PUT, GET and DELETE of `/notes/NAME`, and GET of `/notes`, and the configuration value `container`.
//! Out: the notes, of any size, from a blob store; how often each was written, from a key-value store; a line of log for
//! each change. Bodies go through in pieces, so a note may be larger than the memory of this component.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

mod imports {
    wit_bindgen::generate!({
        path: "../wit",
        world: "notes",
        generate_all,
        // The streams of the blob store and those of HTTP are the same ones.
        with: {
            "wasi:io/streams@0.2.12": wasip2::io::streams,
            "wasi:io/error@0.2.12": wasip2::io::error,
            "wasi:io/poll@0.2.12": wasip2::io::poll,
        },
    });
}

use imports::wasi::blobstore::blobstore;
use imports::wasi::blobstore::container::Container;
use imports::wasi::blobstore::types::{IncomingValue, OutgoingValue};
use imports::wasi::config::store as config;
use imports::wasi::keyvalue::{atomics, store as keyvalue};
use imports::wasi::logging::logging::{Level, log};

wasip2::http::proxy::export!(Notes);

struct Notes;

/// What a stream gives or takes at once, in bytes.
const PIECE: u64 = 64 << 10;

impl Guest for Notes {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let name = path.strip_prefix("/notes").map(|rest| rest.trim_start_matches('/').to_owned());
        let done = match (request.method(), name.as_deref()) {
            (Method::Get, Some("")) => list().map(Answer::Json),
            (Method::Get, Some(name)) => read(name),
            (Method::Put, Some(name)) if !name.is_empty() => write(name, &request).map(Answer::Json),
            (Method::Delete, Some(name)) if !name.is_empty() => delete(name).map(Answer::Json),
            _ => Ok(Answer::Nothing(404)),
        };
        match done {
            Ok(answer) => answer.send(out),
            Err(reason) => {
                log(Level::Error, "notes", &reason);
                Answer::Failed(reason).send(out);
            }
        }
    }
}

enum Answer {
    Json(String),
    Note(IncomingValue),
    Nothing(u16),
    Failed(String),
}

/// The container, made when it is not there.
fn container() -> Result<Container, String> {
    let name = config::get("container")
        .map_err(|error| format!("failed to read the configuration value `container`: {error:?}"))?
        .unwrap_or_else(|| "notes".to_owned());
    if let Ok(container) = blobstore::get_container(&name) {
        return Ok(container);
    }
    // Another replica may have been faster.
    blobstore::create_container(&name).or_else(|why| blobstore::get_container(&name).map_err(|_| why))
}

fn list() -> Result<String, String> {
    let names = container()?.list_objects()?;
    let mut all = Vec::new();
    loop {
        let (some, end) = names.read_stream_object_names(100)?;
        all.extend(some);
        if end {
            break;
        }
    }
    all.sort();
    let quoted: Vec<String> = all.iter().map(|name| json_string(name)).collect();
    Ok(format!("[{}]\n", quoted.join(",")))
}

fn read(name: &str) -> Result<Answer, String> {
    let container = container()?;
    if !container.has_object(name)? {
        return Ok(Answer::Nothing(404));
    }
    container.get_data(name, 0, u64::MAX).map(Answer::Note)
}

fn write(name: &str, request: &IncomingRequest) -> Result<String, String> {
    let container = container()?;
    let value = OutgoingValue::new_outgoing_value();
    container.write_data(name, &value)?;
    let body = request.consume().map_err(|()| "the body was read already")?;
    let from = body.stream().map_err(|()| "the body was read already")?;
    let to = value.outgoing_value_write_body().map_err(|()| "the value was written already")?;
    let size = pass_on(&from, &to)?;
    // Streams go before what they belong to.
    drop((from, to));
    OutgoingValue::finish(value)?;
    let bucket = keyvalue::open("notes").map_err(|error| format!("failed to open the bucket: {error:?}"))?;
    let writes = atomics::increment(&bucket, name, 1).map_err(|error| format!("failed to count: {error:?}"))?;
    log(Level::Info, "notes", &format!("wrote {name}: {size} bytes, for the {writes}. time"));
    Ok(format!("{{\"size\":{size},\"writes\":{writes}}}\n"))
}

fn delete(name: &str) -> Result<String, String> {
    container()?.delete_object(name)?;
    let bucket = keyvalue::open("notes").map_err(|error| format!("failed to open the bucket: {error:?}"))?;
    bucket.delete(name).map_err(|error| format!("failed to forget the count: {error:?}"))?;
    log(Level::Info, "notes", &format!("removed {name}"));
    Ok("{}\n".to_owned())
}

/// Hands on everything, a piece at a time, and says how much it was.
fn pass_on(from: &InputStream, to: &OutputStream) -> Result<u64, String> {
    let mut size = 0;
    loop {
        let piece = match from.blocking_read(PIECE) {
            Ok(piece) => piece,
            Err(StreamError::Closed) => return Ok(size),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        };
        size += piece.len() as u64;
        let mut rest = &piece[..];
        while !rest.is_empty() {
            to.subscribe().block();
            let room = to.check_write().map_err(told)?.min(rest.len() as u64) as usize;
            let (now, later) = rest.split_at(room);
            to.write(now).map_err(told)?;
            rest = later;
        }
    }
}

fn told(error: StreamError) -> String {
    match error {
        StreamError::Closed => "the stream was closed".to_owned(),
        StreamError::LastOperationFailed(error) => error.to_debug_string(),
    }
}

impl Answer {
    fn send(self, out: ResponseOutparam) {
        let (status, kind) = match &self {
            Self::Json(_) => (200, "application/json"),
            Self::Note(_) => (200, "application/octet-stream"),
            Self::Nothing(status) => (*status, "text/plain"),
            Self::Failed(_) => (500, "text/plain"),
        };
        let headers = Fields::new();
        // A fresh set of fields takes any well-formed header.
        let _ = headers.set("content-type", &[kind.as_bytes().to_vec()]);
        let response = OutgoingResponse::new(headers);
        let _ = response.set_status_code(status);
        let body = response.body();
        ResponseOutparam::set(out, Ok(response));
        let Ok(body) = body else { return };
        if let Ok(stream) = body.write() {
            let sent = match self {
                Self::Json(text) | Self::Failed(text) => write_all(&stream, text.as_bytes()),
                Self::Note(value) => match IncomingValue::incoming_value_consume_async(value) {
                    Ok(from) => pass_on(&from, &stream).map(drop),
                    Err(why) => Err(why),
                },
                Self::Nothing(_) => Ok(()),
            };
            if let Err(why) = sent {
                // A body that is not finished tells the caller that something is missing.
                return log(Level::Error, "notes", &format!("failed to send a note: {why}"));
            }
            let _ = stream.blocking_flush();
        }
        let _ = OutgoingBody::finish(body, None);
    }
}

fn write_all(stream: &OutputStream, bytes: &[u8]) -> Result<(), String> {
    // `blocking-write-and-flush` takes at most 4096 bytes at a time.
    bytes.chunks(4096).try_for_each(|chunk| stream.blocking_write_and_flush(chunk).map_err(told))
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
