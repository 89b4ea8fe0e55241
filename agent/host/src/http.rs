//! The listeners and routes of this agent: those of the HTTP capability, with prepared units behind them.
//!
//! In: the routes of a spec and the units that are ready. Out: a table for [`Listeners::set_routes`].

use crate::instance::{Endpoint, PreparedUnit};
use heddle_protocol::host_spec::Route;
use heddle_protocol::id::{ComponentName, UnitId};
use std::sync::Arc;

pub use heddle_capability_http::{ERROR_HEADER, ListenerError, Refusal, Reply};

/// The listeners of an agent.
pub type Listeners = heddle_capability_http::Listeners<Endpoint>;
/// The routes of an agent, over all listeners.
pub type RouteTable = heddle_capability_http::RouteTable<Endpoint>;

/// Builds the table of a spec's routes. Of each route's targets the first that `ready` knows serves it.
pub fn route_table(
    routes: &[Route],
    mut ready: impl FnMut(&UnitId, &ComponentName) -> Option<Arc<PreparedUnit>>,
) -> RouteTable {
    RouteTable::build(routes, |target| {
        ready(&target.unit, &target.component)?.endpoint(&target.component)
    })
}
