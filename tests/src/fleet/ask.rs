//! What tests ask of a fleet: typed questions, and waits for what they lead to.

use super::Fleet;
use crate::until::eventually;
use crate::{binary, http};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use heddle_protocol::api::apply::{Applied, Apply};
use heddle_protocol::api::artifact::{ArtifactHas, ArtifactPut};
use heddle_protocol::api::hosts::{HostState, HostStatus, Hosts, SetHost};
use heddle_protocol::api::objects::{Delete, ObjectKind, ObjectRef};
use heddle_protocol::api::realm::{Info, RealmInfo};
use heddle_protocol::api::status::{Status, Wait, WorkloadState, WorkloadStatus};
use heddle_protocol::api::{ApiError, Verb};
use heddle_protocol::digest::Digest;
use heddle_protocol::envelope;
use heddle_protocol::host_spec::HostSpec;
use heddle_protocol::id::{Generation, HostId, Namespace, WorkloadId};
use heddle_protocol::manifest::{self, Object};
use heddle_protocol::record::{HostAdmin, WaitTarget};
use heddle_wire::client::ClientError;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a workload may take until it runs, on a busy machine with two cores: it is compiled there.
pub const RUNS_WITHIN: Duration = Duration::from_secs(40);
/// One look of a long wait.
const WAIT_MS: u64 = 2_000;

impl Fleet {
    /// Asks in the default namespace.
    pub async fn ask<V: Verb>(&self, body: &V) -> Result<V::Answer> {
        Ok(self.client().ask(&Namespace::fallback(), body, &[]).await?.0)
    }

    /// Asks for something that must be refused, and returns the refusal.
    pub async fn refusal<V: Verb>(&self, body: &V) -> Result<ApiError> {
        refused(
            self.client().ask(&Namespace::fallback(), body, &[]).await.map(|_| ()),
            V::NAME,
        )
    }

    /// How the realm fares.
    pub async fn info(&self) -> Result<RealmInfo> {
        self.ask(&Info {}).await
    }

    /// The documents of a manifest as the API takes them; the guests that they name are uploaded where they lack.
    pub async fn documents(&self, yaml: &str) -> Result<Vec<serde_json::Value>> {
        let read = manifest::load(yaml.as_bytes(), "the test's manifest");
        let mut documents = read.map_err(|problems| anyhow!("the test's manifest is wrong: {problems:#?}"))?;
        let mut images = BTreeMap::new();
        for document in &mut documents {
            let Object::Workload(workload) = &mut document.object else {
                continue;
            };
            for component in &mut workload.spec.components {
                let Some(file) = component.image.strip_prefix("file:") else {
                    continue;
                };
                let bytes = binary::guest(file)?;
                let digest = Digest::of(&bytes);
                component.image = digest.to_string();
                images.insert(digest, bytes);
            }
        }
        let missing = match images.is_empty() {
            true => Default::default(),
            false => {
                self.ask(&ArtifactHas {
                    digests: images.keys().copied().collect(),
                })
                .await?
                .missing
            }
        };
        for digest in missing {
            let bytes = images.get(&digest).context("the scheduler lacks what was not named")?;
            self.client()
                .ask(&Namespace::fallback(), &ArtifactPut { digest }, bytes)
                .await?;
        }
        Ok(documents
            .iter()
            .map(|document| document.object.canonical_value())
            .collect())
    }

    /// Applies a manifest, and does not wait.
    pub async fn apply(&self, yaml: &str) -> Result<Applied> {
        let documents = self.documents(yaml).await?;
        self.ask(&Apply { documents, at: None })
            .await
            .with_context(|| format!("failed to apply:\n{yaml}"))
    }

    /// Applies a manifest that must be refused.
    pub async fn apply_refused(&self, yaml: &str) -> Result<ApiError> {
        let documents = self.documents(yaml).await?;
        self.refusal(&Apply { documents, at: None }).await
    }

    /// Applies a manifest, and waits until all of its workloads run.
    pub async fn apply_and_wait(&self, yaml: &str) -> Result<Applied> {
        let applied = self.apply(yaml).await?;
        self.wait_for(&applied, RUNS_WITHIN).await?;
        Ok(applied)
    }

    /// Waits until the workloads of an apply run, at the generations that it made.
    pub async fn wait_for(&self, applied: &Applied, bound: Duration) -> Result<()> {
        let workloads = applied.objects.iter().filter(|object| object.kind == "Workload");
        let targets = workloads
            .map(|object| {
                Ok(WaitTarget {
                    workload: WorkloadId::parse(&object.name)?,
                    generation: Some(object.generation),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        self.wait(targets, bound).await
    }

    /// Waits until a workload runs at a generation.
    pub async fn wait_ready(&self, name: &str, generation: Generation) -> Result<()> {
        let target = WaitTarget {
            workload: WorkloadId::parse(name)?,
            generation: Some(generation),
        };
        self.wait(vec![target], RUNS_WITHIN).await
    }

    /// Waits until nothing is left of a workload.
    pub async fn wait_gone(&self, name: &str) -> Result<()> {
        self.wait(
            vec![WaitTarget {
                workload: WorkloadId::parse(name)?,
                generation: None,
            }],
            RUNS_WITHIN,
        )
        .await
    }

    /// Waits for several workloads at once.
    pub async fn wait(&self, targets: Vec<WaitTarget>, bound: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            let waited = self
                .ask(&Wait {
                    targets: targets.clone(),
                    timeout_ms: WAIT_MS,
                })
                .await?;
            if waited.done {
                return Ok(());
            }
            if started.elapsed() >= bound {
                bail!("waited {bound:?} for {targets:?}; missing: {:#?}", waited.missing);
            }
        }
    }

    /// How a workload fares.
    pub async fn status(&self, name: &str) -> Result<WorkloadStatus> {
        let ask = Status {
            workloads: vec![WorkloadId::parse(name)?],
            ..Status::default()
        };
        self.ask(&ask)
            .await?
            .workloads
            .into_iter()
            .next()
            .with_context(|| format!("there is no workload {name}"))
    }

    /// Waits until a workload is ready, whatever its generation: nothing hinders it and nothing old is left.
    pub async fn settled(&self, name: &str, bound: Duration) -> Result<WorkloadStatus> {
        eventually(bound, &format!("{name} is ready"), async || {
            let status = self.status(name).await?;
            ensure!(status.state == WorkloadState::Ready, "{status:#?}");
            Ok(status)
        })
        .await
    }

    /// Deletes a workload, and does not wait.
    pub async fn delete(&self, name: &str) -> Result<Applied> {
        let workload = ObjectRef {
            kind: ObjectKind::Workload,
            name: WorkloadId::parse(name)?.to_string(),
        };
        self.ask(&Delete {
            objects: vec![workload],
            ignore_missing: false,
        })
        .await
    }

    /// How a host fares.
    pub async fn host(&self, host: &str) -> Result<HostStatus> {
        let ask = Hosts {
            host: Some(HostId::parse(host)?),
            after: None,
        };
        self.ask(&ask)
            .await?
            .hosts
            .into_iter()
            .next()
            .with_context(|| format!("there is no host {host}"))
    }

    /// Waits until a host is in a state.
    pub async fn host_in_state(&self, host: &str, state: HostState, bound: Duration) -> Result<HostStatus> {
        eventually(bound, &format!("{host} is {}", state.as_str()), async || {
            let status = self.host(host).await?;
            ensure!(status.state == state, "{}", status.state.as_str());
            Ok(status)
        })
        .await
    }

    /// Waits until a host holds and runs the spec that it should hold.
    pub async fn host_settled(&self, host: &str, bound: Duration) -> Result<HostStatus> {
        eventually(bound, &format!("{host} holds its spec"), async || {
            let status = self.host(host).await?;
            let held = status.accepted.map(|accepted| accepted.digest);
            ensure!(held.is_some() && held == status.wanted_digest, "{status:#?}");
            Ok(status)
        })
        .await
    }

    /// Waits until the spec that a host holds is on its disk too: from then on it outlives a kill.
    pub async fn host_cached(&self, host: &str, bound: Duration) -> Result<()> {
        eventually(bound, &format!("{host} keeps its spec"), async || {
            let held = self
                .host_settled(host, bound)
                .await?
                .accepted
                .context("it holds none")?;
            let bytes = std::fs::read(self.folder().join(host).join("spec.json")).context("it keeps none")?;
            let kept: HostSpec = envelope::read("spec", envelope::open(&bytes)?.payload)?;
            ensure!(
                kept.body_digest == held.digest,
                "it keeps version {}, holds {}",
                kept.version,
                held.version
            );
            Ok(())
        })
        .await
    }

    /// Says whether a host takes work.
    pub async fn set_host(&self, host: &str, admin: HostAdmin) -> Result<Applied> {
        self.ask(&SetHost {
            host: HostId::parse(host)?,
            admin,
        })
        .await
    }

    /// Asks a host for a path.
    pub async fn get(&self, host: &str, path: &str) -> Result<http::Answer> {
        http::get(self.web(host)?, path, None).await
    }

    /// Waits until a host answers a path with 200, and returns the text.
    pub async fn serves(&self, host: &str, path: &str, bound: Duration) -> Result<String> {
        eventually(bound, &format!("{host} serves {path}"), async || {
            self.get(host, path).await?.ok()
        })
        .await
    }

    /// Waits until a host answers a path with 404: no route leads there.
    pub async fn serves_not(&self, host: &str, path: &str, bound: Duration) -> Result<()> {
        eventually(bound, &format!("{host} has no route {path}"), async || {
            let status = self.get(host, path).await?.status;
            ensure!(status == 404, "status {status}");
            Ok(())
        })
        .await
    }

    /// Waits until a host has closed its listener: nothing at all is served there.
    pub async fn listens_not(&self, host: &str, bound: Duration) -> Result<()> {
        let web = self.web(host)?;
        eventually(
            bound,
            &format!("{host} no longer listens"),
            async || match tokio::net::TcpStream::connect(web).await {
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
                Err(error) => Err(error.into()),
                Ok(_) => bail!("it takes connections"),
            },
        )
        .await
    }

    /// The hosts that have replicas of a workload's newest generation, with how many.
    pub async fn spread(&self, name: &str) -> Result<BTreeMap<String, u32>> {
        let status = self.status(name).await?;
        let newest = status.units.iter().map(|unit| unit.generation).max();
        let units = status.units.iter().filter(|unit| Some(unit.generation) == newest);
        Ok(units.map(|unit| (unit.host.to_string(), unit.count)).collect())
    }
}

/// The refusal in an answer; an answer that is none fails.
pub fn refused(answer: Result<(), ClientError>, verb: &str) -> Result<ApiError> {
    match answer {
        Ok(()) => bail!("`{verb}` should have been refused and was not"),
        Err(ClientError::Api(error)) => Ok(error),
        Err(error) => Err(anyhow!(error).context(format!("`{verb}` was neither refused nor carried out"))),
    }
}
