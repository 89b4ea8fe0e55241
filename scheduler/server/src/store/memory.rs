//! The log in memory: the same rules as a JetStream stream, for simulations and for tests without a server.
//!
//! In: messages. Out: records, at once and always in the same order. Its clock stands still until it is told to move, so
//! the same calls give the same bytes. Several stores opened on one [`MemoryRealm`] are rivals, like schedulers on one NATS.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use heddle_protocol::mutant::mutant;
use tokio::sync::broadcast;

use super::error::StoreError;
use super::log::{BatchAnswer, FeedItem, Message, Record, Selection};
use super::weather::Way;

/// What NATS allows in one atomic batch.
const BATCH_MESSAGES_MAX: usize = 1000;
/// A follower this many records behind has lost some, as with a slow NATS client.
const FEED_RECORDS_MAX: usize = 65_536;

/// One realm's stream, in memory.
#[derive(Clone)]
pub struct MemoryRealm {
    stream: Arc<Mutex<Stream>>,
    feed: broadcast::Sender<Record>,
    observer: Arc<Mutex<Option<Observer>>>,
}

type Observer = Box<dyn FnMut(&[Stored]) + Send>;

/// One message of a batch that was just stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The key below the bucket's subject.
    pub key: String,
    /// Its place in the stream.
    pub seq: u64,
    /// The body; none for a delete marker.
    pub body: Option<Bytes>,
}

/// A record that was lost, for those who find it again.
#[derive(Debug, Clone)]
pub struct LostRecord(Record);

impl std::fmt::Debug for MemoryRealm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryRealm").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Stream {
    records: BTreeMap<u64, Record>,
    newest: HashMap<String, u64>,
    expires_ms: HashMap<u64, u64>,
    next_seq: u64,
    batches: u64,
    /// Names given to batches.
    names: u64,
    now_ms: u64,
    bytes: usize,
    bytes_max: usize,
    reachable: bool,
}

impl Default for MemoryRealm {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryRealm {
    /// An empty realm.
    pub fn new() -> Self {
        let stream = Stream {
            records: BTreeMap::new(),
            newest: HashMap::new(),
            expires_ms: HashMap::new(),
            next_seq: 1,
            batches: 0,
            names: 0,
            now_ms: 0,
            bytes: 0,
            bytes_max: usize::MAX,
            reachable: true,
        };
        Self {
            stream: Arc::new(Mutex::new(stream)),
            feed: broadcast::channel(FEED_RECORDS_MAX).0,
            observer: Arc::default(),
        }
    }

    /// Lets time pass: what has a time limit that is over goes away.
    pub fn advance(&self, by: Duration) {
        let mut stream = self.lock();
        stream.now_ms += by.as_millis() as u64;
        let now_ms = stream.now_ms;
        let over: Vec<u64> = stream
            .expires_ms
            .iter()
            .filter(|(_, at)| **at <= now_ms)
            .map(|(seq, _)| *seq)
            .collect();
        for seq in over {
            stream.drop_record(seq);
        }
    }

    /// Cuts or restores the link of every store on this realm.
    pub fn set_reachable(&self, reachable: bool) {
        self.lock().reachable = reachable;
    }

    /// Sets how many bytes of bodies fit; what would go beyond is refused.
    pub fn set_bytes_max(&self, bytes: usize) {
        self.lock().bytes_max = bytes;
    }

    /// Changes a record behind the chain's back, as rot or an operator would. For tests only.
    #[doc(hidden)]
    pub fn tamper(&self, key: &str, value: Option<&[u8]>) {
        let mut stream = self.lock();
        match value {
            Some(value) => {
                stream.store(&Message::value(key, value.to_vec()), None);
            }
            None => {
                let seq = stream.newest.get(key).copied().unwrap_or(0);
                stream.drop_record(seq);
            }
        }
    }

    /// Loses a record without a word, as a broken disk would. For simulations.
    #[doc(hidden)]
    pub fn lose(&self, key: &str) -> Option<LostRecord> {
        let mut stream = self.lock();
        let seq = stream.newest.get(key).copied()?;
        let record = stream.records.get(&seq).cloned()?;
        stream.drop_record(seq);
        Some(LostRecord(record))
    }

    /// Puts a lost record back where it was, unless its key was written again since. For simulations.
    #[doc(hidden)]
    pub fn find_again(&self, lost: LostRecord) {
        let mut stream = self.lock();
        let LostRecord(record) = lost;
        if !stream.newest.contains_key(&record.key) {
            stream.bytes += record.body.len();
            stream.newest.insert(record.key.clone(), record.seq);
            stream.records.insert(record.seq, record);
        }
    }

    /// The keys of all living records, in the order in which they were stored. For simulations.
    #[doc(hidden)]
    pub fn keys(&self) -> Vec<String> {
        self.lock().records.values().map(|record| record.key.clone()).collect()
    }

    /// Has every batch shown to somebody at the moment when it is stored. For simulations.
    #[doc(hidden)]
    pub fn watch(&self, observer: impl FnMut(&[Stored]) + Send + 'static) {
        let mut observers = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        *observers = Some(Box::new(observer));
    }

    pub(crate) fn log(&self) -> MemoryLog {
        MemoryLog {
            realm: self.clone(),
            way: None,
        }
    }

    /// A panic while the lock was held cannot leave a half-done change behind: all checks come before the first write.
    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    fn drop_record(&mut self, seq: u64) {
        self.expires_ms.remove(&seq);
        let Some(record) = self.records.remove(&seq) else {
            return;
        };
        self.bytes -= record.body.len();
        if self.newest.get(&record.key) == Some(&seq) {
            self.newest.remove(&record.key);
        }
    }

    fn store(&mut self, message: &Message, attempt: Option<(String, u64)>) -> Record {
        let prev_seq = self.newest.get(&message.key).copied().unwrap_or(0);
        self.drop_record(prev_seq);
        let seq = self.next_seq;
        self.next_seq += 1;
        let record = Record {
            key: message.key.clone(),
            seq,
            prev_seq,
            stored_at_ms: self.now_ms,
            body: message.body.clone(),
            marker: message.marker,
            timed: message.ttl.is_some(),
            label: message.label.clone(),
            attempt,
        };
        if let Some(ttl) = message.ttl {
            self.expires_ms.insert(seq, self.now_ms + ttl.as_millis() as u64);
        }
        self.bytes += record.body.len();
        self.newest.insert(record.key.clone(), seq);
        self.records.insert(seq, record.clone());
        record
    }

    fn has_room_for(&self, messages: &[Message]) -> bool {
        let bytes: usize = messages.iter().map(|message| message.body.len()).sum();
        self.bytes.saturating_add(bytes) <= self.bytes_max
    }
}

/// A store's link to a [`MemoryRealm`].
#[derive(Debug, Clone)]
pub(crate) struct MemoryLog {
    realm: MemoryRealm,
    way: Option<Way>,
}

impl MemoryLog {
    /// The same log, over a link with weather.
    pub(crate) fn over(self, way: Way) -> Self {
        Self { way: Some(way), ..self }
    }

    pub(crate) fn new_batch_id(&self) -> String {
        let mut stream = self.realm.lock();
        stream.names += 1;
        format!("batch-{}", stream.names)
    }

    pub(crate) async fn publish_batch(&self, batch: &[Message], fence: u64) -> BatchAnswer {
        let Some(way) = &self.way else {
            return self.realm.publish_batch(batch, fence);
        };
        let (realm, batch) = (self.realm.clone(), batch.to_vec());
        let answer = way.ask(move || realm.publish_batch(&batch, fence)).await;
        answer.unwrap_or_else(|| BatchAnswer::Unclear {
            why: "no answer in time".into(),
        })
    }

    pub(crate) async fn publish_all(&self, messages: Vec<Message>) -> Result<(), StoreError> {
        let realm = self.realm.clone();
        self.ask("store blocks", move || realm.publish_all(&messages)).await
    }

    pub(crate) async fn last(&self, key: &str) -> Result<Option<Record>, StoreError> {
        let (realm, key) = (self.realm.clone(), key.to_owned());
        self.ask("read the newest record", move || realm.last(&key)).await
    }

    pub(crate) fn open(&self, selection: Selection) -> MemoryCursor {
        MemoryCursor {
            log: self.clone(),
            selection,
            next_seq: 0,
        }
    }

    pub(crate) fn feed(&self) -> MemoryFeed {
        MemoryFeed(self.realm.feed.subscribe())
    }

    async fn ask<T: Send + 'static>(
        &self,
        doing: &str,
        question: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.way {
            None => question(),
            Some(way) => {
                let answer = way.ask(question).await;
                answer.unwrap_or_else(|| Err(StoreError::unavailable(doing, "no answer in time")))
            }
        }
    }
}

impl MemoryRealm {
    fn publish_batch(&self, batch: &[Message], fence: u64) -> BatchAnswer {
        let mut stream = self.lock();
        let Some(last) = batch.last() else {
            return BatchAnswer::Again {
                why: "the batch is empty".into(),
            };
        };
        if !stream.reachable {
            return BatchAnswer::NotSent {
                why: "the realm in memory is set unreachable".into(),
            };
        }
        if batch.len() > BATCH_MESSAGES_MAX {
            return BatchAnswer::Refused {
                code: 10199,
                description: "atomic publish batch is too large".into(),
            };
        }
        if stream.newest.get(&last.key).copied().unwrap_or(0) != fence && !mutant("no-fence") {
            return BatchAnswer::WrongSequence;
        }
        if !stream.has_room_for(batch) {
            return BatchAnswer::Refused {
                code: 10077,
                description: "maximum bytes exceeded".into(),
            };
        }
        stream.batches += 1;
        let attempt = format!("memory-{}", stream.batches);
        let mut stored = Vec::new();
        for (place, message) in (1..).zip(batch) {
            let record = stream.store(message, Some((attempt.clone(), place)));
            stored.push(Stored {
                key: record.key.clone(),
                seq: record.seq,
                body: (!record.marker).then(|| record.body.clone()),
            });
            // Nobody listening is not a failure.
            let _ = self.feed.send(record);
        }
        let seq = stream.next_seq - 1;
        // Whoever looks on may look into the log.
        drop(stream);
        if let Some(observer) = &mut *self.observer.lock().unwrap_or_else(PoisonError::into_inner) {
            observer(&stored);
        }
        BatchAnswer::Stored { seq }
    }

    fn publish_all(&self, messages: &[Message]) -> Result<(), StoreError> {
        let mut stream = self.lock();
        check_reachable(&stream, "store blocks")?;
        if !stream.has_room_for(messages) {
            return Err(StoreError::Refused {
                doing: "store blocks".into(),
                code: 10077,
                description: "maximum bytes exceeded".into(),
                hint: super::jetstream::hint(10077),
            });
        }
        for message in messages {
            let record = stream.store(message, None);
            let _ = self.feed.send(record);
        }
        Ok(())
    }

    fn last(&self, key: &str) -> Result<Option<Record>, StoreError> {
        let stream = self.lock();
        check_reachable(&stream, "read the newest record")?;
        Ok(stream.newest.get(key).and_then(|seq| stream.records.get(seq)).cloned())
    }
}

impl MemoryRealm {
    fn read_from(&self, from: u64, selection: Selection) -> Result<(Vec<Record>, u64), StoreError> {
        let stream = self.lock();
        check_reachable(&stream, "read the store")?;
        let records = stream.records.range(from..).map(|(_, record)| record);
        let selected = records.filter(|record| match selection {
            Selection::All => true,
            Selection::AuditSince { ms } => record.key.starts_with("audit.") && record.stored_at_ms >= ms,
        });
        Ok((selected.cloned().collect(), stream.next_seq))
    }
}

fn check_reachable(stream: &Stream, doing: &str) -> Result<(), StoreError> {
    match stream.reachable {
        true => Ok(()),
        false => Err(StoreError::unavailable(doing, "the realm in memory is set unreachable")),
    }
}

/// A place in the log.
pub(crate) struct MemoryCursor {
    log: MemoryLog,
    selection: Selection,
    next_seq: u64,
}

impl MemoryCursor {
    pub(crate) async fn read_to(&mut self, out: &mut Vec<Record>) -> Result<(), StoreError> {
        let (realm, selection, from) = (self.log.realm.clone(), self.selection, self.next_seq);
        let read = move || realm.read_from(from, selection);
        let (records, next_seq) = self.log.ask("read the store", read).await?;
        out.extend(records);
        self.next_seq = next_seq;
        Ok(())
    }
}

/// Records as they are stored.
pub(crate) struct MemoryFeed(broadcast::Receiver<Record>);

impl MemoryFeed {
    pub(crate) async fn next(&mut self) -> FeedItem {
        match self.0.recv().await {
            Ok(record) => FeedItem::Record(record),
            Err(broadcast::error::RecvError::Lagged(_)) => FeedItem::Lost,
            Err(broadcast::error::RecvError::Closed) => FeedItem::Closed,
        }
    }
}
