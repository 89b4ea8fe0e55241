//! Connections of one capability to its database: opened when they are needed, at most so many, and clean for each call.
//!
//! In: where the database is, and a password that may come later and change. Out: a connection for the time of one call.
//! What a call leaves behind in its session (a transaction, settings, temporary tables, statements) is taken away before
//! the next call gets the connection; where that cannot be done, the connection is closed.

use crate::capped::{Capped, Left};
use crate::failure::Failure;
use heddle_capability::SecretHandle;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long opening a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long cleaning or cancelling may take before the connection is closed instead.
const CLEAN_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a connection is kept that nobody needs.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// What a session is cleaned with. `DISCARD ALL` cannot stand in a transaction, so whatever is open ends first.
const CLEAN: [&str; 2] = ["ROLLBACK", "DISCARD ALL"];

/// The connections to one database.
pub(crate) struct Pool {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    password: Option<SecretHandle>,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Open>>,
}

/// One connection.
struct Open {
    client: Client,
    driver: JoinHandle<()>,
    left: Left,
    address: SocketAddr,
    host: String,
    /// The version of the password that it was opened with.
    version: String,
    since: Instant,
}

impl Drop for Open {
    fn drop(&mut self) {
        // Closes the socket: a session that is let go of in the middle must not go on.
        self.driver.abort();
    }
}

impl Pool {
    /// The database that a configuration names.
    pub(crate) fn new(
        config: Config,
        tls: Option<MakeRustlsConnect>,
        password: Option<SecretHandle>,
        connections_max: u32,
    ) -> Self {
        let places = usize::try_from(connections_max.max(1)).unwrap_or(usize::MAX);
        Self {
            config,
            tls,
            password,
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            idle: Mutex::default(),
        }
    }

    /// A connection for one call that ends by then. It is known to answer.
    pub(crate) async fn lease(self: &Arc<Self>, deadline: Instant) -> Result<Lease, Failure> {
        let place = timeout_at(deadline.into(), Arc::clone(&self.places).acquire_owned()).await;
        let place = place.map_err(|_| Failure::Busy)?.map_err(|_| Failure::Busy)?;
        let (version, config) = self.login()?;
        while let Some(open) = self.take_idle(&version) {
            // One that broke while it was idle does not answer, and then nothing was executed.
            if open.prepare(deadline).await.is_ok() {
                return Ok(Lease::new(self, open, place));
            }
        }
        let connecting = self.connect(config, version);
        let ends = deadline.min(Instant::now() + CONNECT_TIME_MAX);
        let open = match timeout_at(ends.into(), connecting).await {
            Ok(opened) => opened?,
            Err(_) => return Err(Failure::Unreachable("it does not answer".to_owned())),
        };
        open.prepare(deadline).await?;
        Ok(Lease::new(self, open, place))
    }

    fn take_idle(&self, version: &str) -> Option<Open> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|open| open.version == version && !open.client.is_closed() && open.since.elapsed() < IDLE_TIME_MAX);
        // The last one: the others may become old, and be closed.
        idle.pop()
    }

    /// The configuration to connect with now.
    fn login(&self) -> Result<(String, Config), Failure> {
        let mut config = self.config.clone();
        let Some(handle) = &self.password else {
            return Ok((String::new(), config));
        };
        let value = handle.get().ok_or(Failure::NoPassword)?;
        config.password(value.reveal());
        Ok((value.version().to_owned(), config))
    }

    async fn connect(&self, config: Config, version: String) -> Result<Open, Failure> {
        let mut last = "its URL names no host".to_owned();
        for (index, host) in config.get_hosts().iter().enumerate() {
            let Host::Tcp(host) = host else { continue };
            let ports = config.get_ports();
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5_432);
            let stream = match TcpStream::connect((host.as_str(), port)).await {
                Ok(stream) => stream,
                Err(error) => {
                    last = error.to_string();
                    continue;
                }
            };
            return self.begin(&config, stream, host, version).await;
        }
        Err(Failure::Unreachable(last))
    }

    async fn begin(&self, config: &Config, stream: TcpStream, host: &str, version: String) -> Result<Open, Failure> {
        let unreachable = |error: std::io::Error| Failure::Unreachable(error.to_string());
        let _ = stream.set_nodelay(true);
        let address = stream.peer_addr().map_err(unreachable)?;
        let left = Left::default();
        let stream = Capped::new(stream, left.clone());
        let (client, driver) = match &self.tls {
            None => {
                let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(Failure::of)?;
                (client, tokio::spawn(drive(connection)))
            }
            Some(tls) => {
                let tls = rustls(tls, host)?;
                let (client, connection) = config.connect_raw(stream, tls).await.map_err(Failure::of)?;
                (client, tokio::spawn(drive(connection)))
            }
        };
        Ok(Open {
            client,
            driver,
            left,
            address,
            host: host.to_owned(),
            version,
            since: Instant::now(),
        })
    }

    /// Asks the server to stop what a connection does; on a connection of its own, as the protocol wants it.
    async fn cancel(&self, token: CancelToken, address: SocketAddr, host: &str) {
        let Ok(stream) = TcpStream::connect(address).await else {
            return;
        };
        let asked = match &self.tls {
            None => token.cancel_query_raw(stream, NoTls).await,
            Some(tls) => {
                let mut tls = tls.clone();
                let Ok(tls) = <MakeRustlsConnect as MakeTlsConnect<TcpStream>>::make_tls_connect(&mut tls, host) else {
                    return;
                };
                token.cancel_query_raw(stream, tls).await
            }
        };
        if let Err(error) = asked {
            tracing::debug!(%error, "failed to cancel a query; its statement timeout ends it");
        }
    }
}

type Rustls = <MakeRustlsConnect as MakeTlsConnect<Capped<TcpStream>>>::TlsConnect;

fn rustls(tls: &MakeRustlsConnect, host: &str) -> Result<Rustls, Failure> {
    let mut tls = tls.clone();
    <MakeRustlsConnect as MakeTlsConnect<Capped<TcpStream>>>::make_tls_connect(&mut tls, host)
        .map_err(|error| Failure::Unreachable(error.to_string()))
}

/// Runs a connection. Why it ends is seen by whoever waits for an answer of it.
async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to Postgres ended");
    }
}

impl Open {
    /// Sets the time of the next statement, and finds out whether the connection lives.
    async fn prepare(&self, deadline: Instant) -> Result<(), Failure> {
        self.left.refill();
        let time = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
        let set = format!("SET statement_timeout = {}", time.min(i32::MAX as u128));
        let done = timeout_at(deadline.into(), self.client.batch_execute(&set)).await;
        done.map_err(|_| Failure::TimeLimit)?.map_err(Failure::of)
    }

    async fn clean(&self) -> bool {
        self.left.refill();
        let cleaning = async {
            for statement in CLEAN {
                self.client.batch_execute(statement).await?;
            }
            Ok::<_, tokio_postgres::Error>(())
        };
        matches!(tokio::time::timeout(CLEAN_TIME_MAX, cleaning).await, Ok(Ok(())))
    }
}

/// A connection for the time of one call. Let go of in the middle, its statement is cancelled and it is closed.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    open: Option<Open>,
    place: Option<OwnedSemaphorePermit>,
}

impl Lease {
    fn new(pool: &Arc<Pool>, open: Open, place: OwnedSemaphorePermit) -> Self {
        Self {
            pool: Arc::clone(pool),
            open: Some(open),
            place: Some(place),
        }
    }

    /// The connection.
    pub(crate) fn client(&self) -> Result<&Client, Failure> {
        let open = self.open.as_ref();
        open.map(|open| &open.client)
            .ok_or_else(|| Failure::Unreachable("its connection is closed".to_owned()))
    }

    /// Whether the answer was cut off because it is too large.
    pub(crate) fn cut_off(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.left.is_used_up())
    }

    /// Says that the call is through, and the connection can be used again if `reusable`.
    pub(crate) fn give_back(mut self, reusable: bool) {
        let (Some(mut open), place) = (self.open.take(), self.place.take()) else {
            return;
        };
        if !reusable || open.client.is_closed() {
            return;
        }
        let pool = Arc::clone(&self.pool);
        // The guest has its answer meanwhile; the place is given back when the connection is clean.
        tokio::spawn(async move {
            if open.clean().await {
                open.since = Instant::now();
                pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(open);
            }
            drop(place);
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(open), place) = (self.open.take(), self.place.take()) else {
            return;
        };
        let (token, pool) = (open.client.cancel_token(), Arc::clone(&self.pool));
        if open.client.is_closed() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        // The place is taken until the server was asked: a guest whose calls end early must not have more sessions at work
        // than the capability has connections.
        runtime.spawn(async move {
            let (address, host) = (open.address, open.host.clone());
            let _ = tokio::time::timeout(CLEAN_TIME_MAX, pool.cancel(token, address, &host)).await;
            drop((open, place));
        });
    }
}

/// Whether a configuration asks for TLS.
pub(crate) fn wants_tls(config: &Config) -> bool {
    config.get_ssl_mode() == SslMode::Require
}
