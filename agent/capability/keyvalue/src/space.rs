//! The buckets of one scope, all under one lock and one bound. In: keys and values. Out: the same, until the agent ends.

use crate::bounds::{ANSWER_BYTES_MAX, PAGE_KEYS, Refused, check_batch, check_key, check_pair};
use crate::store::{Page, Pair};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Everything that one scope may hold, in bytes of keys and values: half of what one instance may have by default.
const SPACE_BYTES_MAX: usize = 32 << 20;
/// Buckets of one scope.
const BUCKETS_MAX: usize = 1_000;
/// What an entry takes beside its key and value, in bytes: counted, so that many empty entries have a bound as well.
const ENTRY_BYTES: usize = 128;
/// The buckets of one scope.
#[derive(Default)]
pub(crate) struct Space(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    buckets: HashMap<String, Bucket>,
    bytes: usize,
}

#[derive(Default)]
struct Bucket {
    entries: HashMap<Arc<str>, Entry>,
    /// Keys in the order in which they came: a page can go on where the last one ended, whatever happened in between.
    order: BTreeMap<u64, Arc<str>>,
    next: u64,
}

struct Entry {
    place: u64,
    value: Vec<u8>,
}

impl Space {
    /// Makes a bucket, if it is not there.
    pub(crate) fn open(&self, name: &str) -> Result<(), Refused> {
        check_key(name)?;
        self.with(|inner| {
            if !inner.buckets.contains_key(name) {
                if inner.buckets.len() >= BUCKETS_MAX {
                    return Err(Refused::Buckets(BUCKETS_MAX));
                }
                inner.buckets.insert(name.to_owned(), Bucket::default());
            }
            Ok(())
        })
    }

    pub(crate) fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, Refused> {
        check_key(key)?;
        Ok(self.with(|inner| inner.entry(bucket, key).map(|entry| entry.value.clone())))
    }

    pub(crate) fn exists(&self, bucket: &str, key: &str) -> Result<bool, Refused> {
        check_key(key)?;
        Ok(self.with(|inner| inner.entry(bucket, key).is_some()))
    }

    /// Keys from a cursor on, and the cursor of the next page if there is one.
    pub(crate) fn list(&self, bucket: &str, cursor: Option<u64>) -> Page {
        self.with(|inner| {
            let Some(bucket) = inner.buckets.get(bucket) else {
                return Page::default();
            };
            let mut from = bucket.order.range(cursor.unwrap_or(0)..);
            let keys = from.by_ref().take(PAGE_KEYS).map(|(_, key)| key.to_string()).collect();
            Page {
                keys,
                next: from.next().map(|(place, _)| *place),
            }
        })
    }

    pub(crate) fn get_many(&self, bucket: &str, keys: Vec<String>) -> Result<Vec<Option<Pair>>, Refused> {
        check_batch(keys.iter().map(String::as_str))?;
        self.with(|inner| {
            let mut bytes = 0;
            let mut found = Vec::new();
            for key in keys {
                let value = inner.entry(bucket, &key).map(|entry| &entry.value);
                bytes += value.map_or(0, |value| key.len() + value.len());
                if bytes > ANSWER_BYTES_MAX {
                    return Err(Refused::Answer);
                }
                let value = value.cloned();
                found.push(value.map(|value| (key, value)));
            }
            Ok(found)
        })
    }

    /// Stores all pairs or none.
    pub(crate) fn set_many(&self, bucket: &str, pairs: Vec<Pair>) -> Result<(), Refused> {
        check_batch(pairs.iter().map(|(key, _)| key.as_str()))?;
        pairs.iter().try_for_each(|(key, value)| check_pair(key, value))?;
        self.with(|inner| {
            // As if nothing were replaced: close to the bound that errs on the safe side, and it needs no second look.
            let more: usize = pairs.iter().map(|(key, value)| entry_bytes(key, value)).sum();
            let replaced: usize = match pairs.as_slice() {
                [(key, _)] => inner
                    .entry(bucket, key)
                    .map_or(0, |entry| entry_bytes(key, &entry.value)),
                _ => 0,
            };
            if inner.bytes - replaced + more > SPACE_BYTES_MAX {
                return Err(full());
            }
            for (key, value) in pairs {
                inner.set(bucket, &key, value);
            }
            Ok(())
        })
    }

    pub(crate) fn delete_many(&self, bucket: &str, keys: &[String]) -> Result<(), Refused> {
        check_batch(keys.iter().map(String::as_str))?;
        self.with(|inner| keys.iter().for_each(|key| inner.delete(bucket, key)));
        Ok(())
    }

    /// Adds to a number, which is kept in decimal digits; a key that is not there counts as 0.
    pub(crate) fn increment(&self, bucket: &str, key: &str, delta: u64) -> Result<u64, Refused> {
        check_key(key)?;
        self.with(|inner| {
            let before: u64 = match inner.entry(bucket, key) {
                None => 0,
                Some(entry) => std::str::from_utf8(&entry.value)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .ok_or_else(|| Refused::NoNumber(key.to_owned()))?,
            };
            let after = before.checked_add(delta).ok_or(Refused::Overflow)?;
            let value = after.to_string().into_bytes();
            if inner.bytes + entry_bytes(key, &value) > SPACE_BYTES_MAX {
                return Err(full());
            }
            inner.set(bucket, key, value);
            Ok(after)
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn entry(&self, bucket: &str, key: &str) -> Option<&Entry> {
        self.buckets.get(bucket)?.entries.get(key)
    }

    fn set(&mut self, bucket: &str, key: &str, value: Vec<u8>) {
        let bucket = self.buckets.entry(bucket.to_owned()).or_default();
        self.bytes += entry_bytes(key, &value);
        if let Some(entry) = bucket.entries.get_mut(key) {
            self.bytes -= entry_bytes(key, &entry.value);
            entry.value = value;
            return;
        }
        let (key, place) = (Arc::<str>::from(key), bucket.next);
        bucket.next += 1;
        bucket.order.insert(place, Arc::clone(&key));
        bucket.entries.insert(key, Entry { place, value });
    }

    fn delete(&mut self, bucket: &str, key: &str) {
        let Some(bucket) = self.buckets.get_mut(bucket) else {
            return;
        };
        if let Some(entry) = bucket.entries.remove(key) {
            bucket.order.remove(&entry.place);
            self.bytes -= entry_bytes(key, &entry.value);
        }
    }
}

fn full() -> Refused {
    Refused::Full(format!("it holds at most {SPACE_BYTES_MAX} bytes"))
}

fn entry_bytes(key: &str, value: &[u8]) -> usize {
    ENTRY_BYTES + key.len() + value.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

    fn pairs(n: usize, bytes: usize) -> Vec<(String, Vec<u8>)> {
        (0..n).map(|i| (format!("k{i:05}"), vec![b'x'; bytes])).collect()
    }

    #[test]
    fn a_space_holds_what_it_was_given() {
        let space = Space::default();
        space.open("b").unwrap();
        space.set_many("b", vec![("a".into(), b"1".to_vec())]).unwrap();
        assert_eq!(space.get("b", "a"), Ok(Some(b"1".to_vec())));
        assert_eq!(space.get("c", "a"), Ok(None), "buckets are apart");
        space.delete_many("b", &["a".into(), "never".into()]).unwrap();
        assert_eq!(space.exists("b", "a"), Ok(false));
        space.with(|inner| assert_eq!(inner.bytes, 0));
    }

    #[test]
    fn a_full_space_takes_nothing_more_until_something_goes() {
        let space = Space::default();
        assert_eq!(space.set_many("b", pairs(40, VALUE_BYTES_MAX)), Err(full()));
        assert_eq!(space.exists("b", "k00000"), Ok(false), "all or none");
        space.set_many("b", pairs(31, VALUE_BYTES_MAX)).unwrap();
        assert_eq!(
            space.set_many("b", vec![("more".into(), vec![0; VALUE_BYTES_MAX])]),
            Err(full())
        );
        space
            .set_many("b", vec![("k00000".into(), vec![0; VALUE_BYTES_MAX])])
            .expect("replacing needs no more room");
        space.delete_many("b", &["k00000".into()]).unwrap();
        space
            .set_many("b", vec![("more".into(), vec![0; VALUE_BYTES_MAX])])
            .unwrap();
        assert_eq!(
            space.get_many("b", pairs(31, 0).into_iter().map(|(k, _)| k).collect()),
            Err(Refused::Answer)
        );
    }

    #[test]
    fn sizes_have_bounds() {
        let space = Space::default();
        assert_eq!(
            space.open(&"k".repeat(KEY_BYTES_MAX + 1)),
            Err(Refused::Key(KEY_BYTES_MAX + 1))
        );
        assert_eq!(
            space.set_many("b", pairs(1, VALUE_BYTES_MAX + 1)),
            Err(Refused::Value(VALUE_BYTES_MAX + 1))
        );
        for i in 0..BUCKETS_MAX {
            space.open(&i.to_string()).unwrap();
        }
        assert_eq!(space.open("one more"), Err(Refused::Buckets(BUCKETS_MAX)));
    }

    #[test]
    fn a_list_goes_on_where_it_ended_although_keys_came_and_went() {
        let space = Space::default();
        space.set_many("b", pairs(PAGE_KEYS, 1)).unwrap();
        let more = pairs(PAGE_KEYS + 10, 1).split_off(PAGE_KEYS);
        space.set_many("b", more).unwrap();
        let Page { keys: first, next } = space.list("b", None);
        assert_eq!(first.len(), PAGE_KEYS);
        space.delete_many("b", &[first[0].clone(), first[1].clone()]).unwrap();
        space.set_many("b", vec![("late".into(), vec![])]).unwrap();
        let Page {
            keys: second,
            next: end,
        } = space.list("b", next);
        assert_eq!(
            (second.len(), second.last().map(String::as_str), end),
            (11, Some("late"), None)
        );
        assert_eq!(space.list("b", Some(u64::MAX)), Page::default());
    }

    #[test]
    fn numbers_are_added_to_in_decimal() {
        let space = Space::default();
        assert_eq!(space.increment("b", "n", 2), Ok(2));
        assert_eq!(space.increment("b", "n", 40), Ok(42));
        assert_eq!(space.get("b", "n"), Ok(Some(b"42".to_vec())));
        assert_eq!(space.increment("b", "n", u64::MAX), Err(Refused::Overflow));
        space.set_many("b", vec![("s".into(), b"x".to_vec())]).unwrap();
        assert_eq!(space.increment("b", "s", 1), Err(Refused::NoNumber("s".into())));
    }
}
