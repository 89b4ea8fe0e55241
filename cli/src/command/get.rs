//! `heddle get`: objects as a table, or as the manifests that they were applied with.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs, object_id};
use crate::output::Output;
use crate::view;
use heddle_protocol::api::objects::{Get, ObjectKind, Objects};
use heddle_protocol::id::PlatformName;
use heddle_protocol::time::UnixMs;
use std::time::{SystemTime, UNIX_EPOCH};

/// A kind as people write it: in singular or plural.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KindArg {
    /// Which hosts are lent what
    #[value(name = "platforms", alias = "platform", alias = "Platform")]
    Platforms,
    /// Components to run
    #[value(name = "workloads", alias = "workload", alias = "Workload")]
    Workloads,
    /// Named values
    #[value(name = "configs", alias = "config", alias = "Config")]
    Configs,
    /// Named references to secrets
    #[value(name = "secretrefs", alias = "secretref", alias = "SecretRef")]
    SecretRefs,
    /// What namespaces ask of images
    #[value(name = "policies", alias = "policy", alias = "Policy")]
    Policies,
    /// How much namespaces may have
    #[value(name = "quotas", alias = "quota", alias = "Quota")]
    Quotas,
}

impl From<KindArg> for ObjectKind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Platforms => ObjectKind::Platform,
            KindArg::Workloads => ObjectKind::Workload,
            KindArg::Configs => ObjectKind::Config,
            KindArg::SecretRefs => ObjectKind::SecretRef,
            KindArg::Policies => ObjectKind::Policy,
            KindArg::Quotas => ObjectKind::Quota,
        }
    }
}

/// How objects are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table
    #[default]
    Table,
    /// Manifests, as `apply` reads them
    Yaml,
    /// The scheduler's answer
    Json,
}

/// Flags of `get`.
#[derive(Debug, clap::Args)]
pub struct GetArgs {
    /// The kind
    kind: KindArg,
    /// Only this one, by NAME or NAMESPACE/NAME
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Objects of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["name", "namespace"])]
    all_namespaces: bool,
    #[command(flatten)]
    namespace: NamespaceArgs,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t, conflicts_with = "json")]
    output: Format,
    /// Print JSON: the same as -o json
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

impl GetArgs {
    /// Whether programs read the answer.
    pub(crate) fn json(&self) -> bool {
        self.json || self.output == Format::Json
    }
}

/// Lists objects.
pub async fn run(args: GetArgs, output: &Output) -> Result<(), Failure> {
    let fleet = Fleet::connect(&args.fleet, &args.namespace).await?;
    let kind = ObjectKind::from(args.kind);
    let objects = match &args.name {
        Some(name) => one(&fleet, kind, name).await?,
        None => {
            let in_namespace = !args.all_namespaces && kind != ObjectKind::Platform;
            fleet
                .objects(Get {
                    kind,
                    name: None,
                    in_namespace,
                    after: None,
                })
                .await?
        }
    };
    if args.output == Format::Yaml {
        return output.text(&view::objects::manifests(&objects));
    }
    output.value(&objects, |objects, style| {
        view::objects::table(kind, objects, now(), style)
    })
}

/// One object by name, which must be there.
pub async fn one(fleet: &Fleet, kind: ObjectKind, name: &str) -> Result<Objects, Failure> {
    let name = full_name(fleet, kind, name)?;
    let get = Get {
        kind,
        name: Some(name.clone()),
        in_namespace: false,
        after: None,
    };
    let objects = fleet.objects(get).await?;
    if objects.objects.is_empty() {
        let kinds = kind.plural();
        let all = if kind == ObjectKind::Platform { "" } else { " -A" };
        let message = format!("failed to find {} {name}", kind.as_str());
        return Err(Failure::new(
            Exit::NotFound,
            message,
            format!("list all with `heddle get {kinds}{all}`"),
        ));
    }
    Ok(objects)
}

/// The name by which the API knows an object.
pub fn full_name(fleet: &Fleet, kind: ObjectKind, name: &str) -> Result<String, Failure> {
    match kind {
        ObjectKind::Platform => PlatformName::parse(name)
            .map(|name| name.to_string())
            .map_err(|error| Failure::new(Exit::Usage, error.to_string(), "platforms have no namespace")),
        ObjectKind::Workload | ObjectKind::Config | ObjectKind::SecretRef | ObjectKind::Policy | ObjectKind::Quota => {
            Ok(object_id(name, &fleet.namespace)?.to_string())
        }
    }
}

/// The wall clock, for telling ages.
fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
