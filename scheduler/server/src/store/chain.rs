//! The handle on a store, and what it remembers between commits.
//!
//! In: the log below. Out: [`Store`], whose parts are in files of their own: `load` (reading everything), `commit`
//! (taking over and committing), `fold` (unpacking staged changes), `rewrite` (replacing the content), `feed` (following).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};

use bytes::Bytes;
use heddle_protocol::mutant::mutant;
use tokio::sync::Mutex;

use super::batch::Prepared;
use super::content::Content;
use super::error::StoreError;
use super::jetstream::JetStreamLog;
use super::log::{BatchAnswer, Fault, Log, Message, Record};
use super::memory::MemoryRealm;
use super::record::{Committed, HEAD, Head, Image};
use super::settings::StoreOptions;
use super::weather::{Way, Weather};

/// One realm's store. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) wire: Wire,
    pub(crate) options: StoreOptions,
    /// Held for the whole of a commit: one in flight.
    pub(crate) chain: Mutex<Chain>,
}

/// What is known of the store.
#[derive(Debug)]
pub(crate) struct Chain {
    /// The newest head known, and its sequence. Its values are in `content`.
    pub(crate) head: Head,
    pub(crate) head_seq: u64,
    pub(crate) content: Content,
    /// Whether the content was verified against that head.
    pub(crate) loaded: bool,
    /// Whether this store holds the newest epoch that it knows of.
    pub(crate) leading: bool,
    /// A batch that was sent and whose outcome is not known. Set before the first byte leaves, so that a commit whose
    /// caller went away half-way is remembered too.
    pub(crate) doubt: Option<Arc<Prepared>>,
}

impl Store {
    /// Opens a realm on a NATS connection. Its stream is created if there is none, and refused if it does not fit.
    pub async fn open(client: async_nats::Client, options: StoreOptions) -> Result<Self, StoreError> {
        let log = JetStreamLog::open_stream(client, &options).await?;
        Ok(Self::on(Log::JetStream(Box::new(log)), options))
    }

    /// Opens a store in memory. Two stores on one realm are rivals, like two schedulers.
    pub fn in_memory(realm: &MemoryRealm, options: StoreOptions) -> Self {
        Self::on(Log::Memory(realm.log()), options)
    }

    /// The same over a link with weather of its own, for simulations.
    pub fn in_weather(realm: &MemoryRealm, options: StoreOptions, weather: Arc<dyn Weather>) -> Self {
        let way = Way {
            weather,
            answer_within: options.answer_within,
        };
        Self::on(Log::Memory(realm.log().over(way)), options)
    }

    fn on(log: Log, options: StoreOptions) -> Self {
        let chain = Chain {
            head: Head::none(),
            head_seq: 0,
            content: Content::default(),
            loaded: false,
            leading: false,
            doubt: None,
        };
        let wire = Wire {
            log,
            faults: SyncMutex::default(),
        };
        Self {
            inner: Arc::new(Inner {
                wire,
                options,
                chain: Mutex::new(chain),
            }),
        }
    }

    /// The realm's name.
    pub fn realm(&self) -> &str {
        &self.inner.options.realm
    }

    /// Reads the newest head, and its sequence, at the stream's leader. `None` in a store never written.
    ///
    /// Newer than any other read, but only a commit proves that no other scheduler has moved it since.
    pub async fn read_head(&self) -> Result<Option<(Head, u64)>, StoreError> {
        self.inner.wire.head().await
    }

    /// The newest head this store knows, without asking the server.
    pub async fn known_head(&self) -> Head {
        self.inner.chain.lock().await.head.clone()
    }

    /// A copy of the verified content, if there is one.
    pub async fn image(&self) -> Option<Image> {
        let chain = self.inner.chain.lock().await;
        chain.loaded.then(|| chain.image())
    }

    /// Whether staged changes wait to be folded; see [`Store::fold`].
    pub async fn needs_fold(&self) -> bool {
        !self.inner.chain.lock().await.content.is_folded()
    }

    /// Takes in a commit seen in the feed, so that this store could take over without loading.
    ///
    /// A commit already known is ignored. One that does not follow, or does not lead to its head's digest, is refused, and
    /// the store must be loaded again.
    pub async fn advance(&self, committed: &Committed) -> Result<(), StoreError> {
        let mut chain = self.inner.chain.lock().await;
        if !chain.loaded {
            return Err(StoreError::NotLoaded);
        }
        if committed.seq <= chain.head_seq {
            return Ok(());
        }
        chain.leading = false;
        if committed.prev_seq != chain.head_seq {
            chain.loaded = false;
            return Err(StoreError::NotLoaded);
        }
        chain.accept(&committed.head, committed.seq, &committed.steps);
        chain.verify()
    }

    /// The keys of the blocks that living changes name. For tests only.
    #[doc(hidden)]
    pub async fn block_keys(&self) -> Vec<String> {
        let chain = self.inner.chain.lock().await;
        chain
            .content
            .changes
            .values()
            .flat_map(|change| &change.stages)
            .map(|digest| format!("stage.{digest}"))
            .collect()
    }

    /// Sets faults for the next batches and reads. For tests only.
    #[doc(hidden)]
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inner.wire.faults().queue.extend(faults);
    }
}

impl Chain {
    pub(crate) fn image(&self) -> Image {
        Image {
            head: self.head.clone(),
            head_seq: self.head_seq,
            values: self.content.values.clone(),
        }
    }

    /// An image without its values, which preparing a batch does not need.
    pub(crate) fn tip(&self) -> Image {
        Image {
            head: self.head.clone(),
            head_seq: self.head_seq,
            values: BTreeMap::new(),
        }
    }

    /// Moves to a newer head.
    pub(crate) fn accept(&mut self, head: &Head, seq: u64, steps: &[super::content::Step]) {
        steps.iter().for_each(|step| self.content.apply(step));
        self.head = head.clone();
        self.head_seq = seq;
    }

    /// Compares the content with the head; if they differ, nothing may be built on it any more.
    pub(crate) fn verify(&mut self) -> Result<(), StoreError> {
        let (found, found_count) = (self.content.digest, self.content.values.len() as u64);
        if found == self.head.digest && found_count == self.head.count || mutant("digest-unchecked") {
            return Ok(());
        }
        self.loaded = false;
        self.leading = false;
        Err(StoreError::Diverged {
            n: self.head.n,
            expected: self.head.digest,
            expected_count: self.head.count,
            found,
            found_count,
        })
    }

    /// Another scheduler has committed: what is known here is old.
    pub(crate) fn lose(&mut self) {
        self.loaded = false;
        self.leading = false;
        self.doubt = None;
    }
}

/// The log, with the faults that tests put in its way.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) log: Log,
    faults: SyncMutex<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    queue: VecDeque<Fault>,
    delayed: Option<(Vec<Message>, u64)>,
}

impl Wire {
    fn faults(&self) -> std::sync::MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn publish_batch(&self, batch: &[Message], fence: u64) -> BatchAnswer {
        let (fault, delayed) = {
            let mut faults = self.faults();
            let fault = match faults.queue.front() {
                Some(Fault::FailRead) | None => None,
                Some(_) => faults.queue.pop_front(),
            };
            (fault, faults.delayed.take())
        };
        if let Some((batch, fence)) = delayed {
            self.log.publish_batch(&batch, fence).await;
        }
        match fault {
            None | Some(Fault::Pass) => return self.log.publish_batch(batch, fence).await,
            Some(Fault::LoseAnswer) => drop(self.log.publish_batch(batch, fence).await),
            Some(Fault::DelayRequest) => self.faults().delayed = Some((batch.to_vec(), fence)),
            Some(Fault::LoseRequest | Fault::FailRead) => {}
        }
        BatchAnswer::Unclear {
            why: "no answer (a fault set by a test)".into(),
        }
    }

    pub(crate) async fn last(&self, key: &str) -> Result<Option<Record>, StoreError> {
        let fails = {
            let mut faults = self.faults();
            let fails = faults.queue.front() == Some(&Fault::FailRead);
            if fails {
                faults.queue.pop_front();
            }
            fails
        };
        match fails {
            true => Err(StoreError::unavailable(
                format!("read {key}"),
                "no answer (a fault set by a test)",
            )),
            false => self.log.last(key).await,
        }
    }

    pub(crate) async fn head(&self) -> Result<Option<(Head, u64)>, StoreError> {
        match self.last(HEAD).await? {
            None => Ok(None),
            Some(record) => Ok(Some((Head::parse(&record.body)?, record.seq))),
        }
    }

    /// Reads the blocks of a staged change at the stream's leader.
    pub(crate) async fn blocks(&self, digests: &[String]) -> Result<Vec<Bytes>, StoreError> {
        let mut blocks = Vec::with_capacity(digests.len());
        for digest in digests {
            let key = format!("stage.{digest}");
            match self.last(&key).await? {
                Some(record) if !record.marker => blocks.push(record.body),
                _ => return Err(StoreError::corrupt(key, "it is gone, but a change names it")),
            }
        }
        Ok(blocks)
    }
}
