//! What a guest may send to the outside by HTTP: nothing, unless its manifest names the address.
//!
//! In: a request of a guest. Out: its answer, or a refusal that names the destination, in the guest's hands and in its
//! log. A name is resolved once, each of its addresses is checked, and the connection goes to exactly that address: a name
//! that answers differently the second time leads nowhere else.

mod address;
mod pace;
mod rule;
mod send;

use crate::log::{Level, Log};
use pace::Pace;
use std::sync::{Arc, OnceLock};
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, Result, WasiBody, WasiHttpHooks,
};

pub use address::AddressPolicy;
pub use rule::{EgressRule, EgressRuleError};

/// Outgoing connections of one component on one host at the same time. One more is refused at once.
const CONNECTIONS_MAX: usize = 128;
/// Connections that one component on one host opens in a second, once it has opened [`CONNECTIONS_BURST`] after a rest. More wait
/// for their turn: a host has some 28,000 ports for one destination, and keeps each for a minute after its use.
const CONNECTIONS_PER_S: u32 = 1_000;
/// Connections that it opens at once after a rest.
const CONNECTIONS_BURST: u32 = 256;

/// What one component may reach. The default is nothing.
#[derive(Debug)]
pub struct Egress {
    rules: Vec<EgressRule>,
    addresses: Arc<AddressPolicy>,
    connections: Arc<Semaphore>,
    pace: Pace,
}

impl Default for Egress {
    fn default() -> Self {
        Self::new(Vec::new(), Arc::default())
    }
}

impl Egress {
    /// These destinations, at addresses that the host allows.
    pub fn new(rules: Vec<EgressRule>, addresses: Arc<AddressPolicy>) -> Self {
        Self {
            rules,
            addresses,
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            pace: Pace::new(CONNECTIONS_PER_S, CONNECTIONS_BURST),
        }
    }

    fn allows(&self, host: &str, port: u16) -> bool {
        self.rules.iter().any(|rule| rule.allows(host, port))
    }
}

/// Sends what is granted, and refuses everything else.
pub(crate) struct Outgoing {
    pub(crate) log: Arc<Log>,
    pub(crate) egress: Arc<Egress>,
}

type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<()>> + Send>)>;

impl WasiHttpHooks for Outgoing {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        // One filter for the whole process: this is asked for with every request.
        static FILTER: OnceLock<ForbiddenHeaderFilter> = OnceLock::new();
        Arc::clone(FILTER.get_or_init(|| Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name))))
    }

    fn is_forbidden_header(&mut self, name: &http::HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _done: Box<dyn Future<Output = Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let (log, egress) = (Arc::clone(&self.log), Arc::clone(&self.egress));
        let refuse = move |to: &str, why: &str, error: Error| -> Sent {
            log.write(Level::Warn, &format!("failed to send a request to {to}: {why}"));
            Err(error)
        };
        let Some(to) = send::Destination::of(&request) else {
            return Box::new(async move {
                refuse(
                    "nowhere",
                    "its address has no host or an odd scheme",
                    Error::HttpRequestUriInvalid,
                )
            });
        };
        if !egress.allows(&to.host, to.port) {
            return Box::new(async move {
                let why = "the workload's `limits.egress` does not name it";
                refuse(&to.to_string(), why, Error::HttpRequestDenied)
            });
        }
        let Ok(place) = Arc::clone(&egress.connections).try_acquire_owned() else {
            return Box::new(async move {
                let why = format!("{CONNECTIONS_MAX} connections are open already");
                refuse(&to.to_string(), &why, Error::ConnectionLimitReached)
            });
        };
        Box::new(async move {
            egress.pace.turn().await;
            let address = match to.resolve(&egress.addresses).await {
                Ok(address) => address,
                Err((why, error)) => return refuse(&to.to_string(), &why, error),
            };
            send::send(request, &to, address, options, place).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogLines;
    use bytes::Bytes;
    use heddle_protocol::id::{ComponentName, Generation, UnitId, WorkloadId};
    use http_body_util::BodyExt;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl LogLines for Kept {
        fn line(&self, _: &UnitId, _: &ComponentName, level: &str, text: &str) {
            self.0.lock().unwrap().push(format!("{level} {text}"));
        }
    }

    fn outgoing(rules: &[&str], allowed: &[&str]) -> (Outgoing, Arc<Kept>) {
        let kept = Arc::new(Kept::default());
        let unit = UnitId {
            workload: WorkloadId::parse("cart").unwrap(),
            generation: Generation(1),
        };
        let log = Log::new(unit, ComponentName::parse("api").unwrap(), Arc::clone(&kept) as _);
        let rules = rules.iter().map(|rule| EgressRule::parse(rule).unwrap()).collect();
        let allowed = allowed.iter().map(|net| net.parse().unwrap()).collect();
        let egress = Arc::new(Egress::new(rules, Arc::new(AddressPolicy::new(allowed, Vec::new()))));
        let log = Arc::new(log);
        (Outgoing { log, egress }, kept)
    }

    async fn ask(outgoing: &mut Outgoing, uri: &str) -> Result<(http::StatusCode, Bytes)> {
        let nothing = http_body_util::Empty::<Bytes>::new().map_err(|never| match never {});
        let request = http::Request::get(uri).body(WasiBody::new(nothing)).unwrap();
        let sent = outgoing.send_request(request, None, Box::new(async { Ok(()) }));
        let (response, io) = Box::into_pin(sent).await?;
        let io = tokio::spawn(Box::into_pin(io));
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let _ = io.await;
        Ok((status, body))
    }

    /// Answers every connection with one short response.
    async fn server() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 1_024];
                let _ = stream.read(&mut buffer).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                    .await;
            }
        });
        port
    }

    #[tokio::test]
    async fn a_request_that_no_rule_names_is_refused_and_its_destination_is_told() {
        let (mut outgoing, kept) = outgoing(&["api.example.com:443"], &[]);
        let refused = ask(&mut outgoing, "https://metadata.internal/secret").await;
        assert!(matches!(refused, Err(Error::HttpRequestDenied)));
        let text = kept.0.lock().unwrap().join("");
        assert!(
            text.contains("metadata.internal:443") && !text.contains("/secret"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_named_address_is_reached_if_the_host_allows_it() {
        let port = server().await;
        let rule = format!("127.0.0.1:{port}");
        let (mut allowed, _) = outgoing(&[&rule], &["127.0.0.0/8"]);
        let (status, body) = ask(&mut allowed, &format!("http://{rule}/")).await.unwrap();
        assert_eq!((status.as_u16(), &body[..]), (200, &b"ok"[..]));
        let (mut forbidden, kept) = outgoing(&[&rule], &[]);
        let refused = ask(&mut forbidden, &format!("http://{rule}/")).await;
        assert!(matches!(refused, Err(Error::DestinationIpProhibited)));
        assert!(kept.0.lock().unwrap().join("").contains("loopback"));
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_forbidden_address_leads_nowhere() {
        let port = server().await;
        let rule = format!("localhost:{port}");
        let (mut outgoing, _) = outgoing(&[&rule], &[]);
        let refused = ask(&mut outgoing, &format!("http://{rule}/")).await;
        assert!(matches!(refused, Err(Error::DestinationIpProhibited)));
    }

    #[tokio::test]
    async fn one_connection_too_many_is_refused_at_once() {
        let port = server().await;
        let rule = format!("127.0.0.1:{port}");
        let (mut outgoing, _) = outgoing(&[&rule], &["127.0.0.0/8"]);
        let all = Arc::clone(&outgoing.egress.connections);
        let held = all.try_acquire_many(u32::try_from(CONNECTIONS_MAX).unwrap()).unwrap();
        let refused = ask(&mut outgoing, &format!("http://{rule}/")).await;
        assert!(matches!(refused, Err(Error::ConnectionLimitReached)));
        drop(held);
        assert!(ask(&mut outgoing, &format!("http://{rule}/")).await.is_ok());
    }
}
