//! Housekeeping: what nobody names is collected, verified images are kept, and backups are made and taken back.

use super::{Done, Scheduler};
use crate::change::{Asker, Batch, Change, Decided};
use crate::outside::off_the_loop;
use crate::serve::{Ask, plain};
use crate::store::{Image, read_image, write_image};
use bytes::Bytes;
use heddle_protocol::api::apply::Applied;
use heddle_protocol::api::realm::{Backup, BackupChunk};
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::defaults::CHUNK_BYTES;
use heddle_protocol::digest::Digest;
use heddle_protocol::id::HostId;
use heddle_protocol::key::Key;
use heddle_protocol::time::Mono;
use heddle_scheduler_core::{Dirty, Fact, apply};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// How often the state is written to a local image, in milliseconds (D8).
const IMAGE_EVERY_MS: u64 = 60_000;
/// How often collecting is looked at, in milliseconds.
const COLLECT_EVERY_MS: u64 = 60_000;
/// How long something must have been unnamed before it is collected, in milliseconds: a day (D8).
const UNNAMED_MS: u64 = 86_400_000;

/// What housekeeping remembers.
pub(super) struct Keep {
    /// Whether staged changes are to be unpacked when there is nothing else to do.
    pub(super) fold: bool,
    /// Whether anything was committed since the last image.
    pub(super) committed: bool,
    /// Whether the state must be read again from the store's image: it was replaced.
    pub(super) reload: bool,
    image_at: Mono,
    collect_at: Mono,
    unnamed: BTreeMap<Key, Mono>,
    artifacts_named: BTreeMap<Digest, Mono>,
    backup: Option<BackupImage>,
}

/// An image made for a client, which fetches it piece by piece.
pub(crate) struct BackupImage {
    digest: Digest,
    bytes: Bytes,
    commit: u64,
}

impl Keep {
    pub(super) fn new() -> Self {
        Self {
            // A scheduler before this one may have left staged changes behind.
            fold: true,
            committed: true,
            reload: false,
            image_at: Mono(IMAGE_EVERY_MS),
            collect_at: Mono(COLLECT_EVERY_MS),
            unnamed: BTreeMap::new(),
            artifacts_named: BTreeMap::new(),
            backup: None,
        }
    }
}

impl Scheduler {
    pub(super) fn keep_house(&mut self) {
        let now = self.now();
        if std::mem::take(&mut self.keep.reload) {
            self.reload();
        }
        if now >= self.keep.image_at {
            self.keep.image_at = now.plus(IMAGE_EVERY_MS);
            if std::mem::take(&mut self.keep.committed) {
                self.write_image();
            }
        }
        if now >= self.keep.collect_at {
            self.keep.collect_at = now.plus(COLLECT_EVERY_MS);
            self.collect(now);
        }
    }

    /// Writes the verified state beside the loop. A failure is told and tried again with the next image.
    fn write_image(&self) {
        let (store, path, realm) = (self.store.clone(), self.image_path(), self.options.realm.clone());
        let outside = Arc::clone(&self.outside);
        self.beside(async move {
            let Some(image) = store.image().await else { return };
            if let Err(error) = outside.keep_image(path, realm, image).await {
                tracing::warn!(error, "the local image could not be written");
            }
        });
    }

    fn image_path(&self) -> PathBuf {
        self.options.data.join(format!("{}.image", self.options.realm))
    }

    /// Collects records and artifacts that nothing has named for a day.
    fn collect(&mut self, now: Mono) {
        let unnamed = apply::collect_garbage(&self.world, self.outside.wall_clock());
        let unnamed: BTreeSet<Key> = unnamed.into_iter().map(|write| write.key).collect();
        self.keep.unnamed.retain(|key, _| unnamed.contains(key));
        for key in unnamed {
            self.keep.unnamed.entry(key).or_insert(now);
        }
        let due = self
            .keep
            .unnamed
            .iter()
            .filter(|(_, since)| now.since(**since) >= UNNAMED_MS);
        let due: BTreeSet<Key> = due.map(|(key, _)| key.clone()).collect();
        if !due.is_empty() {
            // A full queue has more urgent things in it; the next look is a minute away.
            let _ = self.queue(Change::Collect(due).unasked());
        }
        self.collect_artifacts(now);
    }

    fn collect_artifacts(&mut self, now: Mono) {
        let records = self.world.workloads.values();
        let kept = records.flat_map(|w| {
            w.artifacts
                .values()
                .chain(w.history.iter().flat_map(|h| h.artifacts.values()))
        });
        let run = self
            .world
            .templates
            .values()
            .flat_map(|t| t.components.iter().map(|c| c.artifact));
        for digest in kept.map(|info| info.digest).chain(run) {
            self.keep.artifacts_named.insert(digest, now);
        }
        self.keep
            .artifacts_named
            .retain(|_, named| now.since(*named) < UNNAMED_MS);
        // A scheduler that has watched for less than a day cannot know what was named a day ago.
        if now.0 < UNNAMED_MS {
            return;
        }
        let (pool, compile) = (self.pool.clone(), self.compile.clone());
        let named = self.keep.artifacts_named.keys().copied().collect();
        self.beside(async move {
            match pool.collect(&named).await {
                Ok(0) => {}
                Ok(gone) => tracing::info!(gone, "artifacts that nothing names were deleted"),
                Err(e) => tracing::warn!(error = %e, "artifacts could not be collected"),
            }
            match compile.collect(&named).await {
                Ok(0) => {}
                Ok(gone) => tracing::info!(gone, "native code of such artifacts was deleted"),
                Err(e) => tracing::warn!(error = %e, "native code could not be collected"),
            }
        });
    }

    /// Starts a backup, or gives more of the one that was begun.
    pub(super) fn take_backup_request(&mut self, ask: Ask) {
        let body = match ask.body::<Backup>() {
            Ok(body) => body,
            Err(e) => return self.outbox.answer(ask.reply, Err(e)),
        };
        if let Some(wanted) = body.image {
            let answer = match self.keep.backup.as_ref().filter(|backup| backup.digest == wanted) {
                Some(backup) => backup.chunk(body.offset),
                None => Err(ApiError::new(
                    ErrorCode::NotFound,
                    format!("failed to find backup {}: a newer one was begun", wanted.short()),
                    "start the backup again",
                )),
            };
            return self.outbox.answer(ask.reply, answer);
        }
        let (store, done, realm) = (self.store.clone(), self.done.clone(), self.options.realm.clone());
        let path = self
            .options
            .data
            .join(format!("{realm}.{}.backup", uuid::Uuid::now_v7().simple()));
        self.beside(async move {
            let image = match store.image().await {
                Some(image) => {
                    let made = off_the_loop(move || make_backup(&path, realm.as_str(), &image)).await;
                    made.unwrap_or_else(|e| Err(e.to_string()))
                }
                None => Err("the store has no verified image".to_owned()),
            };
            let _ = done
                .send(Done::BackedUp {
                    ask: Box::new(ask),
                    image,
                })
                .await;
        });
    }

    pub(super) fn take_backup(&mut self, ask: &Ask, image: Result<BackupImage, String>) {
        let answer = match image {
            Ok(image) => {
                let chunk = image.chunk(0);
                self.keep.backup = Some(image);
                chunk
            }
            Err(why) => Err(ApiError::new(
                ErrorCode::Unavailable,
                format!("failed to make a backup: {why}"),
                "check the scheduler's data folder and its log",
            )),
        };
        self.outbox.answer(ask.reply.clone(), answer);
    }

    pub(super) fn take_restore_request(&mut self, ask: Ask) {
        let (done, realm) = (self.done.clone(), self.options.realm.clone());
        let path = self
            .options
            .data
            .join(format!("{realm}.{}.restore", uuid::Uuid::now_v7().simple()));
        self.beside(async move {
            let bytes = ask.attachment.clone();
            let read = off_the_loop(move || read_backup(&path, realm.as_str(), &bytes)).await;
            let image = read.unwrap_or_else(|e| Err(e.to_string()));
            let _ = done
                .send(Done::RestoreRead {
                    ask: Box::new(ask),
                    image,
                })
                .await;
        });
    }

    pub(super) fn take_restore(&mut self, ask: Box<Ask>, image: Result<Image, String>) {
        let checked = image.and_then(|image| {
            // A state that this scheduler cannot read must not become the state.
            crate::lead::world_of(&image, crate::lead::liveness(&self.options)).map_err(|e| format!("{e:#}"))?;
            Ok(image)
        });
        match checked {
            Err(why) => {
                let next = "use a file that `heddle backup` wrote for this realm";
                let error = ApiError::new(ErrorCode::BadRequest, format!("failed to take the backup: {why}"), next);
                self.answer(&ask, Err(error));
            }
            Ok(_) if self.committing.is_some() || self.keep.reload => {
                let message = "failed to restore: another commit is under way";
                self.answer(&ask, Err(ApiError::new(ErrorCode::Unavailable, message, "try again")));
            }
            Ok(image) => {
                let applied = Applied {
                    // The store goes on above both.
                    commit: self.world.head.n.max(image.head.n).saturating_add(1),
                    objects: Vec::new(),
                    changes: Vec::new(),
                    steps: Vec::new(),
                    waiting: Vec::new(),
                    notes: vec![format!("the state is that of commit {} again", image.head.n)],
                };
                let answer = serde_json::to_value(applied).unwrap_or_default();
                let decided = vec![Decided {
                    asker: Asker::Client(ask),
                    answer,
                }];
                self.start_rewrite(
                    image,
                    Batch {
                        decided,
                        ..Batch::default()
                    },
                );
            }
        }
    }

    /// Reads the state again from the store's verified image: it was replaced as a whole.
    pub(super) fn reload(&mut self) {
        let Some(image) = futures::FutureExt::now_or_never(self.store.image()).flatten() else {
            self.keep.reload = true;
            return;
        };
        match crate::lead::world_of(&image, crate::lead::liveness(&self.options)) {
            Ok(world) => {
                // What hosts said is still true, and who judges them is still the same. A host that the backup does
                // not know, or knows by another key, has to join again.
                let before = std::mem::replace(&mut self.world, world);
                let same = |host: &HostId| match (self.world.hosts.get(host), before.hosts.get(host)) {
                    (Some(now), Some(before)) => now.public_key == before.public_key,
                    _ => false,
                };
                let hosts: BTreeSet<HostId> = before.hosts.keys().filter(|host| same(host)).cloned().collect();
                self.world.take_over(&before, |host| hosts.contains(host));
                let now = self.now();
                let noted = self.world.apply(Fact::TimePassed { now });
                self.follow(noted);
                self.dirty = Dirty::All;
                self.replan = true;
                self.keep.committed = true;
                self.refresh_specs(None);
            }
            Err(e) => {
                tracing::error!(error = %e, "the restored state cannot be read; nothing is decided from it");
                self.keep.reload = true;
            }
        }
    }
}

impl BackupImage {
    fn chunk(&self, offset: u64) -> Result<(serde_json::Value, Bytes), ApiError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let end = (start + CHUNK_BYTES).min(self.bytes.len());
        let chunk = BackupChunk {
            image: self.digest,
            bytes: self.bytes.len() as u64,
            commit: self.commit,
        };
        plain(&chunk).map(|(head, _)| (head, self.bytes.slice(start..end)))
    }
}

fn make_backup(path: &std::path::Path, realm: &str, image: &Image) -> Result<BackupImage, String> {
    write_image(path, realm, image).map_err(|e| format!("failed to {e}"))?;
    let bytes = std::fs::read(path).map_err(|e| e.to_string());
    // The file was only a way to the bytes; the client keeps them.
    let _ = std::fs::remove_file(path);
    let bytes = Bytes::from(bytes?);
    Ok(BackupImage {
        digest: Digest::of(&bytes),
        bytes,
        commit: image.head.n,
    })
}

fn read_backup(path: &std::path::Path, realm: &str, bytes: &[u8]) -> Result<Image, String> {
    std::fs::write(path, bytes).map_err(|e| e.to_string())?;
    let image = read_image(path, realm).map_err(|e| e.to_string());
    let _ = std::fs::remove_file(path);
    image
}
