//! Starting: connect, make sure that the store keeps what it acknowledges, load it whole, and take over.
//!
//! In: options. Out: everything that the loop needs, at the first commit of a new epoch; or the reason why this
//! scheduler must not decide anything.

use crate::artifact::login::Logins;
use crate::artifact::oci::Fetcher;
use crate::artifact::{self, ArtifactPool};
use crate::compile::CompilePool;
use crate::options::SchedulerOptions;
use crate::outside::{Around, Nats};
use crate::requests::RequestMemory;
use crate::secret::SecretPool;
use crate::store::{
    ArtifactStore, CodeStore, CommitKind, CommitOutcome, Image, PastStore, Preflight, PreflightOptions, Store,
    StoreError, StoreOptions, preflight,
};
use anyhow::Context as _;
use heddle_protocol::defaults::REQUEST_ID_TTL_MS;
use heddle_protocol::id::Version;
use heddle_protocol::mutant::mutant;
use heddle_protocol::record::AuditRecord;
use heddle_protocol::sign::SigningKey;
use heddle_scheduler_core::{LivenessOptions, World};
use heddle_wire::connect::{self, LinkState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often taking over is tried again when another scheduler commits in between.
const TAKE_OVER_ATTEMPTS: u32 = 5;

/// What a scheduler stands on: all that it needs before it may take over.
pub struct Ground {
    /// The world around it.
    pub outside: Around,
    /// How its link to NATS is.
    pub link_state: watch::Receiver<LinkState>,
    /// The store, opened and not loaded yet.
    pub store: Store,
    /// The artifacts.
    pub pool: ArtifactPool,
    /// Their native code.
    pub compile: CompilePool,
    /// The secrets.
    pub secrets: SecretPool,
    /// What past decisions were made from.
    pub past: PastStore,
    /// The realm key.
    pub key: Arc<SigningKey>,
    /// What nats-server said of itself.
    pub preflight: Preflight,
}

/// What a scheduler has once it leads.
pub(crate) struct Started {
    /// What it stands on. The store is verified, and this scheduler leads it.
    pub(crate) ground: Ground,
    /// The state, verified.
    pub(crate) world: World,
    /// The request ids of the last day.
    pub(crate) requests: RequestMemory,
}

/// Connects, and opens all that is on NATS.
pub(crate) async fn prepare(options: &SchedulerOptions) -> anyhow::Result<Ground> {
    std::fs::create_dir_all(&options.data)
        .with_context(|| format!("failed to make the data folder {}", options.data.display()))?;
    let key = Arc::new(read_realm_key(options)?);
    let link = connect::connect(&options.connect)
        .await
        .context("is nats-server running? `heddle up` starts a fleet with one of its own")?;
    let secrets = SecretPool::start(options, &link.client).await?;
    let preflight_options = PreflightOptions {
        monitors: options.nats_monitor.iter().cloned().collect(),
        replicas: options.replicas,
        dev: options.dev,
        assume_durable: options.assume_durable,
    };
    let preflight = preflight(&link.client, &preflight_options).await?;
    for warning in &preflight.warnings {
        tracing::warn!("{warning}");
    }
    let mut store_options = StoreOptions::new(options.realm.as_str());
    store_options.replicas = options.replicas;
    let store = Store::open(link.client.clone(), store_options.clone()).await?;
    let artifacts = ArtifactStore::open(link.client.clone(), &store_options).await?;
    let pool = ArtifactPool::new(artifacts, fetcher(options)?);
    let code = CodeStore::open(link.client.clone(), &store_options).await?;
    let compile = CompilePool::open(options.compile.clone(), pool.clone(), code, Arc::clone(&key)).await?;
    let past = match PastStore::open(link.client.clone(), &store_options).await {
        Ok(past) => past,
        Err(error) => {
            tracing::warn!(error = %error, "decisions can be replayed only for as long as this scheduler runs");
            PastStore::in_memory()
        }
    };
    Ok(Ground {
        outside: Arc::new(Nats(link.client)),
        link_state: link.state,
        store,
        pool,
        compile,
        secrets,
        past,
        key,
        preflight,
    })
}

/// Loads the store whole and takes over.
pub(crate) async fn start(ground: Ground, options: &SchedulerOptions) -> anyhow::Result<Started> {
    let image = load_and_take_over(&ground.store, &options.id).await?;
    let world = world_of(&image, liveness(options)).context("failed to read the loaded state")?;
    let artifacts = world.workloads.values().flat_map(|w| w.artifacts.values());
    ground.pool.recall(artifacts);
    let requests = load_requests(&ground.store).await?;
    Ok(Started {
        ground,
        world,
        requests,
    })
}

/// The numbers by which this scheduler judges silence.
pub fn liveness(options: &SchedulerOptions) -> LivenessOptions {
    LivenessOptions {
        lost_after_ms: options.host_lost_after_ms,
        ..LivenessOptions::default()
    }
}

fn read_realm_key(options: &SchedulerOptions) -> anyhow::Result<SigningKey> {
    let path = &options.realm_key;
    let seed = std::fs::read_to_string(path).with_context(|| {
        format!(
            "failed to read the realm key {}; `heddle key` makes one, `heddle up` does it by itself",
            path.display()
        )
    })?;
    SigningKey::from_seed(&seed).with_context(|| format!("failed to read the realm key {}", path.display()))
}

fn fetcher(options: &SchedulerOptions) -> anyhow::Result<Fetcher> {
    let logins = match &options.registry_config {
        Some(path) => Logins::read(path)?,
        None => Logins::default(),
    };
    Ok(Fetcher::new(logins, options.registry_plain_http.clone()))
}

/// Loads until the loaded state is the newest and this scheduler's epoch stands in `head`.
async fn load_and_take_over(store: &Store, id: &str) -> anyhow::Result<Image> {
    for _ in 0..TAKE_OVER_ATTEMPTS {
        store.load().await.context(
            "this scheduler decides nothing from a store that it cannot verify; agents go on with what they have",
        )?;
        let outcome = match store.take_over(id).await {
            Err(StoreError::Unknown { .. }) => store.settle().await?,
            outcome => Some(outcome?),
        };
        match outcome {
            Some(CommitOutcome::Committed { n, .. }) => {
                tracing::info!(commit = n, "took over");
                return store
                    .image()
                    .await
                    .context("the store lost its image while taking over");
            }
            Some(CommitOutcome::Conflict { head }) => {
                tracing::info!(
                    commit = head.n,
                    leader = head.leader_id,
                    "another scheduler committed; loading again"
                );
            }
            None => {}
        }
    }
    anyhow::bail!("failed to take over: another scheduler of this realm keeps committing; run one at a time")
}

/// The state that an image holds.
pub fn world_of(image: &Image, liveness: LivenessOptions) -> anyhow::Result<World> {
    let mut world = World::new(liveness);
    for (key, value) in &image.values {
        world.apply_write(key, Some(value))?;
    }
    world.set_head(Version {
        epoch: image.head.epoch,
        n: image.head.n,
    });
    Ok(world)
}

async fn load_requests(store: &Store) -> anyhow::Result<RequestMemory> {
    let mut requests = RequestMemory::default();
    for record in store.audits(Duration::from_millis(REQUEST_ID_TTL_MS)).await? {
        if matches!(record.kind, CommitKind::Change | CommitKind::Rewrite) && !record.body.is_empty() {
            let audit: AuditRecord = serde_json::from_slice(&record.body)
                .with_context(|| format!("failed to read the audit record of commit {}", record.n))?;
            if !mutant("request-ids-are-lost-on-restart") {
                requests.learn(&audit);
            }
        }
    }
    Ok(requests)
}

/// Serves artifacts on a connection of their own, for as long as the process lives.
pub(crate) async fn serve_artifacts(options: &SchedulerOptions, ground: &Ground) -> anyhow::Result<()> {
    let (pool, compile) = (ground.pool.clone(), ground.compile.clone());
    let mut connect = options.connect.clone();
    connect.name = format!("{}-artifacts", connect.name);
    let link = connect::connect(&connect).await?;
    let realm = options.realm.clone();
    tokio::spawn(async move {
        if let Err(e) = artifact::serve::serve_artifacts(link.client, realm, pool, compile).await {
            tracing::error!(error = %e, "artifacts are no longer served; restart the scheduler");
        }
    });
    Ok(())
}
