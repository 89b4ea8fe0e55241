//! `/healthz` and `/metrics` of a scheduler: plain text over HTTP, from numbers that the loop keeps.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

/// Connections served at the same time.
const CONNECTIONS_MAX: usize = 64;

macro_rules! metrics {
    ($($(#[doc = $help:literal])* $name:ident: $kind:literal,)*) => {
        /// A scheduler's numbers. The loop writes them; `/metrics` reads them.
        #[derive(Debug, Default)]
        pub struct Metrics {
            /// Whether the scheduler leads and its store answers.
            pub leading: AtomicBool,
            $($(#[doc = $help])* pub $name: AtomicU64,)*
        }

        impl Metrics {
            fn print(&self) -> String {
                let mut text = String::new();
                $(
                    let name = concat!("heddle_scheduler_", stringify!($name));
                    let help = concat!($($help),*);
                    // Writing to a String cannot fail.
                    let _ = writeln!(text, "# HELP {name}{help}\n# TYPE {name} {}", $kind);
                    let _ = writeln!(text, "{name} {}", self.$name.load(Ordering::Relaxed));
                )*
                let _ = writeln!(text, "# HELP heddle_scheduler_leading Whether this scheduler leads.");
                let _ = writeln!(text, "# TYPE heddle_scheduler_leading gauge");
                let _ = writeln!(text, "heddle_scheduler_leading {}", u8::from(self.leading.load(Ordering::Relaxed)));
                text
            }
        }
    };
}

metrics! {
    /// The epoch of this scheduler.
    epoch: "gauge",
    /// The newest commit.
    commit: "gauge",
    /// Commits made by this scheduler.
    commits_total: "counter",
    /// Time spent waiting for commits, in microseconds.
    commit_us_total: "counter",
    /// Time spent planning, in microseconds.
    plan_us_total: "counter",
    /// Plans worked out.
    plans_total: "counter",
    /// Workloads in the realm.
    workloads: "gauge",
    /// Hosts that were admitted.
    hosts: "gauge",
    /// Hosts that live.
    hosts_ready: "gauge",
    /// API requests taken.
    requests_total: "counter",
    /// API requests refused because too many were waiting.
    requests_shed_total: "counter",
    /// Heartbeats taken in.
    heartbeats_total: "counter",
    /// Status messages taken in.
    reports_total: "counter",
    /// Specs pushed to hosts.
    pushes_total: "counter",
    /// Those of them that went as deltas.
    pushes_as_deltas_total: "counter",
    /// Pushes that no host accepted: not answered, or refused.
    pushes_failed_total: "counter",
    /// Worker processes started to compile components.
    compiles_total: "counter",
    /// Clients that wait for a workload.
    waiters: "gauge",
}

impl Metrics {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(gauge: &AtomicU64, to: u64) {
        gauge.store(to, Ordering::Relaxed);
    }
}

/// Serves until the process ends.
pub async fn serve(address: SocketAddr, metrics: Arc<Metrics>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    tokio::spawn(async move {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of file descriptors, most likely: a pause lets some be closed.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let metrics = Arc::clone(&metrics);
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(request, Arc::clone(&metrics)));
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(10))
                    .serve_connection(TokioIo::new(stream), service);
                if let Err(e) = connection.await {
                    tracing::debug!(error = %e, "a connection to /metrics broke");
                }
                drop(slot);
            });
        }
    });
    Ok(bound)
}

async fn answer(request: Request<Incoming>, metrics: Arc<Metrics>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match request.uri().path() {
        "/metrics" => (StatusCode::OK, metrics.print()),
        "/healthz" if metrics.leading.load(Ordering::Relaxed) => (StatusCode::OK, "ok: leading\n".to_owned()),
        "/healthz" => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not leading: the store does not answer\n".to_owned(),
        ),
        _ => (StatusCode::NOT_FOUND, "try /healthz or /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_help_line_and_a_value() {
        let metrics = Metrics::default();
        Metrics::add(&metrics.commits_total, 3);
        let text = metrics.print();
        assert!(
            text.contains("# HELP heddle_scheduler_commits_total Commits made by this scheduler."),
            "{text}"
        );
        assert!(text.contains("\nheddle_scheduler_commits_total 3\n"));
        assert!(text.contains("\nheddle_scheduler_leading 0\n"));
    }
}
