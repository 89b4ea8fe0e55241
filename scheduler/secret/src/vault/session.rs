//! The token that requests carry: out of a file, or logged in for, renewed while it can be, and had anew when it is good
//! no longer.

use super::VaultAuth;
use super::wire::Wire;
use crate::backend::BackendError;
use crate::field::to_json;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// The largest token or secret id, in bytes.
const TOKEN_BYTES_MAX: u64 = 16 << 10;

/// A token, wiped when it is dropped.
type Token = Zeroizing<String>;

/// Who asks, and the token that stands for it at the moment.
pub(super) struct Session {
    auth: VaultAuth,
    held: Mutex<Option<Held>>,
}

struct Held {
    token: Token,
    /// When a part of its life is over; none where it lives on.
    renew_at: Option<Instant>,
    ends_at: Option<Instant>,
    renewable: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Login<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Deserialize)]
struct Granted {
    client_token: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

impl Session {
    pub(super) fn new(auth: VaultAuth) -> Result<Self, BackendError> {
        if let VaultAuth::AppRole { mount, .. } = &auth {
            super::segments(mount)?;
        }
        Ok(Self {
            auth,
            held: Mutex::new(None),
        })
    }

    /// A token to ask with.
    pub(super) async fn token(&self, wire: &Wire) -> Result<Token, BackendError> {
        // Held over the login: whoever comes meanwhile waits for the same one.
        let mut held = self.held.lock().await;
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match held.as_mut() {
            Some(good) if !is_due(good.renew_at) => return Ok(good.token.clone()),
            Some(aging) if aging.renewable && !is_due(aging.ends_at) => {
                if let Ok(renewed) = renew(wire, &aging.token).await {
                    return Ok(held.insert(renewed).token.clone());
                }
            }
            _ => {}
        }
        // An aging token that could not be renewed is still good: it serves when no new one can be had either.
        match self.obtain(wire).await {
            Ok(fresh) => Ok(held.insert(fresh).token.clone()),
            Err(e) => match held.as_ref() {
                Some(aging) if !is_due(aging.ends_at) => Ok(aging.token.clone()),
                _ => Err(e),
            },
        }
    }

    /// Another token, if the one that was denied is good no longer; none if it is good, and the denial meant.
    pub(super) async fn after_denial(&self, wire: &Wire, denied: &str) -> Result<Option<Token>, BackendError> {
        let mut held = self.held.lock().await;
        if let Some(other) = held.as_ref().filter(|held| held.token.as_str() != denied) {
            return Ok(Some(other.token.clone()));
        }
        if matches!(self.auth, VaultAuth::AppRole { .. }) {
            let url = wire.url(["auth", "token", "lookup-self"])?;
            match wire.send(Method::GET, url, Some(denied), None).await {
                Err(BackendError::Denied(_)) => {}
                Ok(_) => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        *held = None;
        let fresh = self.obtain(wire).await?;
        let is_other = fresh.token.as_str() != denied;
        let token = held.insert(fresh).token.clone();
        Ok(is_other.then_some(token))
    }

    async fn obtain(&self, wire: &Wire) -> Result<Held, BackendError> {
        match &self.auth {
            VaultAuth::TokenFile(path) => Ok(Held {
                token: read_file(path).await?,
                renew_at: None,
                ends_at: None,
                renewable: false,
            }),
            VaultAuth::AppRole {
                mount,
                role_id,
                secret_id_file,
            } => {
                let secret_id = read_file(secret_id_file).await?;
                let login = Login {
                    role_id,
                    secret_id: &secret_id,
                };
                let url = wire.url(["auth"].into_iter().chain(mount.split('/')).chain(["login"]))?;
                let answer = wire.send(Method::POST, url, None, Some(to_json(&login)?)).await;
                let answer = answer.map_err(|e| match e {
                    // What a wrong role or secret id is answered with.
                    BackendError::Malformed(why) => BackendError::Denied(format!("the login is not taken: {why}")),
                    e => e,
                })?;
                Ok(held(answer.read_auth()?))
            }
        }
    }
}

async fn renew(wire: &Wire, token: &str) -> Result<Held, BackendError> {
    let url = wire.url(["auth", "token", "renew-self"])?;
    let answer = wire.send(Method::POST, url, Some(token), None).await?;
    Ok(held(answer.read_auth()?))
}

fn held(granted: Granted) -> Held {
    let now = Instant::now();
    let lease = (granted.lease_duration > 0).then(|| Duration::from_secs(granted.lease_duration));
    // At two thirds of its life: what is left covers a server that is away for a while.
    let at = |share: f64| lease.and_then(|lease| now.checked_add(lease.mul_f64(share)));
    Held {
        token: Zeroizing::new(granted.client_token),
        renew_at: at(2.0 / 3.0),
        ends_at: at(1.0),
        renewable: granted.renewable,
    }
}

/// A token or secret id out of a file, without the line's end.
async fn read_file(path: &Path) -> Result<Token, BackendError> {
    let unreadable = |e: std::io::Error| BackendError::Denied(format!("{} cannot be read: {e}", path.display()));
    let bytes = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
    if bytes > TOKEN_BYTES_MAX {
        return Err(BackendError::Malformed(format!(
            "{} is too large for a token",
            path.display()
        )));
    }
    let text = Zeroizing::new(tokio::fs::read_to_string(path).await.map_err(unreadable)?);
    match text.trim() {
        "" => Err(BackendError::Denied(format!("{} is empty", path.display()))),
        token => Ok(Zeroizing::new(token.to_owned())),
    }
}
