//! Sending one request to an address that was checked.
//!
//! In: a request and where it goes. Out: the answer, and what drives its connection. Waiting is bounded whatever the guest
//! asks for; the place among the connections is given back with the connection.

use super::address::AddressPolicy;
use bytes::Bytes;
use http::uri::Scheme;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody};

/// The longest that a connection may take to come up.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The longest that an answer may take to begin, and to go on.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The largest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Where a request goes.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    /// In lower case, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    tls: bool,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Destination {
    pub(super) fn of<B>(request: &http::Request<B>) -> Option<Self> {
        let uri = request.uri();
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            None => false,
            Some(_) => return None,
        };
        let host = uri.authority()?.host();
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        Some(Self {
            host: host.to_ascii_lowercase(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            tls,
        })
        .filter(|to| !to.host.is_empty())
    }

    /// The first of its addresses, if all of them may be reached.
    pub(super) async fn resolve(&self, policy: &AddressPolicy) -> std::result::Result<SocketAddr, (String, Error)> {
        let lookup = tokio::net::lookup_host((self.host.as_str(), self.port));
        let failed = |why: String| {
            let error = Error::DnsError {
                rcode: None,
                info_code: None,
            };
            (why, error)
        };
        let found = match tokio::time::timeout(CONNECT_MAX, lookup).await {
            Ok(Ok(found)) => found.collect::<Vec<_>>(),
            Ok(Err(e)) => return Err(failed(format!("its name cannot be resolved: {e}"))),
            Err(_) => return Err(("its name was not resolved in time".to_owned(), Error::DnsTimeout)),
        };
        if let Some(why) = found.iter().find_map(|address| policy.forbids(*address)) {
            return Err((why.to_owned(), Error::DestinationIpProhibited));
        }
        let first = found.first().copied();
        first.ok_or_else(|| failed("its name has no address".to_owned()))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<()>> + Send>);

/// Sends a request to an address, and waits for the head of its answer.
pub(super) async fn send(
    request: http::Request<WasiBody>,
    to: &Destination,
    address: SocketAddr,
    options: Option<RequestOptions>,
    place: OwnedSemaphorePermit,
) -> Result<Sent> {
    let within = |asked: Option<Duration>, max: Duration| asked.map_or(max, |asked| asked.min(max));
    let connect = within(options.as_ref().and_then(|o| o.connect_timeout), CONNECT_MAX);
    let first = within(options.as_ref().and_then(|o| o.first_byte_timeout), SILENCE_MAX);
    let between = within(options.as_ref().and_then(|o| o.between_bytes_timeout), SILENCE_MAX);

    let stream = tokio::time::timeout(connect, open(to, address)).await;
    let stream = stream.map_err(|_| Error::ConnectionTimeout)??;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    let request = in_origin_form(request)?;
    // The connection must move while the head is awaited, and on after that: it has a task, which ends with the answer.
    let driver = tokio::spawn(async move {
        // Named in this order, the connection is closed before its place is free, even if the task never ran.
        let (connection, _place) = (connection, place);
        connection.await
    });
    let driver = AbortOnDrop(driver);
    let response = tokio::time::timeout(first, sender.send_request(request)).await;
    let response = response.map_err(|_| Error::ConnectionReadTimeout)??;
    let response = response.map(|incoming| {
        let body = Timed {
            incoming,
            between,
            silence: Box::pin(tokio::time::sleep(between)),
            _driver: driver,
        };
        body.boxed_unsync()
    });
    Ok((response, Box::new(async { Ok(()) })))
}

async fn open(to: &Destination, address: SocketAddr) -> Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(address).await.map_err(Error::Connect)?;
    // Requests are small and wait for their answers.
    let _ = stream.set_nodelay(true);
    if !to.tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(to.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls()));
    let stream = connector.connect(name, stream).await.map_err(Error::Tls)?;
    Ok(Box::new(stream))
}

/// One configuration for the whole process: the roots that browsers trust.
fn tls() -> &'static Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        Arc::new(
            ClientConfig::builder()
                .with_root_certificates(roots)
                .with_no_client_auth(),
        )
    })
}

/// A server is told the path alone; the rest of the address stands in `Host`.
fn in_origin_form(mut request: http::Request<WasiBody>) -> Result<http::Request<WasiBody>> {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    if let Some(authority) = authority
        && !request.headers().contains_key(http::header::HOST)
    {
        let host = authority.rsplit_once('@').map_or(authority.as_str(), |(_, host)| host);
        let host = http::HeaderValue::from_str(host).map_err(|_| Error::HttpRequestUriInvalid)?;
        request.headers_mut().insert(http::header::HOST, host);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path = path.parse::<http::Uri>().map_err(|_| Error::HttpRequestUriInvalid)?;
    *request.uri_mut() = path;
    Ok(request)
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A body that ends with an error when its sender falls silent, and takes its connection with it.
struct Timed {
    incoming: hyper::body::Incoming,
    between: Duration,
    silence: Pin<Box<Sleep>>,
    _driver: AbortOnDrop<hyper::Result<()>>,
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let this = &mut *self;
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.silence.as_mut().reset(Instant::now() + this.between);
                Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
            }
            Poll::Pending => {
                ready!(this.silence.as_mut().poll(cx));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.incoming.size_hint()
    }
}
