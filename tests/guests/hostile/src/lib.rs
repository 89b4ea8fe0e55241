//! A guest that tries to take more than it is given. In: a request whose path ends with one of the names below. Out: what
//! the guest could get, if it is still there to say so.
//!
//! | path | does |
//! |---|---|
//! | `/spin` | never gives the processor back |
//! | `/grow` | takes memory until it is refused; answers how many MiB it got |
//! | `/recurse` | calls itself until the stack is used up |
//! | `/flood` | prints lines until it is stopped |
//! | `/trap` | traps |
//! | `/hoard` | makes sets of headers and lets none go; answers how many |
//! | `/connect?to=HOST:PORT&n=N` | begins N requests and lets none go; answers `<open> <refused>` |
//! | `/reach?to=HOST:PORT` | sends one request; answers `reached <status>` or `refused <why>` |
//! | `/headers?kib=N` | answers with so many KiB of headers |
//! | `/body` | reads the request's body to its end; answers its length |
//! | `/drip` | answers without end |

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};

wasip2::http::proxy::export!(Hostile);

struct Hostile;

const MIB: usize = 1 << 20;
const PAGE: usize = 64 << 10;
/// What `blocking-write-and-flush` takes at most.
const CHUNK: usize = 4_096;

impl Guest for Hostile {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path.rsplit('/').next().unwrap_or_default() {
            "spin" => spin(),
            "grow" => text(out, &format!("{} MiB\n", grow())),
            "recurse" => text(out, &format!("{}\n", recurse(1))),
            "flood" => flood(),
            "trap" => core::arch::wasm32::unreachable(),
            "hoard" => text(out, &format!("{} sets\n", hoard())),
            "connect" => text(out, &connect(value(query, "to"), number(query, "n"))),
            "reach" => text(out, &reach(value(query, "to"))),
            "headers" => headers(number(query, "kib"), out),
            "body" => text(out, &format!("{} bytes\n", read(&request))),
            "drip" => drip(out),
            _ => text(out, "hostile\n"),
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

fn grow() -> usize {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut block: Vec<u8> = Vec::new();
        if block.try_reserve_exact(MIB).is_err() {
            return core::hint::black_box(&all).len();
        }
        block.resize(MIB, 0);
        block.chunks_mut(PAGE).for_each(|page| page[0] = 1);
        all.push(block);
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = core::hint::black_box([depth; 64]);
    recurse(frame[0] + 1) + core::hint::black_box(frame)[1]
}

fn flood() -> ! {
    // The standard library of this target prints nowhere.
    let stdout = wasip2::cli::stdout::get_stdout();
    loop {
        let _ = stdout.blocking_write_and_flush(b"a line that nobody wants to read, and that fills a disk soon\n");
    }
}

fn hoard() -> usize {
    let mut all = Vec::new();
    let value = vec![b'x'; PAGE / 2];
    for _ in 0..1_000_000 {
        let fields = Fields::new();
        let _ = fields.append("x-hoard", &value);
        all.push(fields);
    }
    all.len()
}

fn begin(to: &str) -> Result<FutureIncomingResponse, ErrorCode> {
    let request = OutgoingRequest::new(Fields::new());
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some(to));
    let _ = request.set_path_with_query(Some("/"));
    outgoing_handler::handle(request, None)
}

fn connect(to: &str, n: usize) -> String {
    let (mut open, mut refused) = (Vec::new(), 0);
    for _ in 0..n {
        match begin(to) {
            Ok(answer) => open.push(answer),
            Err(_) => refused += 1,
        }
    }
    // What is refused later says so as soon as it is asked.
    let mut held = 0;
    for answer in &open {
        match answer.get() {
            Some(Ok(Err(_))) => refused += 1,
            _ => held += 1,
        }
    }
    format!("{held} {refused}\n")
}

fn reach(to: &str) -> String {
    let answer = match begin(to) {
        Ok(answer) => answer,
        Err(error) => return format!("refused {error:?}\n"),
    };
    answer.subscribe().block();
    match answer.get() {
        Some(Ok(Ok(response))) => format!("reached {}\n", response.status()),
        Some(Ok(Err(error))) => format!("refused {error:?}\n"),
        _ => "nothing\n".to_owned(),
    }
}

fn headers(kib: usize, out: ResponseOutparam) {
    let fields = Fields::new();
    let value = vec![b'x'; 1_000];
    for n in 0..kib {
        // Beyond the largest size this does not come back.
        let _ = fields.append(&format!("x-{n:06}"), &value);
    }
    respond(out, fields, |_| {});
}

fn read(request: &IncomingRequest) -> usize {
    let Ok(body) = request.consume() else { return 0 };
    let Ok(stream) = body.stream() else { return 0 };
    let mut bytes = 0;
    while let Ok(some) = stream.blocking_read(CHUNK as u64) {
        bytes += some.len();
    }
    bytes
}

fn drip(out: ResponseOutparam) {
    respond(out, Fields::new(), |stream| {
        while stream.blocking_write_and_flush(&[b'x'; CHUNK]).is_ok() {}
    });
}

fn text(out: ResponseOutparam, text: &str) {
    respond(out, Fields::new(), |stream| {
        let _ = stream.blocking_write_and_flush(text.as_bytes());
    });
}

fn respond(out: ResponseOutparam, headers: Fields, write: impl FnOnce(&wasip2::io::streams::OutputStream)) {
    let response = OutgoingResponse::new(headers);
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    let Ok(body) = body else { return };
    if let Ok(stream) = body.write() {
        write(&stream);
    }
    let _ = OutgoingBody::finish(body, None);
}

fn number(query: &str, name: &str) -> usize {
    value(query, name).parse().unwrap_or(0)
}

fn value<'a>(query: &'a str, name: &str) -> &'a str {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map_or("", |(_, value)| value)
}
