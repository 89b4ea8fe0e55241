//! Postgres databases: `wasmcloud:postgres/{types,query}@0.1.1-draft`.
//!
//! In: an offer with a database's URL, and the password as secret `password` where the database asks for one. Out: the
//! rows of guests' queries. Parameters never become part of a statement. Connections are opened by the first call that
//! needs one, at most `maxConnections` per host, and every call finds a session as if it were new. What a login may do is
//! the database's business: give workloads that must not see each other's tables capabilities with logins of their own.
//!
//! A URL with `sslmode=require` is spoken to over TLS, and its certificate must be one that the public authorities vouch
//! for; any other is spoken to in the clear.

#![forbid(unsafe_code)]

mod calendar;
mod capped;
mod cell;
mod failure;
mod float;
mod numeric;
mod param;
mod pool;
mod query;
#[cfg(test)]
mod tests;
mod types;

use heddle_capability::{Capability, CapabilityError, Ctx, Import, Lending, Lent};
use heddle_protocol::host_spec::{CapabilityOffer, Feature};
use heddle_protocol::id::CapabilityName;
use pool::{Pool, wants_tls};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use types::{PgValue, QueryError};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

const TYPES: &str = "wasmcloud:postgres/types@0.1.1-draft";
const QUERY: &str = "wasmcloud:postgres/query@0.1.1-draft";
/// The longest that one call may wait for the database, whatever time the workload has.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);

/// Lends Postgres databases.
#[derive(Debug, Clone, Copy, Default)]
pub struct Postgres;

struct LentPostgres(Arc<Pool>);

impl Capability for Postgres {
    fn feature(&self) -> Feature {
        Feature::POSTGRES
    }

    fn configure(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        lending: &Lending,
    ) -> Result<Arc<dyn Lent>, CapabilityError> {
        let CapabilityOffer::Postgres { url, max_connections } = offer else {
            return Err(CapabilityError::OtherKind {
                name: name.clone(),
                feature: self.feature(),
            });
        };
        let unfit = |why: &str| CapabilityError::Offer {
            name: name.clone(),
            why: why.to_owned(),
        };
        // What the library says about a URL could show a password that somebody wrote into it.
        let config = Config::from_str(url)
            .map_err(|_| unfit("its `url` is none of Postgres; write `postgres://user@host:port/database`"))?;
        let (config, tls) = prepared(config, name).map_err(unfit)?;
        let password = lending.secrets.get("password").cloned();
        Ok(Arc::new(LentPostgres(Arc::new(Pool::new(
            config,
            tls,
            password,
            *max_connections,
        )))))
    }
}

/// What to connect with.
fn prepared(mut config: Config, name: &CapabilityName) -> Result<(Config, Option<MakeRustlsConnect>), &'static str> {
    let all_tcp = config.get_hosts().iter().all(|host| matches!(host, Host::Tcp(_)));
    if config.get_hosts().is_empty() || !all_tcp {
        return Err("its `url` names no host; write `postgres://user@host:port/database`");
    }
    if config.get_password().is_some() {
        return Err("its `url` has a password; give it as secret `password` instead");
    }
    if config.get_application_name().is_none() {
        config.application_name(format!("heddle/postgres/{name}"));
    }
    if !wants_tls(&config) {
        config.ssl_mode(SslMode::Disable);
        return Ok((config, None));
    }
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| "TLS cannot be set up in this agent")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((config, Some(MakeRustlsConnect::new(tls))))
}

impl Lent for LentPostgres {
    fn prepare(&self, import: &Import<'_>, linker: &mut LinkerInstance<'_, Ctx>) -> Result<(), CapabilityError> {
        match import.interface {
            // Types only: there is nothing to call.
            TYPES => Ok(()),
            QUERY => link(&self.0, linker).map_err(CapabilityError::link(import)),
            other => Err(CapabilityError::NotMet {
                interface: other.to_owned(),
                meets: [TYPES, QUERY].map(str::to_owned).to_vec(),
            }),
        }
    }
}

type Caller<'a> = StoreContextMut<'a, Ctx>;

/// When a call must be back: after nine tenths of what the guest has left, so that it can still say what went wrong.
fn deadline(caller: &Caller<'_>) -> Instant {
    let now = Instant::now();
    let left = caller.data().deadline().saturating_duration_since(now);
    now + (left * 9 / 10).min(CALL_TIME_MAX)
}

fn link(pool: &Arc<Pool>, linker: &mut LinkerInstance<'_, Ctx>) -> wasmtime::Result<()> {
    let of_query = Arc::clone(pool);
    linker.func_wrap_async(
        "query",
        move |caller: Caller<'_>, (statement, values): (String, Vec<PgValue>)| {
            let (pool, deadline) = (Arc::clone(&of_query), deadline(&caller));
            Box::new(async move {
                let rows: Result<query::Rows, QueryError> = query::query(&pool, &statement, values, deadline).await;
                Ok((rows,))
            })
        },
    )?;
    let of_batch = Arc::clone(pool);
    linker.func_wrap_async("query-batch", move |caller: Caller<'_>, (statements,): (String,)| {
        let (pool, deadline) = (Arc::clone(&of_batch), deadline(&caller));
        Box::new(async move {
            let done: Result<(), QueryError> = query::batch(&pool, &statements, deadline).await;
            Ok((done,))
        })
    })
}
