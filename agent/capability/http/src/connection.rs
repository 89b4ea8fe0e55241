//! Accepting connections and serving the requests on them.
//!
//! In: connections. Out: for each request the response of the endpoint that its route names. All waits are bounded:
//! for a request's head, for the next request, and for a client that does not read.

use crate::reply::{ERROR_HEADER, Endpoint, Refusal, Reply, method_not_allowed};
use crate::route::{Match, RouteTable};
use crate::stall::StallLimit;
use arc_swap::ArcSwap;
use heddle_protocol::id::CapabilityName;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::borrow::Cow;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long a client may take to send a request's head, and a connection may idle: longer than the 60 s after which
/// common proxies close idle connections themselves, so that they rarely meet one that is closing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may take to read anything of an answer that waits for it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head of a request, in bytes, as of common servers.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The most headers of a request.
const HEADERS_MAX: usize = 128;
/// How long to wait when the system gives no connection: it has no file handles left, and some may be closed soon.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections of a listener know.
pub(crate) struct Shared<E> {
    pub(crate) name: CapabilityName,
    pub(crate) routes: Arc<ArcSwap<RouteTable<E>>>,
    pub(crate) connections_max: Arc<AtomicU32>,
    pub(crate) connections: AtomicU32,
    pub(crate) all_connections: watch::Sender<usize>,
}

/// Accepts connections until the listener stops.
pub(crate) async fn accept<E: Endpoint>(
    listener: TcpListener,
    shared: Arc<Shared<E>>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Also when the sender is gone: then the listeners are.
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, _)) => match Permit::take(&shared) {
                Some(permit) => {
                    tokio::spawn(serve(stream, permit, stopped.clone()));
                }
                None => refuse(&stream),
            },
            Err(error) => {
                tracing::warn!(listener = %shared.name, %error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A place among the connections of a listener.
struct Permit<E>(Arc<Shared<E>>);

impl<E> Permit<E> {
    fn take(shared: &Arc<Shared<E>>) -> Option<Self> {
        // Only the accepting task adds, so nothing can slip in between.
        if shared.connections.load(Ordering::Relaxed) >= shared.connections_max.load(Ordering::Relaxed) {
            return None;
        }
        shared.connections.fetch_add(1, Ordering::Relaxed);
        shared.all_connections.send_modify(|open| *open += 1);
        Some(Self(Arc::clone(shared)))
    }
}

impl<E> Drop for Permit<E> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.all_connections.send_modify(|open| *open -= 1);
    }
}

/// Tells a client that it is one too many, if its socket takes the words at once, and closes the connection.
fn refuse(stream: &TcpStream) {
    let refusal = Refusal::TooManyConnections;
    let (status, text) = (refusal.status(), refusal.text());
    let head = format!(
        "HTTP/1.1 {status}\r\n{ERROR_HEADER}: {}\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
        refusal.code(),
        text.len(),
    );
    let _ = stream.try_write(head.as_bytes());
}

/// Serves one connection until it closes, or until its request in flight is answered once the listener stops.
async fn serve<E: Endpoint>(stream: TcpStream, permit: Permit<E>, mut stopped: watch::Receiver<bool>) {
    // Responses are often small and written in two pieces; waiting to join them costs up to 40 ms.
    let _ = stream.set_nodelay(true);
    let shared = &permit.0;
    let service = hyper::service::service_fn(|request| route(shared, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(StallLimit::new(stream, STALL_TIMEOUT)), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => Some(served),
        // Also when the sender is gone: then the listeners are.
        _ = stopped.wait_for(|stop| *stop) => None,
    };
    let served = match served {
        Some(served) => served,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        // Clients that go away are ordinary.
        tracing::debug!(listener = %shared.name, %error, "a connection ended early");
    }
}

/// Serves one request.
async fn route<E: Endpoint>(
    shared: &Shared<E>,
    request: Request<Incoming>,
) -> Result<Response<Reply<E::Body>>, Infallible> {
    let endpoint = {
        let Some(host) = host(&request) else {
            return Ok(Refusal::NoHost.response());
        };
        let routes = shared.routes.load();
        match routes.find(&shared.name, &host, request.uri().path(), request.method().as_str()) {
            Match::Found(endpoint) => endpoint.clone(),
            Match::NotReady => return Ok(Refusal::NotReady.response()),
            Match::NoRoute => return Ok(Refusal::NoRoute.response()),
            Match::MethodNotAllowed(allowed) => {
                let allowed: Vec<&str> = allowed.into_iter().collect();
                return Ok(method_not_allowed(&allowed.join(", ")));
            }
        }
    };
    Ok(endpoint.handle(request).await)
}

/// The host that a request names, without port and in lower case.
fn host<B>(request: &Request<B>) -> Option<Cow<'_, str>> {
    let host = match request.uri().host() {
        Some(host) => host,
        None => {
            let value = request.headers().get(http::header::HOST)?.to_str().ok()?;
            without_port(value)
        }
    };
    match host {
        "" => None,
        host if host.bytes().any(|byte| byte.is_ascii_uppercase()) => Some(Cow::Owned(host.to_ascii_lowercase())),
        host => Some(Cow::Borrowed(host)),
    }
}

/// Cuts the port off. The colons of an IPv6 address stand in brackets.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_of(uri: &str, header: Option<&str>) -> Option<String> {
        let mut request = Request::builder().uri(uri);
        if let Some(header) = header {
            request = request.header("host", header);
        }
        host(&request.body(()).unwrap()).map(Cow::into_owned)
    }

    #[test]
    fn a_host_is_told_without_port_and_in_lower_case() {
        assert_eq!(host_of("/", Some("Shop.Example:8080")).as_deref(), Some("shop.example"));
        assert_eq!(host_of("/", Some("shop.example")).as_deref(), Some("shop.example"));
        assert_eq!(host_of("/", Some("[::1]:80")).as_deref(), Some("[::1]"));
        assert_eq!(host_of("/", Some("[::1]")).as_deref(), Some("[::1]"));
        assert_eq!(
            host_of("http://Proxy.example:1/x", Some("other")).as_deref(),
            Some("proxy.example")
        );
        assert_eq!(host_of("/", Some(":80")), None);
        assert_eq!(host_of("/", None), None);
    }
}
