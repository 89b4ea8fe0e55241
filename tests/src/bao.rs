//! An OpenBao of a test's own: unsealed, in memory, with a key-value engine of version 2 at `secret`.

use crate::process::{Process, Recipe};
use crate::until::eventually;
use crate::{binary, http, port};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Unpacking its plugins on a busy machine takes it a while.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// The token of whoever may do everything. A server in memory, reachable from this machine only, has no other secrets.
const ROOT_TOKEN: &str = "root-of-a-test";

/// An OpenBao server.
#[derive(Debug)]
pub struct Bao {
    process: Process,
    address: SocketAddr,
    token_file: PathBuf,
}

impl Bao {
    /// Starts a server, keeps its token in `folder`, and waits until it answers.
    pub async fn start(folder: &Path, log: &Path) -> Result<Self> {
        let address = port::free()?;
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let token_file = folder.join("bao-token");
        std::fs::write(&token_file, ROOT_TOKEN).context("failed to write the token")?;
        let mut recipe = Recipe {
            name: "bao".to_owned(),
            program: binary::bao()?,
            args: ["server", "-dev", "-dev-no-store-token"].map(Into::into).to_vec(),
            env: vec![("HOME".to_owned(), folder.to_string_lossy().into_owned())],
            log: log.to_owned(),
        };
        recipe.args.push(format!("-dev-root-token-id={ROOT_TOKEN}").into());
        recipe.args.push(format!("-dev-listen-address={address}").into());
        let bao = Self {
            process: Process::start(recipe)?,
            address,
            token_file,
        };
        bao.answers().await?;
        Ok(bao)
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The file with the token of whoever may do everything.
    pub fn token_file(&self) -> &Path {
        &self.token_file
    }

    /// The process, for faults.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Writes a new version of the secret at `secret/<path>`.
    pub async fn put(&self, path: &str, fields: Value) -> Result<()> {
        self.ask(
            "POST",
            &format!("/v1/secret/data/{path}"),
            Some(json!({ "data": fields })),
        )
        .await
        .map(|_| ())
    }

    /// Sends any request, with its token.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let host = self.address.to_string();
        let headers = [("host", host.as_str()), ("X-Vault-Token", ROOT_TOKEN)];
        let answer = http::send_with(self.address, method, path, &headers, body.into()).await?;
        ensure!(
            (200..300).contains(&answer.status),
            "bao answers {} on {path}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        match answer.body.is_empty() {
            true => Ok(Value::Null),
            false => {
                serde_json::from_slice(&answer.body).with_context(|| format!("failed to read bao's answer on {path}"))
            }
        }
    }

    async fn answers(&self) -> Result<()> {
        eventually(ANSWERS_WITHIN, "bao answers", async || {
            // The engine is mounted a moment after the server is unsealed.
            self.ask("GET", "/v1/secret/config", None).await.map(|_| ())
        })
        .await
    }
}
