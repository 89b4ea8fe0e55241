//! The listeners of a host: bound, bound elsewhere, closed and drained while requests go on.
//!
//! In: offers by capability name, and route tables. Out: the addresses that are really bound. Each listener has one
//! task that accepts; each connection has one task that serves it. Routes are swapped in one step for all listeners.

use crate::connection::{Shared, accept};
use crate::reply::Endpoint;
use crate::route::RouteTable;
use arc_swap::ArcSwap;
use heddle_protocol::host_spec::CapabilityOffer;
use heddle_protocol::id::CapabilityName;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpSocket;
use tokio::sync::watch;

/// Connections that wait to be accepted. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 1024;

/// Every listener of one host.
pub struct Listeners<E> {
    routes: Arc<ArcSwap<RouteTable<E>>>,
    open: Mutex<BTreeMap<CapabilityName, Open>>,
    /// Told apart from `open` so that `drain` also waits for what was removed before.
    connections: watch::Sender<usize>,
}

struct Open {
    wanted: SocketAddr,
    bound: SocketAddr,
    connections_max: Arc<AtomicU32>,
    stop: watch::Sender<bool>,
}

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// The offer is not one of HTTP.
    #[error("failed to open listener {0}: the offer is not one of HTTP")]
    OtherKind(CapabilityName),
    /// The address cannot be read.
    #[error("failed to open listener {name}: {listen:?} is not an address such as 0.0.0.0:8080")]
    Address {
        /// The capability.
        name: CapabilityName,
        /// What was to be the address.
        listen: String,
    },
    /// The address cannot be bound.
    #[error(
        "failed to bind {address} for listener {name}; free the address, or choose another with --bind {name}=ADDR"
    )]
    Bind {
        /// The capability.
        name: CapabilityName,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl<E: Endpoint> Default for Listeners<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Endpoint> Listeners<E> {
    /// No listener, no route.
    pub fn new() -> Self {
        Self {
            routes: Arc::new(ArcSwap::from_pointee(RouteTable::default())),
            open: Mutex::default(),
            connections: watch::Sender::new(0),
        }
    }

    /// Opens the listener of that name, or changes it. Must be called within a tokio runtime.
    ///
    /// A listener whose address changes is opened at the new one before the old one closes. Returns what is bound: the
    /// port may be one that the system chose.
    pub fn apply(
        &self,
        name: &CapabilityName,
        offer: &CapabilityOffer,
        bind_override: Option<SocketAddr>,
    ) -> Result<SocketAddr, ListenerError> {
        let CapabilityOffer::Http {
            listen,
            max_connections,
        } = offer
        else {
            return Err(ListenerError::OtherKind(name.clone()));
        };
        let wanted = match bind_override {
            Some(address) => address,
            None => listen.parse().map_err(|_| ListenerError::Address {
                name: name.clone(),
                listen: listen.chars().take(80).collect(),
            })?,
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = open.get(name).filter(|listener| listener.wanted == wanted) {
            listener.connections_max.store(*max_connections, Ordering::Relaxed);
            return Ok(listener.bound);
        }
        let failed = |source| ListenerError::Bind {
            name: name.clone(),
            address: wanted,
            source,
        };
        let listener = bind(wanted).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let connections_max = Arc::new(AtomicU32::new(*max_connections));
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            name: name.clone(),
            routes: Arc::clone(&self.routes),
            connections_max: Arc::clone(&connections_max),
            connections: AtomicU32::new(0),
            all_connections: self.connections.clone(),
        });
        tokio::spawn(accept(listener, shared, stopped));
        tracing::info!(listener = %name, address = %bound, "listening");
        if let Some(old) = open.insert(
            name.clone(),
            Open {
                wanted,
                bound,
                connections_max,
                stop,
            },
        ) {
            old.stop.send_replace(true);
        }
        Ok(bound)
    }

    /// Closes the listener of that name: its requests in flight are answered, its idle connections close.
    pub fn remove(&self, name: &CapabilityName) {
        let removed = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(listener) = removed {
            tracing::info!(listener = %name, address = %listener.bound, "closing");
            listener.stop.send_replace(true);
        }
    }

    /// The addresses that are bound, by name.
    pub fn bound(&self) -> BTreeMap<CapabilityName, SocketAddr> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter()
            .map(|(name, listener)| (name.clone(), listener.bound))
            .collect()
    }

    /// Swaps the routes of all listeners. Requests that are being served are not disturbed.
    pub fn set_routes(&self, routes: Arc<RouteTable<E>>) {
        self.routes.store(routes);
    }

    /// Connections that are open, over all listeners.
    pub fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    /// Closes all listeners and waits until every request in flight is answered. Takes as long as they take: who has
    /// less time wraps it in a timeout.
    pub async fn drain(&self) {
        let closing = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        for listener in closing.values() {
            listener.stop.send_replace(true);
        }
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.connections.subscribe().wait_for(|open| *open == 0).await;
    }
}

fn bind(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A restarted agent takes its port back at once, though connections of the last one linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
