//! Speaking with a fleet: the flags that say which one, a connection, and questions with paged answers.

use crate::context::{self, Context, Contexts, Flags, Target};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::progress::Progress;
use bytes::Bytes;
use heddle_protocol::api::Verb;
use heddle_protocol::api::hosts::{HostList, Hosts};
use heddle_protocol::api::objects::{Get, Objects};
use heddle_protocol::api::status::{Status, Statuses};
use heddle_protocol::id::{Namespace, ObjectId, ObjectName, Realm, RequestId, WorkloadId};
use heddle_protocol::manifest;
use heddle_protocol::sign::SigningKey;
use heddle_wire::client::{Client, ClientError, ClientOptions};
use heddle_wire::connect::ConnectOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a command goes on asking before it gives up: longer than a scheduler takes to restart.
const PATIENCE: &str = "10s";

/// The flags that say which fleet, shared by every command that speaks to one.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which fleet")]
pub struct FleetArgs {
    /// The URL of NATS [env: HEDDLE_NATS]
    #[arg(long, global = true, value_name = "URL")]
    pub nats: Option<String>,
    /// The realm [env: HEDDLE_REALM]
    #[arg(long, global = true, value_name = "NAME", value_parser = Realm::parse)]
    pub realm: Option<Realm>,
    /// A NATS credentials file [env: HEDDLE_CREDS]
    #[arg(long, global = true, value_name = "FILE")]
    pub creds: Option<PathBuf>,
    /// A file with the seed of the key that signs requests [env: HEDDLE_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The context to use [env: HEDDLE_CONTEXT]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// How long to go on asking a scheduler that does not answer
    #[arg(long, global = true, value_name = "TIME", default_value = PATIENCE, value_parser = duration)]
    pub patience: Duration,
}

/// The flag that says which namespace, for commands that name objects.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct NamespaceArgs {
    /// The namespace of names without one [env: HEDDLE_NAMESPACE]
    #[arg(short, long, value_name = "NAME", value_parser = Namespace::parse)]
    pub namespace: Option<Namespace>,
}

/// Reads `500ms`, `30s`, `2m`, `1h`, as manifests do.
pub fn duration(text: &str) -> Result<Duration, manifest::QuantityError> {
    text.parse::<manifest::Duration>()
        .map(|d| Duration::from_millis(d.as_ms()))
}

impl FleetArgs {
    /// Which fleet is meant.
    pub fn target(&self, namespace: &NamespaceArgs) -> Result<Target, Failure> {
        let env = &context::process_env;
        // Without a place for contexts there are none; flags and the environment still say enough.
        let contexts = context::file(env).map_or_else(|_| Ok(Contexts::default()), |path| Contexts::load(&path))?;
        let values = Context {
            nats: self.nats.clone(),
            realm: self.realm.clone(),
            creds: self.creds.clone(),
            key: self.key.clone(),
            namespace: namespace.namespace.clone(),
        };
        context::resolve(
            &Flags {
                context: self.context.clone(),
                values,
            },
            env,
            &contexts,
        )
    }
}

/// A connection to a fleet.
#[derive(Debug, Clone)]
pub struct Fleet {
    client: Client,
    /// The namespace that is meant when none is named.
    pub namespace: Namespace,
}

impl Fleet {
    /// Connects to the fleet that the flags mean.
    pub async fn connect(args: &FleetArgs, namespace: &NamespaceArgs) -> Result<Self, Failure> {
        Self::to(&args.target(namespace)?, args.patience).await
    }

    /// Connects to a fleet.
    pub async fn to(target: &Target, patience: Duration) -> Result<Self, Failure> {
        let mut connect = ConnectOptions::new(&target.nats, "heddle cli");
        connect.credentials = target.creds.clone();
        let options = ClientOptions {
            connect,
            realm: target.realm.clone(),
            actor: actor(),
            signer: target.key.as_deref().map(read_key).transpose()?.map(Arc::new),
            patience,
        };
        let connecting = Progress::during("connecting to NATS", Client::connect(options));
        Ok(Self {
            client: connecting.await?,
            namespace: target.namespace.clone(),
        })
    }

    /// The connection that questions go over.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Asks, in a namespace, and says so if it takes longer than a second.
    pub async fn ask_in<V: Verb>(&self, namespace: &Namespace, body: &V) -> Result<V::Answer, Failure> {
        let text = format!(
            "waiting for the scheduler of realm {} ({})",
            self.client.realm(),
            V::NAME
        );
        Progress::during(&text, self.ask_quietly(namespace, body))
            .await
            .map_err(Failure::from)
    }

    /// Asks in the default namespace of this command.
    pub async fn ask<V: Verb>(&self, body: &V) -> Result<V::Answer, Failure> {
        self.ask_in(&self.namespace.clone(), body).await
    }

    /// Asks without showing progress.
    pub async fn ask_quietly<V: Verb>(&self, namespace: &Namespace, body: &V) -> Result<V::Answer, ClientError> {
        self.client.ask(namespace, body, &[]).await.map(|(answer, _)| answer)
    }

    /// Asks with an attachment, and returns the answer's one.
    pub async fn ask_with<V: Verb>(&self, body: &V, attachment: &[u8]) -> Result<(V::Answer, Bytes), Failure> {
        Ok(self.client.ask(&self.namespace, body, attachment).await?)
    }

    /// Makes a change. If its outcome is not known, asks again with the same request id, which tells.
    pub async fn change<V: Verb>(&self, namespace: &Namespace, body: &V) -> Result<V::Answer, Failure> {
        let id = RequestId::new(uuid::Uuid::now_v7().to_string());
        let text = format!(
            "waiting for the scheduler of realm {} ({})",
            self.client.realm(),
            V::NAME
        );
        let asked = async {
            match self.client.ask_as(&id, namespace, body, &[]).await {
                Err(ClientError::Unknown { .. }) => self.client.ask_as(&id, namespace, body, &[]).await,
                other => other,
            }
        };
        Ok(Progress::during(&text, asked).await?.0)
    }

    /// A workload by `name` of the command's namespace, or by `namespace/name`.
    pub fn workload(&self, text: &str) -> Result<WorkloadId, Failure> {
        object_id(text, &self.namespace)
    }

    /// All statuses, page by page.
    pub async fn statuses(&self, first: Status) -> Result<Statuses, Failure> {
        let mut ask = first;
        let mut all = self.ask(&ask).await?;
        while all.more {
            ask.after = next_after(ask.after.as_ref(), all.workloads.last().map(|s| &s.workload))?;
            let page = self.ask(&ask).await?;
            all.workloads.extend(page.workloads);
            (all.commit, all.more) = (page.commit, page.more);
        }
        Ok(all)
    }

    /// All hosts, page by page.
    pub async fn hosts(&self, first: Hosts) -> Result<HostList, Failure> {
        let mut ask = first;
        let mut all = self.ask(&ask).await?;
        while all.more {
            ask.after = next_after(ask.after.as_ref(), all.hosts.last().map(|h| &h.host))?;
            let page = self.ask(&ask).await?;
            all.hosts.extend(page.hosts);
            (all.commit, all.more) = (page.commit, page.more);
        }
        Ok(all)
    }

    /// All objects of a kind, page by page.
    pub async fn objects(&self, first: Get) -> Result<Objects, Failure> {
        let mut ask = first;
        let mut all = self.ask(&ask).await?;
        while all.more {
            ask.after = next_after(ask.after.as_ref(), all.objects.last().map(|o| &o.name))?;
            let page = self.ask(&ask).await?;
            all.objects.extend(page.objects);
            (all.commit, all.more) = (page.commit, page.more);
        }
        Ok(all)
    }
}

/// Where the next page starts. Pages that do not get on would be asked for for ever.
fn next_after<T: Clone + PartialEq>(before: Option<&T>, last: Option<&T>) -> Result<Option<T>, Failure> {
    match last {
        Some(last) if Some(last) != before => Ok(Some(last.clone())),
        _ => Err(Failure::new(
            Exit::Failed,
            "failed to list everything: the scheduler says that more follows, and sends nothing more",
            "compare `heddle version` with the scheduler's version",
        )),
    }
}

/// An object by `name` of a namespace, or by `namespace/name`.
pub fn object_id(text: &str, namespace: &Namespace) -> Result<ObjectId, Failure> {
    let id = match text.contains('/') {
        true => ObjectId::parse(text),
        false => ObjectName::parse(text).map(|name| ObjectId::new(namespace.clone(), name)),
    };
    id.map_err(|error| Failure::new(Exit::Usage, error.to_string(), "write NAME or NAMESPACE/NAME"))
}

/// Reads the seed of a signing key.
pub fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file("read key", path, &error))?;
    SigningKey::from_seed(&text).map_err(|error| {
        let message = format!("failed to read key {}: {error}", path.display());
        Failure::new(
            Exit::Failed,
            message,
            "a key file holds one seed, a line that starts with SU",
        )
    })
}

/// Who asks, for the audit record: `$HEDDLE_ACTOR`, or the user and machine.
fn actor() -> String {
    let user = || context::process_env("USER").unwrap_or_else(|| "unknown".to_owned());
    context::process_env("HEDDLE_ACTOR").unwrap_or_else(|| match hostname() {
        Some(host) => format!("{}@{host}", user()),
        None => user(),
    })
}

/// The machine's name, if it tells.
pub fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| context::process_env("HOSTNAME"))?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_namespace_are_of_the_command_s_one() {
        let shop = Namespace::parse("shop").unwrap();
        assert_eq!(object_id("cart", &shop).unwrap().to_string(), "shop/cart");
        assert_eq!(object_id("web/cart", &shop).unwrap().to_string(), "web/cart");
        assert_eq!(object_id("Cart", &shop).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn pages_that_do_not_get_on_end_the_listing() {
        assert_eq!(next_after(None, Some(&1)).unwrap(), Some(1));
        assert!(next_after(Some(&1), Some(&1)).is_err());
        assert!(next_after::<u8>(None, None).is_err());
    }
}
