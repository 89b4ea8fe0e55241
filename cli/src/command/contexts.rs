//! `heddle context`: the fleets that commands speak to, by name.

use crate::context::{self, Context, Contexts, Flags, Target};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::view::{Style, Table};
use heddle_protocol::id::{Namespace, Realm};
use std::path::PathBuf;

/// Flags of `context`.
#[derive(Debug, clap::Args)]
pub struct ContextArgs {
    #[command(subcommand)]
    verb: Option<ContextVerb>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What to do with contexts.
#[derive(Debug, clap::Subcommand)]
pub enum ContextVerb {
    /// List the contexts
    List,
    /// Use a context from now on
    Use {
        /// The context
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Make a context, or change what is named of it
    Set(Box<SetArgs>),
    /// Show what commands would speak to, and why
    Show,
    /// Remove a context
    Remove {
        /// The context
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Flags of `context set`.
#[derive(Debug, clap::Args)]
pub struct SetArgs {
    /// The context
    #[arg(value_name = "NAME")]
    name: String,
    /// The URL of NATS
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// The realm
    #[arg(long, value_name = "NAME", value_parser = Realm::parse)]
    realm: Option<Realm>,
    /// A NATS credentials file
    #[arg(long, value_name = "FILE")]
    creds: Option<PathBuf>,
    /// A file with the seed of the key that signs requests
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The namespace of names without one
    #[arg(long, value_name = "NAME", value_parser = Namespace::parse)]
    namespace: Option<Namespace>,
}

/// Shows or changes contexts.
pub fn run(args: ContextArgs, output: &Output) -> Result<(), Failure> {
    let path = context::file(&context::process_env)?;
    let mut contexts = Contexts::load(&path)?;
    match args.verb.unwrap_or(ContextVerb::List) {
        ContextVerb::List => return output.value(&contexts, list),
        ContextVerb::Show => {
            let target = context::resolve(&Flags::default(), &context::process_env, &contexts)?;
            return output.value(&target, show);
        }
        ContextVerb::Use { name } => {
            contexts.get(&name)?;
            contexts.current = Some(name);
        }
        ContextVerb::Set(set) => change(&mut contexts, *set)?,
        ContextVerb::Remove { name } => {
            contexts.get(&name)?;
            contexts.contexts.remove(&name);
            contexts.current = contexts.current.take().filter(|current| *current != name);
        }
    }
    contexts.save(&path)?;
    output.value(&contexts, list)
}

/// Files are kept by their full path: the command is used from other folders later.
fn change(contexts: &mut Contexts, set: SetArgs) -> Result<(), Failure> {
    if !heddle_protocol::id::is_name(&set.name) {
        let message = format!("failed to name a context {:?}", set.name);
        return Err(Failure::new(
            Exit::Usage,
            message,
            "a name is 1 to 63 of a-z, 0-9 and '-'",
        ));
    }
    let full = |path: PathBuf| std::path::absolute(&path).map_err(|error| Failure::file("find", &path, &error));
    let (creds, key) = (set.creds.map(full).transpose()?, set.key.map(full).transpose()?);
    let context: &mut Context = contexts.contexts.entry(set.name.clone()).or_default();
    context.nats = set.nats.or(context.nats.take());
    context.realm = set.realm.or(context.realm.take());
    context.creds = creds.or(context.creds.take());
    context.key = key.or(context.key.take());
    context.namespace = set.namespace.or(context.namespace.take());
    // The first context is the one that is meant.
    contexts.current.get_or_insert(set.name);
    Ok(())
}

fn list(contexts: &Contexts, style: Style) -> String {
    if contexts.contexts.is_empty() {
        return "no contexts\n".to_owned();
    }
    let mut table = Table::new(&["CURRENT", "CONTEXT", "NATS", "REALM", "NAMESPACE"]);
    for (name, context) in &contexts.contexts {
        let current = if contexts.current.as_ref() == Some(name) {
            "*"
        } else {
            ""
        };
        table.row([
            current.into(),
            name.clone().into(),
            context.nats.clone().unwrap_or_default().into(),
            context
                .realm
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default()
                .into(),
            context
                .namespace
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default()
                .into(),
        ]);
    }
    table.render(style)
}

fn show(target: &Target, style: Style) -> String {
    let mut table = Table::new(&["SETTING", "VALUE", "FROM"]);
    let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let from = |name: &str| {
        target
            .sources
            .get(name)
            .map(|source| source.as_str())
            .unwrap_or_default()
    };
    let rows = [
        ("nats", target.nats.clone()),
        ("realm", target.realm.to_string()),
        ("namespace", target.namespace.to_string()),
        ("creds", path(&target.creds)),
        ("key", path(&target.key)),
    ];
    for (name, value) in rows {
        table.row([name.into(), value.into(), from(name).into()]);
    }
    let context = target.context.as_deref().unwrap_or("none");
    format!("context: {context}\n{}", table.render(style))
}
