//! `/healthz` and `/metrics`.
//!
//! In: what the control loop notes as it goes. Out: whether the loop still turns, and numbers in Prometheus's text
//! format. Asking costs the control loop nothing.

use crate::identity;
use crate::run::Runner;
use bytes::Bytes;
use heddle_agent_core::Identity;
use heddle_protocol::host_report::{Accepted, UnitStatus};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at the same time: a scraper or two, and a probe.
const CONNECTIONS_MAX: usize = 32;
/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Heartbeats that the loop may miss before it counts as stuck.
const MISSED_HEARTBEATS_MAX: u32 = 10;

/// What the control loop notes.
#[derive(Debug)]
pub(crate) struct Health {
    host: String,
    realm: String,
    started: Instant,
    stuck_after: Duration,
    /// Milliseconds from `started` to the last turn.
    last_turn_ms: AtomicU64,
    heartbeats: AtomicU64,
    link_up: AtomicBool,
    units: Mutex<Units>,
}

#[derive(Debug, Default)]
struct Units {
    /// Units and replicas by phase.
    by_phase: BTreeMap<&'static str, (u64, u64)>,
    accepted: Option<Accepted>,
}

impl Health {
    pub(crate) fn new(me: &Identity, heartbeat: Duration) -> Self {
        Self {
            host: me.host.to_string(),
            realm: me.realm.to_string(),
            started: Instant::now(),
            stuck_after: heartbeat * MISSED_HEARTBEATS_MAX,
            last_turn_ms: AtomicU64::new(0),
            heartbeats: AtomicU64::new(0),
            link_up: AtomicBool::new(false),
            units: Mutex::default(),
        }
    }

    pub(crate) fn note_turn(&self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_turn_ms.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn note_heartbeat(&self) {
        self.heartbeats.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_link(&self, up: bool) {
        self.link_up.store(up, Ordering::Relaxed);
    }

    pub(crate) fn note_units<'a>(&self, units: impl Iterator<Item = &'a UnitStatus>, accepted: Option<Accepted>) {
        let mut by_phase: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
        for status in units {
            let (units, replicas) = by_phase.entry(status.phase.as_str()).or_default();
            *units += 1;
            *replicas += u64::from(status.count);
        }
        *self.units.lock().unwrap_or_else(PoisonError::into_inner) = Units { by_phase, accepted };
    }

    fn is_stuck(&self) -> bool {
        let last = Duration::from_millis(self.last_turn_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last) > self.stuck_after
    }

    fn metrics(&self, runner: &dyn Runner) -> String {
        let load = runner.load();
        let mut page = String::new();
        let mut put = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
            // Writing to a String cannot fail.
            let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(page, "{name}{labels} {value}");
            }
        };
        let one = |value: u64| [(String::new(), value)];
        let (mut units, mut replicas, mut spec) = (Vec::new(), Vec::new(), (0, 0));
        {
            let noted = self.units.lock().unwrap_or_else(PoisonError::into_inner);
            for (phase, (unit_count, replica_count)) in &noted.by_phase {
                units.push((format!("{{phase=\"{phase}\"}}"), *unit_count));
                replicas.push((format!("{{phase=\"{phase}\"}}"), *replica_count));
            }
            if let Some(accepted) = noted.accepted {
                spec = (accepted.version.epoch, accepted.version.n);
            }
        }
        let info = format!(
            "{{host=\"{}\",realm=\"{}\",version=\"{}\"}}",
            self.host,
            self.realm,
            env!("CARGO_PKG_VERSION")
        );
        put(
            "heddle_agent_info",
            "gauge",
            "The agent, by host, realm and version.",
            &[(info, 1)],
        );
        put("heddle_agent_units", "gauge", "Units on this host, by phase.", &units);
        put(
            "heddle_agent_replicas",
            "gauge",
            "Replicas on this host, by phase.",
            &replicas,
        );
        put(
            "heddle_agent_spec_epoch",
            "gauge",
            "Epoch of the accepted spec.",
            &one(spec.0),
        );
        put(
            "heddle_agent_spec_commit",
            "gauge",
            "Commit of the accepted spec.",
            &one(spec.1),
        );
        put("heddle_agent_calls_total", "counter", "Calls taken.", &one(load.calls));
        put(
            "heddle_agent_failed_calls_total",
            "counter",
            "Calls that the host answered in a guest's place.",
            &one(load.failed_calls),
        );
        put(
            "heddle_agent_calls_in_flight",
            "gauge",
            "Calls in flight.",
            &one(u64::from(load.in_flight)),
        );
        put(
            "heddle_agent_connections",
            "gauge",
            "Open connections.",
            &one(load.connections as u64),
        );
        put(
            "heddle_agent_instance_memory_bytes",
            "gauge",
            "Linear memory of all instances.",
            &one(load.instance_memory_bytes),
        );
        put(
            "heddle_agent_rss_bytes",
            "gauge",
            "Memory of the process.",
            &one(identity::rss_bytes()),
        );
        let heartbeats = self.heartbeats.load(Ordering::Relaxed);
        put(
            "heddle_agent_heartbeats_total",
            "counter",
            "Heartbeats due so far.",
            &one(heartbeats),
        );
        let link_up = u64::from(self.link_up.load(Ordering::Relaxed));
        put(
            "heddle_agent_link_up",
            "gauge",
            "Whether the link to the scheduler is up.",
            &one(link_up),
        );
        page
    }

    fn answer(&self, method: &Method, path: &str, runner: &dyn Runner) -> (StatusCode, String) {
        match (method, path) {
            (&Method::GET | &Method::HEAD, "/healthz") if self.is_stuck() => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the control loop does not turn\n".to_owned(),
            ),
            (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, "ok\n".to_owned()),
            (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, self.metrics(runner)),
            _ => (
                StatusCode::NOT_FOUND,
                "only GET /healthz and GET /metrics are served here\n".to_owned(),
            ),
        }
    }
}

/// Serves both until the process ends. Returns the bound address, or why it cannot be bound.
pub(crate) async fn serve(
    address: SocketAddr,
    health: Arc<Health>,
    runner: Arc<dyn Runner>,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    tracing::info!(address = %bound, "serving /healthz and /metrics");
    tokio::spawn(accept(listener, health, runner));
    Ok(bound)
}

async fn accept(listener: TcpListener, health: Arc<Health>, runner: Arc<dyn Runner>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::debug!(error = %e, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (health, runner) = (Arc::clone(&health), Arc::clone(&runner));
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (status, text) = health.answer(request.method(), request.uri().path(), &*runner);
                let mut response = Response::new(Full::new(Bytes::from(text)));
                *response.status_mut() = status;
                let plain = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
                std::future::ready(Ok::<_, Infallible>(response))
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(e) = served {
                tracing::debug!(error = %e, "a connection for metrics ended early");
            }
            drop(permit);
        });
    }
}
