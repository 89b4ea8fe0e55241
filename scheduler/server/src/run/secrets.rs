//! Secrets in the loop: what is missing is told once, and newer versions are looked for and taken.

use super::{Done, Scheduler};
use crate::change::Change;
use crate::push::Pushed;
use crate::secret::Missing;
use heddle_protocol::digest::Digest;
use heddle_protocol::id::HostId;
use heddle_protocol::time::Mono;
use heddle_scheduler_core::apply;
use std::collections::{BTreeMap, BTreeSet};

/// What the loop remembers of secrets.
#[derive(Debug, Default)]
pub(super) struct Follow {
    /// When newer versions are looked for again.
    look_at: Mono,
    /// Whether they are being looked for.
    looking: bool,
    /// The newest versions, as the last look found them.
    newest: BTreeMap<Digest, String>,
    /// The hosts that each secret is missing on: one event tells that it is, and one that it is no longer.
    missing: BTreeMap<Digest, (Missing, BTreeSet<HostId>)>,
}

impl Scheduler {
    /// Asks backends, beside the loop, for the newest versions of all secrets that name none.
    pub(super) fn look_at_secrets(&mut self) {
        let now = self.now();
        if self.follow.looking || now < self.follow.look_at || !self.is_leading() {
            return;
        }
        // With jitter, so that several realms do not ask one backend at the same time for ever.
        let pause = self.options.secrets_poll_ms as f64 * (0.75 + self.outside.chance() / 2.0);
        self.follow.look_at = now.plus((pause as u64).max(1));
        let followed = apply::secrets_followed(&self.world);
        if followed.is_empty() {
            return;
        }
        self.follow.looking = true;
        let (secrets, done) = (self.secrets.clone(), self.done.clone());
        self.beside(async move {
            let newest = secrets.newest_of(followed).await;
            let _ = done.send(Done::SecretsLookedAt { newest }).await;
        });
    }

    /// Takes in which versions are the newest. Where any is news, the next commit decides what follows from it.
    pub(super) fn take_newest_secrets(&mut self, newest: BTreeMap<Digest, String>) {
        self.follow.looking = false;
        let held = self.world.workloads.values().flat_map(|record| &record.secret_versions);
        let news = news_of(held, &self.follow.newest, &newest);
        self.follow.newest = newest.clone();
        let is_queued = self
            .queue
            .iter()
            .any(|queued| matches!(queued.change, Change::RenewSecrets(_)));
        if news == 0 || is_queued {
            return;
        }
        tracing::info!(secrets = news, "newer versions of secrets are taken");
        // All versions that are known, so that what is decided rests on nothing that must be asked again. A full queue
        // has more urgent things in it; the next look comes.
        if self.queue(Change::RenewSecrets(newest).unasked()).is_err() {
            self.follow.newest.clear();
        }
    }

    /// Tells when a secret is missing on the first host, and when it is missing on none any more.
    pub(super) fn note_missing_secrets(&mut self, pushed: &Pushed) {
        for (id, missing) in &pushed.secrets.missing {
            let entry = self.follow.missing.entry(*id);
            let (_, hosts) = entry.or_insert_with(|| (missing.clone(), BTreeSet::new()));
            let is_first = hosts.is_empty();
            hosts.insert(pushed.host.clone());
            if is_first {
                let message = format!(
                    "secret {} of backend {} cannot be had: {}; what needs it waits on host {}, and all else goes on",
                    missing.secret.path, missing.secret.from, missing.why, pushed.host
                );
                self.note("secret-missing", about(missing), message);
            }
        }
        // What the host was given meanwhile, or is not to have any more.
        self.no_longer_missing(&pushed.host, |id| pushed.secrets.missing.contains_key(id));
    }

    /// Forgets all that is known of a host's secrets.
    pub(super) fn forget_secrets_of(&mut self, host: &HostId) {
        self.secrets.forget(host);
        self.no_longer_missing(host, |_| false);
    }

    fn no_longer_missing(&mut self, host: &HostId, is_missing: impl Fn(&Digest) -> bool) {
        let mut back = Vec::new();
        self.follow.missing.retain(|id, (missing, hosts)| {
            if !is_missing(id) {
                hosts.remove(host);
            }
            if hosts.is_empty() {
                back.push(missing.clone());
            }
            !hosts.is_empty()
        });
        for missing in back {
            let (path, from) = (&missing.secret.path, &missing.secret.from);
            let message = format!("secret {path} of backend {from} is missing on no host any more");
            self.note("secret-back", about(&missing), message);
        }
    }
}

/// How many of the newest versions are news, to any workload or since the last look.
fn news_of<'a>(
    held: impl Iterator<Item = (&'a Digest, &'a String)>,
    last: &BTreeMap<Digest, String>,
    newest: &BTreeMap<Digest, String>,
) -> usize {
    let (mut known, mut news) = (BTreeSet::new(), BTreeSet::new());
    for (id, version) in held {
        known.insert(id);
        // A renewal that was refused is tried again with each look: some workload still holds another version.
        if newest.get(id).is_some_and(|newest| newest != version) {
            news.insert(id);
        }
    }
    // Platforms keep no list of versions: what was seen last is all that is known of them.
    let of_platforms = newest
        .iter()
        .filter(|(id, version)| !known.contains(id) && last.get(id) != Some(version));
    news.extend(of_platforms.map(|(id, _)| id));
    news.len()
}

fn about(missing: &Missing) -> String {
    match &missing.secret.workload {
        Some(workload) => workload.to_string(),
        None => format!("secret {}", missing.secret.path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_news_to_whoever_holds_another_and_to_platforms_once() {
        let (a, b, c) = (Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c"));
        let versions = |list: &[(Digest, &str)]| -> BTreeMap<Digest, String> {
            list.iter().map(|(id, version)| (*id, (*version).to_owned())).collect()
        };
        let (one, two) = (versions(&[(a, "1"), (b, "1")]), versions(&[(a, "2")]));
        let held = || one.iter().chain(&two);
        let news =
            |last: &[(Digest, &str)], newest: &[(Digest, &str)]| news_of(held(), &versions(last), &versions(newest));
        assert_eq!(news(&[], &[(b, "1")]), 0);
        assert_eq!(
            news(&[(a, "2")], &[(a, "2")]),
            1,
            "one workload holds the old one still"
        );
        assert_eq!(news(&[], &[(c, "5")]), 1);
        assert_eq!(news(&[(c, "5")], &[(c, "5")]), 0);
        assert_eq!(news(&[(c, "5")], &[]), 0, "a backend that is away has no news");
    }
}
