//! `heddle key`: key pairs for realms and for people.

use crate::context::write_private;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::read_key;
use crate::output::Output;
use heddle_protocol::sign::SigningKey;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Flags of `key`.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    verb: KeyVerb,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What to do with a key.
#[derive(Debug, clap::Subcommand)]
pub enum KeyVerb {
    /// Make a key pair: its secret half goes to a file that only you can read
    New {
        /// The file to write; it must not be there yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Show the public half of a key
    Show {
        /// The file with the secret half
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Clone, Serialize)]
struct Shown {
    file: PathBuf,
    public: String,
}

/// Makes or shows a key.
pub fn run(args: &KeyArgs, output: &Output) -> Result<(), Failure> {
    let (file, key) = match &args.verb {
        KeyVerb::New { file } if file.exists() => {
            let message = format!("failed to make key {}: the file exists", file.display());
            return Err(Failure::new(
                Exit::Refused,
                message,
                "a lost key cannot be made again: choose another file",
            ));
        }
        KeyVerb::New { file } => (file, make(file)?),
        KeyVerb::Show { file } => (file, read_key(file)?),
    };
    output.value(
        &Shown {
            file: file.clone(),
            public: key.public(),
        },
        |shown, _| format!("{}\n", shown.public),
    )
}

/// Makes a key pair and writes its secret half.
pub fn make(file: &Path) -> Result<SigningKey, Failure> {
    let key = SigningKey::generate();
    let seed = key
        .seed()
        .map_err(|error| Failure::new(Exit::Failed, error.to_string(), ""))?;
    write_private(file, format!("{seed}\n").as_bytes()).map_err(|error| Failure::file("write key", file, &error))?;
    Ok(key)
}
