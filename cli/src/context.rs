//! Which fleet a command speaks to (D29): flags, then `HEDDLE_*`, then the context file, then 127.0.0.1:4222.
//!
//! In: flags, environment, the contexts file. Out: an address, a realm, keys, and where each of them came from.

use crate::exit::Exit;
use crate::failure::Failure;
use heddle_protocol::id::{Namespace, Realm};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where NATS is looked for when nothing says otherwise.
pub const NATS_FALLBACK: &str = "nats://127.0.0.1:4222";
/// The realm that is asked when nothing says otherwise.
pub const REALM_FALLBACK: &str = "local";

/// A variable of the environment, by name. Passed in, so that deciding what holds needs no process.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's own environment; an empty variable counts as none.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A named fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The URL of its NATS servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<String>,
    /// Its realm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<Realm>,
    /// A NATS credentials file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creds: Option<PathBuf>,
    /// A file with the seed of the key that signs requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The namespace that commands mean when they name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
}

/// All contexts, as the file holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The one that is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// All of them.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// The file that holds the contexts: in `$HEDDLE_CONFIG_DIR`, or the user's configuration folder.
pub fn file(env: Env<'_>) -> Result<PathBuf, Failure> {
    let folder = env("HEDDLE_CONFIG_DIR")
        .map(PathBuf::from)
        .or_else(|| env("XDG_CONFIG_HOME").map(|folder| Path::new(&folder).join("heddle")))
        .or_else(|| env("HOME").map(|home| Path::new(&home).join(".config").join("heddle")));
    let folder = folder.ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            "failed to find the folder of the contexts file: neither HEDDLE_CONFIG_DIR nor HOME is set",
            "set HEDDLE_CONFIG_DIR",
        )
    })?;
    Ok(folder.join("contexts.json"))
}

impl Contexts {
    /// Reads the file; a file that is not there holds no contexts.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!("failed to read contexts {}: {error}", path.display()),
                    "mend the file, or move it away and make the contexts again with `heddle context set`",
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::file("read contexts", path, &error)),
        }
    }

    /// Writes the file whole or not at all. Only its owner may read it: it names key files.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        write_private(path, text.as_bytes()).map_err(|error| Failure::file("write contexts", path, &error))
    }

    /// A context by name.
    pub fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let next = match known.is_empty() {
                true => "make one with `heddle context set NAME --nats URL`".to_owned(),
                false => format!("known are {}", known.join(", ")),
            };
            Failure::new(Exit::NotFound, format!("failed to find context {name:?}"), next)
        })
    }
}

/// Writes a file that only its owner may read: beside it first, then in its place, so that a reader sees all or none.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = folder.join(name);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // The first error is the one to tell; what is left beside is only in the way.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// What the flags of a command say about the fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--context`.
    pub context: Option<String>,
    /// The rest: each flag has the meaning of a context's field.
    pub values: Context,
}

/// Where a setting came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A flag.
    Flag,
    /// A variable of the environment.
    Environment,
    /// The context.
    Context,
    /// Nothing said otherwise.
    Default,
}

impl Source {
    /// The source in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Flag => "flag",
            Source::Environment => "environment",
            Source::Context => "context",
            Source::Default => "default",
        }
    }
}

/// The fleet that a command speaks to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The context in use, if any.
    pub context: Option<String>,
    /// The URL of NATS.
    pub nats: String,
    /// The realm.
    pub realm: Realm,
    /// A NATS credentials file.
    pub creds: Option<PathBuf>,
    /// A file with the seed of the key that signs requests.
    pub key: Option<PathBuf>,
    /// The namespace that is meant when none is named.
    pub namespace: Namespace,
    /// Where each of them came from.
    pub sources: BTreeMap<&'static str, Source>,
}

/// Decides which fleet is meant. A context named by a flag is a flag: it wins over the environment.
pub fn resolve(flags: &Flags, env: Env<'_>, contexts: &Contexts) -> Result<Target, Failure> {
    let by_flag = flags.context.clone();
    let named = by_flag
        .clone()
        .or_else(|| env("HEDDLE_CONTEXT"))
        .or_else(|| contexts.current.clone());
    let context = match &named {
        Some(name) => contexts.get(name)?.clone(),
        None => Context::default(),
    };
    let environment = from_env(env)?;
    let mut layers = vec![(Source::Flag, flags.values.clone())];
    if by_flag.is_some() {
        layers.extend([(Source::Context, context), (Source::Environment, environment)]);
    } else {
        layers.extend([(Source::Environment, environment), (Source::Context, context)]);
    }
    let mut sources = BTreeMap::new();
    let (nats_from, nats) = first(&layers, |c| c.nats.clone()).unwrap_or((Source::Default, NATS_FALLBACK.to_owned()));
    let (realm_from, realm) = match first(&layers, |c| c.realm.clone()) {
        Some(found) => found,
        None => (Source::Default, parse_name("realm", REALM_FALLBACK, Realm::parse)?),
    };
    let (namespace_from, namespace) =
        first(&layers, |c| c.namespace.clone()).unwrap_or((Source::Default, Namespace::fallback()));
    sources.extend([
        ("nats", nats_from),
        ("realm", realm_from),
        ("namespace", namespace_from),
    ]);
    // A context's credentials are for the context's server, and are not shown to another one.
    let mut creds = first(&layers, |c| c.creds.clone());
    if matches!(creds, Some((Source::Context, _))) && nats_from != Source::Context {
        creds = None;
    }
    let key = first(&layers, |c| c.key.clone());
    if let Some((from, _)) = &creds {
        sources.insert("creds", *from);
    }
    if let Some((from, _)) = &key {
        sources.insert("key", *from);
    }
    let (creds, key) = (creds.map(|(_, path)| path), key.map(|(_, path)| path));
    Ok(Target {
        context: named,
        nats,
        realm,
        creds,
        key,
        namespace,
        sources,
    })
}

fn first<T>(layers: &[(Source, Context)], field: impl Fn(&Context) -> Option<T>) -> Option<(Source, T)> {
    layers
        .iter()
        .find_map(|(source, layer)| field(layer).map(|value| (*source, value)))
}

fn from_env(env: Env<'_>) -> Result<Context, Failure> {
    Ok(Context {
        nats: env("HEDDLE_NATS"),
        realm: env("HEDDLE_REALM")
            .map(|text| parse_name("HEDDLE_REALM", &text, Realm::parse))
            .transpose()?,
        creds: env("HEDDLE_CREDS").map(PathBuf::from),
        key: env("HEDDLE_KEY").map(PathBuf::from),
        namespace: env("HEDDLE_NAMESPACE")
            .map(|text| parse_name("HEDDLE_NAMESPACE", &text, Namespace::parse))
            .transpose()?,
    })
}

fn parse_name<T, E: std::fmt::Display>(
    what: &str,
    text: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, Failure> {
    parse(text).map_err(|error| Failure::new(Exit::Usage, format!("failed to use {what}: {error}"), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(nats: &str, realm: &str) -> Context {
        Context {
            nats: Some(nats.into()),
            realm: Some(Realm::parse(realm).unwrap()),
            ..Context::default()
        }
    }

    fn contexts() -> Contexts {
        let contexts = [
            ("home", context("nats://home", "home")),
            ("work", context("nats://work", "work")),
        ];
        Contexts {
            current: Some("home".into()),
            contexts: contexts.map(|(n, c)| (n.to_owned(), c)).into(),
        }
    }

    fn resolved(flags: &Flags, env: &[(&str, &str)]) -> (String, String) {
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let target = resolve(flags, &env, &contexts()).unwrap();
        (target.nats, target.realm.to_string())
    }

    #[test]
    fn flags_win_over_the_environment_over_the_context_over_the_default() {
        let flag = Flags {
            values: context("nats://flag", "flag"),
            ..Flags::default()
        };
        let env = [("HEDDLE_NATS", "nats://env")];
        assert_eq!(resolved(&flag, &env), ("nats://flag".into(), "flag".into()));
        assert_eq!(resolved(&Flags::default(), &env), ("nats://env".into(), "home".into()));
        assert_eq!(resolved(&Flags::default(), &[]), ("nats://home".into(), "home".into()));
        let none = resolve(&Flags::default(), &|_| None, &Contexts::default()).unwrap();
        assert_eq!(
            (none.nats.as_str(), none.realm.as_str()),
            (NATS_FALLBACK, REALM_FALLBACK)
        );
        assert_eq!(none.sources["nats"], Source::Default);
    }

    #[test]
    fn a_context_named_by_a_flag_wins_over_the_environment() {
        let flag = Flags {
            context: Some("work".into()),
            ..Flags::default()
        };
        assert_eq!(
            resolved(&flag, &[("HEDDLE_NATS", "nats://env")]),
            ("nats://work".into(), "work".into())
        );
        assert_eq!(
            resolved(&Flags::default(), &[("HEDDLE_CONTEXT", "work")]),
            ("nats://work".into(), "work".into())
        );
    }

    #[test]
    fn credentials_of_a_context_are_not_shown_to_another_server() {
        let mut contexts = contexts();
        contexts.contexts.get_mut("home").unwrap().creds = Some("home.creds".into());
        let here = resolve(&Flags::default(), &|_| None, &contexts).unwrap();
        assert_eq!(here.creds, Some("home.creds".into()));
        let env = |name: &str| (name == "HEDDLE_NATS").then(|| "nats://elsewhere".to_owned());
        assert_eq!(resolve(&Flags::default(), &env, &contexts).unwrap().creds, None);
    }

    #[test]
    fn an_unknown_context_is_not_found_and_the_known_ones_are_named() {
        let flag = Flags {
            context: Some("wrok".into()),
            ..Flags::default()
        };
        let failure = resolve(&flag, &|_| None, &contexts()).unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        assert_eq!(failure.next, "known are home, work");
    }
}
