//! Values that were read a moment ago, in bounded memory; wiped when the last who holds one lets it go.

use crate::backend::{BackendError, Secret};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// What a backend said.
#[derive(Debug)]
pub(super) enum Kept {
    Value(Arc<Secret>),
    Refusal(BackendError),
}

#[derive(Debug)]
struct Entry {
    kept: Kept,
    until: Instant,
}

/// What backends said lately.
#[derive(Debug)]
pub(super) struct Cache<K> {
    entries: BTreeMap<K, Entry>,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

impl<K: Ord + Clone> Cache<K> {
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            bytes: 0,
            entries_max,
            bytes_max,
        }
    }

    /// What was said of this, if it still counts.
    pub(super) fn get(&mut self, key: &K, now: Instant) -> Option<Result<Arc<Secret>, BackendError>> {
        if self.entries.get(key)?.until <= now {
            self.remove(key);
            return None;
        }
        Some(match &self.entries.get(key)?.kept {
            Kept::Value(secret) => Ok(Arc::clone(secret)),
            Kept::Refusal(error) => Err(error.clone()),
        })
    }

    pub(super) fn keep(&mut self, key: K, kept: Kept, until: Instant) {
        self.remove(&key);
        self.bytes += bytes_of(&kept);
        self.entries.insert(key, Entry { kept, until });
        while self.entries.len() > self.entries_max || self.bytes > self.bytes_max {
            // What would go first goes first.
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.until);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= bytes_of(&entry.kept);
        }
    }
}

fn bytes_of(kept: &Kept) -> usize {
    match kept {
        Kept::Value(secret) => secret.value.len(),
        Kept::Refusal(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use zeroize::Zeroizing;

    #[test]
    fn it_stays_within_its_bounds_and_forgets_in_time() {
        let mut cache = Cache::new(3, 10);
        let now = Instant::now();
        let at = |s| now + Duration::from_secs(s);
        for (key, until) in [("a", 1), ("b", 9), ("c", 5), ("d", 7)] {
            let secret = Secret::new("1", Zeroizing::new(vec![0; 4])).unwrap();
            cache.keep(key, Kept::Value(Arc::new(secret)), at(until));
        }
        let left =
            |cache: &mut Cache<&'static str>, now| ["a", "b", "c", "d"].map(|key| cache.get(&key, now).is_some());
        assert_eq!(
            left(&mut cache, now),
            [false, true, false, true],
            "two of four bytes fit into ten"
        );
        assert_eq!(left(&mut cache, at(8)), [false, true, false, false]);
        assert_eq!(cache.bytes, 4);
    }
}
