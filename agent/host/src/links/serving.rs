//! What units here serve to callers on any host: one task per served interface, from when its unit is live until the
//! last call that reached it is answered.
//!
//! In: what should be served now. Out: subscriptions. A unit that is live no more unsubscribes before it drains.

use crate::links::connection::Lane;
use heddle_capability::Callable;
use heddle_capability_wrpc::{Export, ServedExport};
use heddle_protocol::host_spec::Serve;
use heddle_protocol::id::{Realm, WorkloadId};
use heddle_protocol::subject;
use rand::Rng as _;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// The pause before a subscription that failed is tried again; it grows up to `PAUSE_MAX`.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Everything that is served here.
#[derive(Default)]
pub(super) struct Servings(Mutex<BTreeMap<Serve, Serving>>);

/// One served interface of one run.
struct Serving {
    /// The component as it was prepared: another run of the unit is another component.
    component: Arc<dyn Callable>,
    /// None where the interface cannot be served.
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Servings {
    /// Serves exactly this from now on. What ends finishes its calls by itself.
    pub(super) fn set<'a>(
        &self,
        realm: &Realm,
        wanted: impl Iterator<Item = (&'a Serve, Arc<dyn Callable>)>,
        lane: impl Fn(&WorkloadId) -> Arc<Lane>,
    ) {
        let wanted: BTreeMap<&Serve, Arc<dyn Callable>> = wanted.collect();
        let mut held = self.lock();
        let same = |serve: &Serve, serving: &Serving| {
            wanted
                .get(serve)
                .is_some_and(|component| Arc::ptr_eq(component, &serving.component))
        };
        // A stopped task ends by itself; what it waits for is bounded by the time of a call.
        for (_, ended) in held.extract_if(.., |serve, serving| !same(serve, serving)) {
            if let Some(running) = ended.running {
                let _ = running.stop.send(());
            }
        }
        for (serve, component) in wanted {
            if held.contains_key(serve) {
                continue;
            }
            let running = match Export::of(&component, &serve.interface) {
                Ok(export) => Some(begin(realm, serve, export, lane(&serve.unit.workload))),
                Err(error) => {
                    tracing::error!(unit = %serve.unit, interface = serve.interface, %error, "not served");
                    None
                }
            };
            held.insert(serve.clone(), Serving { component, running });
        }
    }

    /// Ends all of it, and waits for the calls in flight.
    pub(super) async fn close(&self) {
        let all = std::mem::take(&mut *self.lock());
        let ending = all.into_values().filter_map(|serving| {
            let running = serving.running?;
            let _ = running.stop.send(());
            Some(running.task)
        });
        futures::future::join_all(ending).await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Serve, Serving>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn begin(realm: &Realm, serve: &Serve, export: Export, lane: Arc<Lane>) -> Running {
    let (stop, stopped) = oneshot::channel();
    // Under a prefix of its own all generations are asked alike, so they share one group; no call is executed twice.
    let (prefix, queue_group) = match &serve.prefix {
        Some(prefix) => (prefix.clone(), serve.unit.workload.to_string()),
        None => (subject::rpc_prefix(realm, &serve.unit), serve.unit.to_string()),
    };
    let keeper = Keeper {
        name: format!("{} of {}", serve.interface, serve.unit),
        prefix,
        queue_group,
        export,
        lane,
    };
    Running {
        stop,
        task: tokio::spawn(keeper.run(stopped)),
    }
}

struct Keeper {
    name: String,
    prefix: String,
    queue_group: String,
    export: Export,
    lane: Arc<Lane>,
}

impl Keeper {
    /// Serves until it is told to stop, on whichever connection the workload has.
    async fn run(self, mut stopped: oneshot::Receiver<()>) {
        let mut state = self.lane.state();
        // The first connection may be there already.
        state.mark_changed();
        let mut served: Option<ServedExport> = None;
        loop {
            let next = tokio::select! {
                _ = &mut stopped => break,
                next = self.serve_next(&mut state) => next,
            };
            // The new connection serves already; what came over the old one is answered over the old one.
            if let Some(before) = served.replace(next) {
                tokio::spawn(before.drain());
            }
        }
        if let Some(served) = served {
            served.drain().await;
        }
    }

    /// Waits for a connection that is new, and serves on it.
    async fn serve_next(&self, state: &mut watch::Receiver<Option<heddle_wrpc::Connection>>) -> ServedExport {
        let mut pause = PAUSE_MIN;
        changed(state).await;
        loop {
            let connection = state.borrow_and_update().clone();
            let Some(connection) = connection else {
                changed(state).await;
                continue;
            };
            match self.export.serve(&connection, &self.prefix, &self.queue_group).await {
                Ok(served) => return served,
                Err(error) => tracing::warn!(serves = self.name, %error, "not served yet"),
            }
            let jitter = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Waits for another connection; where there is no network, for ever.
async fn changed(state: &mut watch::Receiver<Option<heddle_wrpc::Connection>>) {
    if state.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
