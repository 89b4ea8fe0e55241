//! Whether this scheduler still leads: the newest head is read now and then, so that one that has nothing to commit notices
//! too that another one took over. Until then it would go on pushing what agents refuse, and answering what is old.
//!
//! In: time. Out: nothing, or the reason to stop.

use super::{Done, Scheduler};
use crate::store::{Head, StoreError};
use heddle_protocol::mutant::mutant;
use heddle_protocol::time::Mono;

/// How often the head is read, in milliseconds; with jitter.
const LOOK_EVERY_MS: u64 = 2_000;

/// What the loop remembers of it.
#[derive(Debug, Default)]
pub(super) struct Look {
    at: Mono,
    looking: bool,
}

impl Scheduler {
    /// Reads the newest head beside the loop. A commit under way would find out by itself.
    pub(super) fn look_at_head(&mut self) {
        let now = self.now();
        let waits = self.look.looking || now < self.look.at || self.committing.is_some();
        if waits || !self.link_state.borrow().up || mutant("idle-leader-never-looks") {
            return;
        }
        let pause = LOOK_EVERY_MS as f64 * (0.75 + self.outside.chance() / 2.0);
        self.look.at = now.plus(pause as u64);
        self.look.looking = true;
        let (store, done, known) = (self.store.clone(), self.done.clone(), self.world.head.n);
        self.beside(async move {
            let head = store.read_head().await.map(|head| head.map(|(head, _)| head));
            let _ = done.send(Done::HeadSeen { known, head }).await;
        });
    }

    /// Takes in the newest head. `known` is the commit that was known when it was asked for: the answer may be older than
    /// what is known by now, and never older than that.
    pub(super) fn take_head(&mut self, known: u64, head: Result<Option<Head>, StoreError>) -> anyhow::Result<()> {
        self.look.looking = false;
        match head {
            Ok(Some(head)) if head.epoch > self.world.head.epoch => anyhow::bail!(
                "scheduler {} took over at commit {} (epoch {}); this one stops, so that one decides",
                head.leader_id,
                head.n,
                head.epoch
            ),
            Ok(Some(head)) if head.n < known => {
                anyhow::bail!(
                    "the store went back from commit {known} to {}; this scheduler stops, and reads it again",
                    head.n
                )
            }
            Ok(None) => anyhow::bail!("the store lost its head; this scheduler stops, and decides nothing from it"),
            Ok(Some(_)) => Ok(()),
            Err(e) => {
                // It is read again soon; a commit says what it means for clients.
                tracing::debug!(error = %e, "the head could not be read");
                Ok(())
            }
        }
    }
}
