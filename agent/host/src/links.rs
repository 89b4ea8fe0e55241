//! Links that cross hosts: whom the units here call, what they serve, and the connections that carry it.
//!
//! In: calls of prepared components, and what the spec says is live. Out: functions in their linkers, and subscriptions
//! for what they export. A workload's traffic goes over a connection of its own, never the agent's, and there is none
//! until a unit here calls or serves something.

mod connection;
mod serving;

use crate::limits::Admission;
use crate::links::connection::Lane;
use crate::links::serving::Servings;
use crate::secrets::SecretStore;
use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use heddle_capability::{Callable, Ctx};
use heddle_capability_wrpc::{PlanError, Route, link};
use heddle_protocol::host_spec::{Call, Callee, HostSpecBody, SecretUse, Serve};
use heddle_protocol::id::{Realm, UnitId, WorkloadId};
use heddle_protocol::subject;
use heddle_wrpc::Connection;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::watch;
use wasmtime::component::{Component, LinkerInstance};

/// All links of one agent. Cheap to clone; the default leads nowhere.
#[derive(Clone, Default)]
pub struct Links(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// The realm, and the NATS server that it talks over; none where the agent runs without.
    network: Option<Network>,
    secrets: SecretStore,
    /// What the subjects of each callee begin with, the newest generation first.
    callees: ArcSwap<BTreeMap<WorkloadId, Arc<[String]>>>,
    live: watch::Sender<Arc<LiveWorkloads>>,
    lanes: Mutex<BTreeMap<WorkloadId, Weak<Lane>>>,
    servings: Servings,
}

/// The network that links go over.
#[derive(Clone)]
struct Network {
    realm: Realm,
    url: String,
}

/// The workloads that are live here, each with the secret that holds its credentials if it has any. A connection waits
/// for its workload to be live: only then it is certain which credentials are its own.
type LiveWorkloads = BTreeMap<WorkloadId, Option<SecretUse>>;

impl Links {
    /// Links over this NATS server, with nothing live yet.
    pub fn new(realm: Realm, nats_url: Option<String>, secrets: SecretStore) -> Self {
        Self(Arc::new(Shared {
            network: nats_url.map(|url| Network { realm, url }),
            secrets,
            ..Shared::default()
        }))
    }

    /// Whether there is a network at all.
    pub fn has_network(&self) -> bool {
        self.0.network.is_some()
    }

    /// Links one import of a component of `unit` to whomever the call names.
    pub(crate) fn link(
        &self,
        unit: &UnitId,
        import: &str,
        call: &Call,
        (component, admission): (&Component, &Arc<Admission>),
        linker: &mut LinkerInstance<'_, Ctx>,
    ) -> Result<(), PlanError> {
        let route = LinkRoute {
            shared: Arc::clone(&self.0),
            lane: self.0.lane(&unit.workload),
            to: match &call.to {
                Callee::Workload(workload) => To::Workload(workload.clone()),
                Callee::Prefix(prefix) => To::Prefix(Arc::from([prefix.clone()])),
            },
            admission: Arc::clone(admission),
        };
        link(component, import, call, Arc::new(route), linker)
    }

    /// Takes what is live now: which generations calls go to, and what is served here. Does not wait. `find` gives the
    /// component that a unit serves with, while the unit is live.
    pub fn set_live<'a>(
        &self,
        spec: &HostSpecBody,
        units: impl Iterator<Item = &'a UnitId>,
        find: impl Fn(&Serve) -> Option<Arc<dyn Callable>>,
    ) {
        let Some(network) = &self.0.network else { return };
        let prefixes = |(workload, generations): (&WorkloadId, &Vec<_>)| {
            let unit = |generation: &_| UnitId {
                workload: workload.clone(),
                generation: *generation,
            };
            let prefix = |generation| subject::rpc_prefix(&network.realm, &unit(generation));
            (workload.clone(), generations.iter().map(prefix).collect())
        };
        self.0
            .callees
            .store(Arc::new(spec.callees.iter().map(prefixes).collect()));
        let live: LiveWorkloads = units
            .map(|unit| (unit.workload.clone(), spec.credentials.get(&unit.workload).cloned()))
            .collect();
        self.0.live.send_if_modified(|before| {
            let differs = **before != live;
            *before = Arc::new(live);
            differs
        });
        let served = spec.serves.iter().filter_map(|serve| Some((serve, find(serve)?)));
        self.0
            .servings
            .set(&network.realm, served, |workload| self.0.lane(workload));
        let mut lanes = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|_, lane| lane.strong_count() > 0);
    }

    /// Serves nothing any more, and returns when the calls in flight are answered.
    pub async fn close(&self) {
        self.0.servings.close().await;
    }
}

impl Shared {
    /// The connection of a workload: the one that there is, or a new one that lives as long as somebody holds it.
    fn lane(&self, workload: &WorkloadId) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(workload).and_then(Weak::upgrade) {
            return lane;
        }
        let url = self.network.as_ref().map(|network| network.url.clone());
        let lane = Arc::new(Lane::open(url, workload, self.live.subscribe(), self.secrets.clone()));
        lanes.insert(workload.clone(), Arc::downgrade(&lane));
        lane
    }
}

/// Where the calls of one import go.
struct LinkRoute {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    to: To,
    admission: Arc<Admission>,
}

enum To {
    Workload(WorkloadId),
    Prefix(Arc<[String]>),
}

impl Route for LinkRoute {
    fn prefixes(&self) -> Arc<[String]> {
        match &self.to {
            To::Prefix(prefix) => Arc::clone(prefix),
            To::Workload(workload) => self.shared.callees.load().get(workload).cloned().unwrap_or_default(),
        }
    }

    fn connection(&self) -> BoxFuture<'_, Connection> {
        Box::pin(self.lane.connection())
    }

    fn replicas(&self) -> u32 {
        self.admission.count()
    }
}
