//! Changes without pause, through every fault, and what was acknowledged of them.
//!
//! One writer goes round over a few workloads: it makes them, scales them, and deletes them. A change whose outcome is
//! not known is asked for again with the same request id until it is, as a careful client does it. So what was
//! acknowledged last of each workload is what must be there.

use anyhow::Result;
use heddle_protocol::api::apply::{Applied, Apply};
use heddle_protocol::api::objects::{Delete, ObjectKind, ObjectRef};
use heddle_protocol::id::{Generation, Namespace, RequestId};
use heddle_tests::fleet::Fleet;
use heddle_tests::manifest::hello;
use heddle_wire::client::{Client, ClientError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Workloads that it goes round over.
const WORKLOADS: usize = 6;
/// The pause between two changes: enough to be caught in the middle by any fault, not enough to wear a disk out.
const PAUSE: Duration = Duration::from_millis(30);

/// What was acknowledged.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The newest acknowledged state of each workload: its generation, or none where it was deleted.
    pub newest: BTreeMap<String, Option<Generation>>,
    /// Acknowledged changes in all.
    pub acknowledged: u64,
    /// What a careful client may never be told, if it was.
    pub broken: Vec<String>,
}

/// A writer that runs.
#[derive(Debug)]
pub struct Writer {
    wanted: watch::Sender<bool>,
    /// Whether it stands still, with nothing under way.
    stands: watch::Receiver<bool>,
    history: Arc<Mutex<History>>,
    task: JoinHandle<()>,
}

/// A change, ready to be sent.
struct Step {
    name: String,
    /// None deletes it.
    apply: Option<Apply>,
}

impl Writer {
    /// Begins to write.
    pub async fn start(fleet: &Fleet) -> Result<Self> {
        let mut manifests = Vec::new();
        for replicas in [1, 2] {
            let mut of_each = Vec::new();
            for i in 0..WORKLOADS {
                let documents = fleet.documents(&hello(&name(i)).replicas(replicas).yaml()).await?;
                of_each.push(Apply { documents, at: None });
            }
            manifests.push(of_each);
        }
        let client = fleet.client_signed_by(None).await?;
        let (wanted, wants) = watch::channel(true);
        let (stood, stands) = watch::channel(false);
        let history = Arc::default();
        let task = tokio::spawn(write(client, manifests, wants, stood, Arc::clone(&history)));
        Ok(Self {
            wanted,
            stands,
            history,
            task,
        })
    }

    /// Waits until nothing is under way, and returns what was acknowledged.
    pub async fn pause(&self) -> History {
        self.wanted.send_replace(false);
        // The writer ends only with this value, so the wait ends with what is waited for.
        let _ = self.stands.clone().wait_for(|stands| *stands).await;
        lock(&self.history).clone()
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.wanted.send_replace(true);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(history: &Mutex<History>) -> std::sync::MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(i: usize) -> String {
    format!("changing-{i}")
}

async fn write(
    client: Client,
    manifests: Vec<Vec<Apply>>,
    mut wants: watch::Receiver<bool>,
    stood: watch::Sender<bool>,
    history: Arc<Mutex<History>>,
) {
    for turn in 0_usize.. {
        if !*wants.borrow() {
            stood.send_replace(true);
            if wants.wait_for(|wanted| *wanted).await.is_err() {
                return;
            }
            stood.send_replace(false);
        }
        let (round, i) = (turn / WORKLOADS, turn % WORKLOADS);
        // Made, scaled, deleted, made again.
        let apply = manifests.get(round % 3).and_then(|of_each| of_each.get(i)).cloned();
        let step = Step { name: name(i), apply };
        let id = RequestId::new(format!("chaos-{turn}"));
        note(&history, &step, ask(&client, &id, &step).await);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks until the outcome is known.
async fn ask(client: &Client, id: &RequestId, step: &Step) -> Result<Applied, String> {
    let namespace = Namespace::fallback();
    loop {
        let answer = match &step.apply {
            Some(apply) => client.ask_as(id, &namespace, apply, &[]).await,
            None => {
                let object = ObjectRef {
                    kind: ObjectKind::Workload,
                    name: format!("default/{}", step.name),
                };
                let delete = Delete {
                    objects: vec![object],
                    ignore_missing: false,
                };
                client.ask_as(id, &namespace, &delete, &[]).await
            }
        };
        match answer {
            Ok((applied, _)) => return Ok(applied),
            Err(ClientError::Unknown { .. } | ClientError::Unreachable { .. } | ClientError::Connect(_)) => {}
            Err(ClientError::Api(error)) if error.code == heddle_protocol::api::ErrorCode::Unavailable => {
                tokio::time::sleep(PAUSE).await;
            }
            // Nobody else writes here: nothing may be missing, taken or changed.
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn note(history: &Mutex<History>, step: &Step, answer: Result<Applied, String>) {
    let mut history = lock(history);
    match answer {
        Ok(applied) => {
            let full_name = format!("default/{}", step.name);
            let object = applied.objects.iter().find(|object| object.name == full_name);
            let generation = object.map(|object| object.generation).filter(|_| step.apply.is_some());
            history.newest.insert(step.name.clone(), generation);
            history.acknowledged += 1;
        }
        Err(why) => history
            .broken
            .push(format!("a change of {} was refused: {why}", step.name)),
    }
}
