//! `heddle delete`: objects go, in one change, and the command waits until nothing of them runs.

use super::get::{KindArg, full_name};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{Fleet, FleetArgs, NamespaceArgs};
use crate::output::Output;
use crate::source::{self, SourceArgs};
use crate::view;
use crate::wait::{self, WaitArgs};
use clap::ValueEnum;
use heddle_protocol::api::objects::{Delete, ObjectKind, ObjectRef};
use heddle_protocol::manifest::Kind;

/// Flags of `delete`.
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    /// KIND NAME…, or KIND/NAME…, such as `workload web` or `workload/shop/cart config/greetings`
    #[arg(value_name = "OBJECT", required_unless_present = "files", conflicts_with = "files")]
    objects: Vec<String>,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    namespace: NamespaceArgs,
    /// Take objects that are not there as deleted
    #[arg(long)]
    ignore_missing: bool,
    #[command(flatten)]
    wait: WaitArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Deletes, and waits.
pub async fn run(args: DeleteArgs, output: &Output) -> Result<(), Failure> {
    let named = if args.source.files.is_empty() {
        parse(&args.objects)?
    } else {
        in_files(&args.source)?
    };
    let fleet = Fleet::connect(&args.fleet, &args.namespace).await?;
    let objects = named
        .into_iter()
        .map(|(kind, name)| {
            Ok(ObjectRef {
                kind,
                name: full_name(&fleet, kind, &name)?,
            })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let delete = Delete {
        objects,
        ignore_missing: args.ignore_missing,
    };
    let applied = fleet.change(&fleet.namespace, &delete).await?;
    if output.json {
        wait::applied(&fleet, &args.wait, &applied).await?;
        return output.value(&applied, view::applied::done);
    }
    output.value(&applied, view::applied::done)?;
    wait::applied(&fleet, &args.wait, &applied).await
}

/// Reads `KIND NAME…` or `KIND/NAME…`.
fn parse(words: &[String]) -> Result<Vec<(ObjectKind, String)>, Failure> {
    let usage = |message: String| {
        Failure::new(
            Exit::Usage,
            message,
            "write KIND NAME or KIND/NAME; kinds are workload, platform, config, secretref, policy and quota",
        )
    };
    let kind = |word: &str| KindArg::from_str(word, true).map(ObjectKind::from).ok();
    let Some((first, names)) = words.split_first() else {
        return Err(usage("failed to find what to delete: nothing was named".to_owned()));
    };
    if let Some(kind) = kind(first) {
        if names.is_empty() {
            return Err(usage(format!("failed to find what to delete: no {first} was named")));
        }
        return Ok(names.iter().map(|name| (kind, name.clone())).collect());
    }
    let split = |word: &String| {
        let (before, name) = word.split_once('/')?;
        Some((kind(before)?, name.to_owned()))
    };
    words
        .iter()
        .map(|word| split(word).ok_or_else(|| usage(format!("failed to read {word:?} as an object"))))
        .collect()
}

/// The objects that manifests name; workloads first, so that what they use is free when its turn comes.
fn in_files(source: &SourceArgs) -> Result<Vec<(ObjectKind, String)>, Failure> {
    let loaded = source::load(&source.files)?;
    let mut objects: Vec<(Kind, String)> = loaded
        .iter()
        .map(|loaded| &loaded.document.object)
        .map(|object| {
            let name = match object.namespace() {
                Some(namespace) => format!("{namespace}/{}", object.name()),
                None => object.name().to_owned(),
            };
            (object.kind(), name)
        })
        .collect();
    objects.sort_by_key(|(kind, _)| std::cmp::Reverse(*kind));
    let kind = |kind| match kind {
        Kind::Platform => ObjectKind::Platform,
        Kind::Config => ObjectKind::Config,
        Kind::SecretRef => ObjectKind::SecretRef,
        Kind::Policy => ObjectKind::Policy,
        Kind::Quota => ObjectKind::Quota,
        Kind::Workload => ObjectKind::Workload,
    };
    Ok(objects.into_iter().map(|(k, name)| (kind(k), name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Vec<(ObjectKind, String)>, Exit> {
        parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).map_err(|failure| failure.exit)
    }

    #[test]
    fn objects_are_named_by_kind_and_name() {
        let workload = |name: &str| (ObjectKind::Workload, name.to_owned());
        assert_eq!(
            parsed(&["workload", "web", "shop/cart"]),
            Ok(vec![workload("web"), workload("shop/cart")])
        );
        assert_eq!(
            parsed(&["workload/shop/cart", "configs/greetings"]),
            Ok(vec![
                workload("shop/cart"),
                (ObjectKind::Config, "greetings".to_owned())
            ])
        );
    }

    #[test]
    fn half_a_name_is_wrong_usage() {
        for words in [&["workload"][..], &["web"], &["pod/web"], &[]] {
            assert_eq!(parsed(words), Err(Exit::Usage), "{words:?}");
        }
    }
}
