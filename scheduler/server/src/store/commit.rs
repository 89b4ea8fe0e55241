//! Taking over and committing: sending a batch until its outcome is certain, or saying that it is not.
//!
//! In: a commit. Out: a [`CommitOutcome`]. An attempt without a clear answer is looked up at the stream's leader by its
//! batch id, in `head` and, where others have committed since, in its audit record. Every attempt stores the same bytes
//! behind the same fence, so at most one of them can ever be stored, however late it arrives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heddle_protocol::mutant::mutant;
use tokio::time::{Instant, sleep};

use super::batch::{self, Prepared, Wish};
use super::chain::{Chain, Store};
use super::content::Step;
use super::error::{Cause, StoreError};
use super::log::BatchAnswer;
use super::record::{Commit, CommitKind, CommitOutcome, Head};
use super::stage::Block;

/// Attempts begin this far apart and grow to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(25);
/// A server that comes back is noticed within this time.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// What the leader's records say about a batch whose answer is missing.
enum Finding {
    /// It is stored; the sequence is that of its head.
    Landed(u64),
    /// It is not, and cannot be any more.
    Lost(Head),
    /// It is not, but it still could be.
    Unmoved,
}

impl Store {
    /// Becomes the leader: moves the head to the next epoch. Every commit of an older epoch is impossible from then on.
    ///
    /// The verified image must be the newest; if the head has moved on, the answer is a conflict and the store must be
    /// loaded again (or the feed followed a little further).
    pub async fn take_over(&self, leader_id: &str) -> Result<CommitOutcome, StoreError> {
        let mut chain = self.inner.chain.lock().await;
        chain.check_certain()?;
        if !chain.loaded {
            return Err(StoreError::NotLoaded);
        }
        if let Some(conflict) = self.compare_head(&chain).await? {
            return Ok(conflict);
        }
        let wish = Wish {
            kind: CommitKind::TakeOver,
            epoch: chain.head.epoch + u64::from(!mutant("take-over-in-the-same-epoch")),
            n: chain.head.n + 1,
            leader_id: leader_id.to_owned(),
            batch_id: self.inner.wire.log.new_batch_id(),
            audit: Bytes::new(),
        };
        let prepared = batch::prepare(
            &chain.tip(),
            &chain.content,
            wish,
            Vec::new(),
            Vec::new(),
            self.inner.options.audit_ttl,
        )?;
        self.send(&mut chain, prepared).await
    }

    /// Stores a change: all of it, fenced, or none.
    ///
    /// [`StoreError::Unknown`] leaves the commit in doubt: call [`Store::settle`] until it says what became of it.
    pub async fn commit(&self, commit: Commit) -> Result<CommitOutcome, StoreError> {
        commit.check()?;
        let mut chain = self.inner.chain.lock().await;
        chain.check_leading()?;
        let (steps, blocks) = batch::steps_of(&chain.content, chain.head.n + 1, commit.writes)?;
        self.commit_steps(&mut chain, CommitKind::Change, steps, blocks, commit.audit)
            .await
    }

    /// Finds out what became of a commit whose outcome was unknown, by storing it again behind the same fence.
    ///
    /// `None` if nothing is in doubt. It goes on for as long as one commit may take, and can be called again.
    pub async fn settle(&self) -> Result<Option<CommitOutcome>, StoreError> {
        let mut chain = self.inner.chain.lock().await;
        match chain.doubt.clone() {
            None => Ok(None),
            Some(prepared) => self.drive(&mut chain, prepared, true).await.map(Some),
        }
    }

    /// Commits steps under the leader's present epoch.
    pub(crate) async fn commit_steps(
        &self,
        chain: &mut Chain,
        kind: CommitKind,
        steps: Vec<Step>,
        blocks: Vec<Block>,
        audit: Bytes,
    ) -> Result<CommitOutcome, StoreError> {
        let wish = Wish {
            kind,
            epoch: chain.head.epoch,
            n: chain.head.n + 1,
            leader_id: chain.head.leader_id.clone(),
            batch_id: self.inner.wire.log.new_batch_id(),
            audit,
        };
        let prepared = batch::prepare(
            &chain.tip(),
            &chain.content,
            wish,
            steps,
            blocks,
            self.inner.options.audit_ttl,
        )?;
        self.send(chain, prepared).await
    }

    /// Publishes a batch's blocks, then sends it.
    pub(crate) async fn send(&self, chain: &mut Chain, prepared: Prepared) -> Result<CommitOutcome, StoreError> {
        if !prepared.blocks.is_empty() {
            self.inner
                .wire
                .log
                .publish_all(prepared.blocks.iter().map(batch::block_message).collect())
                .await?;
            for block in &prepared.blocks {
                chain.content.apply(&Step::Stage {
                    digest: block.digest.clone(),
                });
            }
        }
        self.drive(chain, Arc::new(prepared), false).await
    }

    /// Sends a batch until its outcome is certain. `unclear` tells whether an earlier attempt may still arrive.
    async fn drive(
        &self,
        chain: &mut Chain,
        prepared: Arc<Prepared>,
        mut unclear: bool,
    ) -> Result<CommitOutcome, StoreError> {
        let deadline = Instant::now() + self.inner.options.give_up_after;
        let mut pause = PAUSE_MIN;
        chain.doubt = Some(prepared.clone());
        loop {
            let why: Cause = match self.inner.wire.publish_batch(&prepared.messages, prepared.fence).await {
                BatchAnswer::Stored { seq } => return chain.landed(&prepared, seq),
                BatchAnswer::Unclear { .. } if mutant("unknown-is-success") => {
                    return chain.landed(&prepared, prepared.fence + prepared.messages.len() as u64);
                }
                BatchAnswer::Refused { code, description } if !unclear => {
                    chain.doubt = None;
                    let doing = format!("commit {}", prepared.head.n);
                    return Err(StoreError::Refused {
                        doing,
                        code,
                        description,
                        hint: super::jetstream::hint(code),
                    });
                }
                answer => {
                    unclear |= matches!(answer, BatchAnswer::Unclear { .. });
                    let may_have_moved = unclear || matches!(answer, BatchAnswer::WrongSequence);
                    let why = words(answer);
                    match may_have_moved {
                        false => why,
                        true => match self.look_up(&prepared).await {
                            Ok(Finding::Landed(seq)) => return chain.landed(&prepared, seq),
                            Ok(Finding::Lost(_)) if mutant("lost-fence-is-success") => {
                                return chain.landed(&prepared, prepared.fence + prepared.messages.len() as u64);
                            }
                            Ok(Finding::Lost(head)) => {
                                chain.lose();
                                return Ok(CommitOutcome::Conflict { head });
                            }
                            Ok(Finding::Unmoved) => why,
                            Err(StoreError::Unavailable { source, .. }) => source,
                            Err(error) => {
                                chain.lose();
                                return Err(error);
                            }
                        },
                    }
                }
            };
            if Instant::now() + pause >= deadline {
                return Err(chain.give_up(&prepared, unclear, why));
            }
            tracing::debug!(n = prepared.head.n, %why, "try the commit again");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Looks a batch up by its id at the stream's leader.
    async fn look_up(&self, prepared: &Prepared) -> Result<Finding, StoreError> {
        let rolled_back = |found: String| StoreError::RolledBack {
            expected: prepared.head.n - 1,
            found,
        };
        let (head, seq) = match self.inner.wire.head().await? {
            None if prepared.fence == 0 => return Ok(Finding::Unmoved),
            None => return Err(rolled_back("missing".into())),
            Some(found) => found,
        };
        if head.batch_id == prepared.head.batch_id {
            return Ok(Finding::Landed(seq));
        }
        if seq == prepared.fence {
            return Ok(Finding::Unmoved);
        }
        if seq < prepared.fence {
            return Err(rolled_back(format!("commit {}", head.n)));
        }
        // Others have committed since. Whether ours is below theirs, its audit record tells; the head followed it at once.
        match self.inner.wire.last(&format!("audit.{}", prepared.head.n)).await? {
            Some(record)
                if record
                    .label
                    .as_ref()
                    .is_some_and(|label| label.batch_id == prepared.head.batch_id) =>
            {
                Ok(Finding::Landed(record.seq + 1))
            }
            _ => Ok(Finding::Lost(head)),
        }
    }

    /// Compares the known head with the one at the stream's leader before building on it.
    pub(crate) async fn compare_head(&self, chain: &Chain) -> Result<Option<CommitOutcome>, StoreError> {
        match self.inner.wire.head().await? {
            Some((_, seq)) if seq == chain.head_seq => Ok(None),
            None if chain.head_seq == 0 => Ok(None),
            Some((head, seq)) if seq > chain.head_seq => Ok(Some(CommitOutcome::Conflict { head })),
            Some((head, _)) => Err(StoreError::RolledBack {
                expected: chain.head.n,
                found: format!("commit {}", head.n),
            }),
            None => Err(StoreError::RolledBack {
                expected: chain.head.n,
                found: "missing".into(),
            }),
        }
    }
}

impl Chain {
    /// Whether a commit may be built on what is known.
    pub(crate) fn check_leading(&self) -> Result<(), StoreError> {
        self.check_certain()?;
        match (self.loaded, self.leading) {
            (true, true) => Ok(()),
            (false, _) => Err(StoreError::NotLoaded),
            (true, false) => Err(StoreError::NotLeading),
        }
    }

    pub(crate) fn check_certain(&self) -> Result<(), StoreError> {
        match &self.doubt {
            None => Ok(()),
            Some(doubt) => Err(StoreError::InDoubt {
                n: doubt.head.n,
                batch_id: doubt.head.batch_id.clone(),
            }),
        }
    }

    fn landed(&mut self, prepared: &Prepared, seq: u64) -> Result<CommitOutcome, StoreError> {
        self.doubt = None;
        self.accept(&prepared.head, seq, &prepared.steps);
        self.verify()?;
        self.loaded = true;
        self.leading = true;
        Ok(CommitOutcome::Committed {
            n: prepared.head.n,
            seq,
        })
    }

    fn give_up(&mut self, prepared: &Prepared, unclear: bool, why: Cause) -> StoreError {
        let n = prepared.head.n;
        if unclear {
            return StoreError::Unknown {
                n,
                batch_id: prepared.head.batch_id.clone(),
                source: why,
            };
        }
        // No attempt can arrive any more, so the commit did not happen, and the head is where it was.
        self.doubt = None;
        StoreError::unavailable(format!("commit {n}"), why)
    }
}

fn words(answer: BatchAnswer) -> Cause {
    match answer {
        BatchAnswer::NotSent { why } | BatchAnswer::Unclear { why } => why,
        BatchAnswer::Again { why } => why.into(),
        BatchAnswer::WrongSequence => "the head was not where it was expected".into(),
        BatchAnswer::Refused { code, description } => format!("nats error {code} ({description})").into(),
        BatchAnswer::Stored { seq } => format!("stored at {seq}").into(),
    }
}
