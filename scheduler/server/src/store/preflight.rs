//! Is this nats-server one that keeps what it acknowledges?
//!
//! In: a connection, and the monitoring addresses of the servers. Out: a [`Preflight`] with its warnings, or a refusal
//! that says what to change. A server answers writes before they are on disk unless `sync_interval` is `always`, and it
//! says so only to its monitoring port; what is not known is not taken for good.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::{Cause, StoreError};

/// The oldest nats-server that replicates and repairs well enough, and syncs a batch once.
pub const SERVER_VERSION_MIN: (u64, u64, u64) = (2, 15, 0);
/// A monitoring port that takes longer is as good as none.
const MONITOR_WITHIN: Duration = Duration::from_secs(3);
/// What `/jsz` answers is a few KiB.
const MONITOR_BYTES_MAX: usize = 1024 * 1024;

/// What is allowed, and where to ask.
#[derive(Debug, Clone, Default)]
pub struct PreflightOptions {
    /// Monitoring addresses, such as `http://127.0.0.1:8222`; in a cluster those of all its servers.
    pub monitors: Vec<String>,
    /// Copies that the realm's stream has.
    pub replicas: usize,
    /// A development fleet, which may lose acknowledged changes when the power goes.
    pub dev: bool,
    /// The operator vouches for the servers' sync setting.
    pub assume_durable: bool,
}

/// How the servers write to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Before each acknowledgement, on every server asked.
    Always,
    /// Some time after the acknowledgement, on at least one server.
    Lazy,
    /// Nobody could be asked.
    Unknown,
}

/// What was found, when it is good enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preflight {
    /// The version of the server connected to.
    pub version: String,
    /// How the servers write to disk.
    pub sync: SyncMode,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// Checks the servers behind a connection.
pub async fn preflight(client: &async_nats::Client, options: &PreflightOptions) -> Result<Preflight, StoreError> {
    let server = client.server_info();
    let mut answers = Vec::new();
    for monitor in &options.monitors {
        answers.push((monitor.clone(), ask_monitor(monitor).await));
    }
    judge(&server.version, &server.server_id, answers, options)
}

/// The decision, over plain values.
fn judge(
    version: &str,
    server_id: &str,
    answers: Vec<(String, Result<Jsz, Cause>)>,
    options: &PreflightOptions,
) -> Result<Preflight, StoreError> {
    let (major, minor, patch) = SERVER_VERSION_MIN;
    if parse_version(version).is_none_or(|version| version < SERVER_VERSION_MIN) {
        return Err(StoreError::Unfit(format!(
            "its version is {version:?}, at least {major}.{minor}.{patch} is needed (upgrade nats-server)"
        )));
    }
    let mut warnings = Vec::new();
    let mut sync = SyncMode::Unknown;
    let mut met = false;
    for (monitor, answer) in answers {
        match answer {
            Err(error) => warnings.push(format!("{monitor} did not tell the server's settings: {error}")),
            Ok(jsz) => {
                met |= jsz.server_id == server_id;
                match (jsz.config.is_some_and(|config| config.sync_always), sync) {
                    (true, SyncMode::Unknown | SyncMode::Always) => sync = SyncMode::Always,
                    (true, SyncMode::Lazy) => {}
                    (false, _) => {
                        sync = SyncMode::Lazy;
                        warnings.push(format!(
                            "the server at {monitor} acknowledges writes before they are on disk"
                        ));
                    }
                }
            }
        }
    }
    if sync == SyncMode::Always && !met {
        sync = SyncMode::Unknown;
        warnings.push(format!(
            "no monitoring address given belongs to the server connected to ({server_id})"
        ));
    }
    let why = |warnings: &[String]| match warnings.is_empty() {
        true => String::new(),
        false => format!(" [{}]", warnings.join("; ")),
    };
    match sync {
        SyncMode::Always => {}
        SyncMode::Lazy if options.dev => {}
        SyncMode::Lazy => {
            return Err(StoreError::Unfit(format!(
                "it would lose acknowledged changes in a power cut{} (set `jetstream {{ sync_interval: always }}` in its \
                 configuration, or say --dev for a fleet that may lose them)",
                why(&warnings)
            )));
        }
        SyncMode::Unknown if options.dev || options.assume_durable => {
            warnings.push("whether the server syncs every write is not known".into());
        }
        SyncMode::Unknown => {
            return Err(StoreError::Unfit(format!(
                "whether it syncs every write is not known{} (give its monitoring address with --nats-monitor URL, or \
                 vouch for it with --assume-durable, or say --dev for a fleet that may lose changes)",
                why(&warnings)
            )));
        }
    }
    if options.replicas <= 1 && !options.dev {
        warnings.push("the state has one copy only: the loss of its disk is the loss of it (use 3 replicas)".into());
    }
    Ok(Preflight {
        version: version.to_owned(),
        sync,
        warnings,
    })
}

/// Three numbers; whatever follows them marks a version before the release.
fn parse_version(text: &str) -> Option<(u64, u64, u64)> {
    let mut parts = text.trim_start_matches('v').splitn(3, '.');
    let mut next = || parts.next()?.parse::<u64>().ok();
    let version = (next()?, next()?, next()?);
    Some(version)
}

#[derive(Debug, Deserialize)]
struct Jsz {
    #[serde(default)]
    server_id: String,
    config: Option<JszConfig>,
}

#[derive(Debug, Deserialize)]
struct JszConfig {
    #[serde(default)]
    sync_always: bool,
}

async fn ask_monitor(monitor: &str) -> Result<Jsz, Cause> {
    timeout(MONITOR_WITHIN, fetch(monitor))
        .await
        .map_err(|_| Cause::from("no answer within 3 s"))?
}

async fn fetch(monitor: &str) -> Result<Jsz, Cause> {
    let base: http::Uri = monitor.parse()?;
    let (Some("http"), Some(authority)) = (base.scheme_str(), base.authority()) else {
        return Err("a monitoring address looks like http://127.0.0.1:8222".into());
    };
    let stream = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(8222))).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = http::Request::get("/jsz?config=1")
        .header(http::header::HOST, authority.as_str())
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(format!("it answered {}", response.status()).into());
        }
        let body = Limited::new(response.into_body(), MONITOR_BYTES_MAX)
            .collect()
            .await?
            .to_bytes();
        Ok::<Jsz, Cause>(serde_json::from_slice(&body)?)
    };
    tokio::pin!(connection);
    tokio::pin!(answer);
    // The connection moves the bytes while the answer waits for them.
    tokio::select! {
        answer = &mut answer => answer,
        closed = &mut connection => {
            closed?;
            answer.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jsz(id: &str, sync_always: bool) -> (String, Result<Jsz, Cause>) {
        (
            "http://m".into(),
            Ok(Jsz {
                server_id: id.into(),
                config: Some(JszConfig { sync_always }),
            }),
        )
    }

    fn options() -> PreflightOptions {
        PreflightOptions {
            replicas: 3,
            ..Default::default()
        }
    }

    #[test]
    fn an_old_server_is_refused_even_for_development() {
        let dev = PreflightOptions { dev: true, ..options() };
        for version in ["2.14.9", "2.9.10", "1.0", "", "2.15.0-RC.1", "x.y.z"] {
            let error = judge(version, "A", vec![jsz("A", true)], &dev).unwrap_err().to_string();
            assert!(error.contains("at least 2.15.0"), "{version}: {error}");
        }
        assert!(
            judge("2.15.1", "A", vec![jsz("A", true)], &options())
                .unwrap()
                .warnings
                .is_empty()
        );
        assert!(judge("3.0.0", "A", vec![jsz("A", true)], &options()).is_ok());
    }

    #[test]
    fn a_lazy_server_needs_dev_and_vouching_does_not_help() {
        let vouched = PreflightOptions {
            assume_durable: true,
            ..options()
        };
        let lazy = || vec![jsz("A", true), jsz("B", false)];
        assert!(
            judge("2.15.1", "A", lazy(), &vouched)
                .unwrap_err()
                .to_string()
                .contains("sync_interval: always")
        );
        let dev = PreflightOptions { dev: true, ..options() };
        assert_eq!(judge("2.15.1", "A", lazy(), &dev).unwrap().sync, SyncMode::Lazy);
    }

    #[test]
    fn what_is_not_known_is_refused_unless_vouched_for() {
        let silent = || vec![("http://m".to_owned(), Err(Cause::from("connection refused")))];
        for answers in [vec![], silent(), vec![jsz("another", true)]] {
            let error = judge("2.15.1", "A", answers, &options()).unwrap_err().to_string();
            assert!(error.contains("--nats-monitor"), "{error}");
        }
        let vouched = PreflightOptions {
            assume_durable: true,
            ..options()
        };
        assert_eq!(
            judge("2.15.1", "A", silent(), &vouched).unwrap().sync,
            SyncMode::Unknown
        );
    }

    #[test]
    fn a_single_copy_is_allowed_with_a_warning() {
        let single = PreflightOptions {
            replicas: 1,
            ..options()
        };
        let found = judge("2.15.1", "A", vec![jsz("A", true)], &single).unwrap();
        assert!(found.warnings[0].contains("one copy"));
    }
}
