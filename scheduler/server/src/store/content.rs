//! What the stream's records mean, put together in stream order.
//!
//! In: [`Step`]s, one for each record, from a load, a commit of our own, or the feed. Out: the live values, their digest,
//! and the books of staged changes (which keys still live only in a change, which markers wait for a time limit).
//! The same function serves all three, so a loaded store cannot differ from one that was followed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::digest::SetDigest;
use super::record::Write;

/// The meaning of one stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A key's own record.
    Put { key: String, value: Bytes },
    /// A delete marker; `timed` if it goes away by itself.
    Remove { key: String, timed: bool },
    /// A staged change: all its writes at this point of the order.
    Change {
        n: u64,
        stages: Vec<String>,
        writes: Vec<Write>,
    },
    /// A staged change whose writes all have records of their own.
    DropChange { n: u64 },
    /// A block of staged writes, without meaning by itself.
    Stage { digest: String },
    /// A block that is gone.
    DropStage { digest: String },
}

/// The live values and the books behind them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    /// All live values.
    pub(crate) values: BTreeMap<String, Bytes>,
    /// Their set digest.
    pub(crate) digest: SetDigest,
    /// Staged changes not yet folded, by commit number.
    pub(crate) changes: BTreeMap<u64, StagedChange>,
    /// For each key whose newest write is in a staged change: which one.
    origin: BTreeMap<String, u64>,
    /// Delete markers without a time limit. While a staged change lives, a marker that vanished would let the change's
    /// older value of the same key come back, so markers get their limit only after the last change is gone.
    pub(crate) untimed: BTreeSet<String>,
    /// All blocks in the stream.
    stages: BTreeSet<String>,
}

/// A staged change not yet folded.
#[derive(Debug, Clone, Default)]
pub(crate) struct StagedChange {
    /// The blocks that hold it.
    pub(crate) stages: Vec<String>,
    /// The keys whose newest write is still here.
    pub(crate) keys: BTreeSet<String>,
}

impl Content {
    /// Takes in the next record.
    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Put { key, value } => {
                self.forget_origin(key);
                self.untimed.remove(key);
                self.set(key, Some(value.clone()));
            }
            Step::Remove { key, timed } => {
                self.forget_origin(key);
                match timed {
                    true => self.untimed.remove(key),
                    false => self.untimed.insert(key.clone()),
                };
                self.set(key, None);
            }
            Step::Change { n, stages, writes } => {
                for write in writes {
                    self.forget_origin(&write.key);
                    self.origin.insert(write.key.clone(), *n);
                    self.set(&write.key, write.value.clone());
                }
                let keys = writes.iter().map(|write| write.key.clone()).collect();
                self.changes.insert(
                    *n,
                    StagedChange {
                        stages: stages.clone(),
                        keys,
                    },
                );
            }
            Step::DropChange { n } => {
                if let Some(change) = self.changes.remove(n) {
                    self.origin.retain(|key, from| from != n || !change.keys.contains(key));
                }
            }
            Step::Stage { digest } => {
                self.stages.insert(digest.clone());
            }
            Step::DropStage { digest } => {
                self.stages.remove(digest);
            }
        }
    }

    /// The digest and count that the values would have after `writes`, which name each key once.
    pub(crate) fn preview<'a>(&self, writes: impl IntoIterator<Item = &'a Write>) -> (SetDigest, u64) {
        let mut digest = self.digest;
        let mut count = self.values.len() as u64;
        for write in writes {
            if let Some(old) = self.values.get(&write.key) {
                digest.remove(&write.key, old);
                count -= 1;
            }
            if let Some(new) = &write.value {
                digest.add(&write.key, new);
                count += 1;
            }
        }
        (digest, count)
    }

    /// Blocks that no living change names, at most `max`: left by a change that was folded or never committed.
    pub(crate) fn orphans(&self, max: usize) -> Vec<String> {
        let named: BTreeSet<&String> = self.changes.values().flat_map(|change| &change.stages).collect();
        self.stages
            .iter()
            .filter(|digest| !named.contains(digest))
            .take(max)
            .cloned()
            .collect()
    }

    /// Whether anything is left to fold or to tidy up.
    pub(crate) fn is_folded(&self) -> bool {
        self.changes.is_empty() && self.untimed.is_empty() && self.stages.is_empty()
    }

    fn forget_origin(&mut self, key: &str) {
        let Some(n) = self.origin.remove(key) else { return };
        if let Some(change) = self.changes.get_mut(&n) {
            change.keys.remove(key);
        }
    }

    fn set(&mut self, key: &str, value: Option<Bytes>) {
        let old = match value {
            Some(value) => {
                self.digest.add(key, &value);
                self.values.insert(key.to_owned(), value)
            }
            None => self.values.remove(key),
        };
        if let Some(old) = old {
            self.digest.remove(key, &old);
        }
    }
}

/// The logical writes among some steps, in order.
pub(crate) fn logical_writes(steps: &[Step]) -> Vec<Write> {
    let mut writes = Vec::new();
    for step in steps {
        match step {
            Step::Put { key, value } => writes.push(Write {
                key: key.clone(),
                value: Some(value.clone()),
            }),
            Step::Remove { key, .. } => writes.push(Write {
                key: key.clone(),
                value: None,
            }),
            Step::Change { writes: staged, .. } => writes.extend(staged.iter().cloned()),
            Step::DropChange { .. } | Step::Stage { .. } | Step::DropStage { .. } => {}
        }
    }
    writes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write() -> impl Strategy<Value = Write> {
        (
            0..12u8,
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4)),
        )
            .prop_map(|(key, value)| Write {
                key: format!("k.{key}"),
                value: value.map(Bytes::from),
            })
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => write().prop_map(|w| match w.value {
                Some(value) => Step::Put { key: w.key, value },
                None => Step::Remove { key: w.key, timed: false },
            }),
            1 => (1..4u64, proptest::collection::vec(write(), 0..6))
                .prop_map(|(n, writes)| Step::Change { n, stages: vec![format!("s{n}")], writes }),
        ]
    }

    proptest! {
        #[test]
        fn the_kept_digest_is_the_digest_computed_anew(steps in proptest::collection::vec(step(), 0..60)) {
            let mut content = Content::default();
            for step in &steps {
                let writes = logical_writes(std::slice::from_ref(step));
                let once_each = writes.len() == writes.iter().map(|w| &w.key).collect::<BTreeSet<_>>().len();
                let preview = once_each.then(|| content.preview(&writes));
                content.apply(step);
                prop_assert_eq!(content.digest, SetDigest::of(&content.values));
                if let Some(preview) = preview {
                    prop_assert_eq!(preview, (content.digest, content.values.len() as u64));
                }
            }
        }
    }

    #[test]
    fn a_later_record_of_a_key_takes_it_out_of_its_change() {
        let mut content = Content::default();
        let writes = vec![Write::put("a", "1"), Write::put("b", "1")];
        content.apply(&Step::Change {
            n: 5,
            stages: vec!["s".into()],
            writes,
        });
        content.apply(&Step::Put {
            key: "a".into(),
            value: "2".into(),
        });
        assert_eq!(content.changes[&5].keys, BTreeSet::from(["b".to_owned()]));
        assert_eq!(content.values["a"], "2");
    }

    #[test]
    fn a_block_named_by_a_living_change_is_no_orphan() {
        let mut content = Content::default();
        content.apply(&Step::Stage { digest: "s".into() });
        content.apply(&Step::Stage { digest: "t".into() });
        content.apply(&Step::Change {
            n: 5,
            stages: vec!["s".into()],
            writes: vec![],
        });
        assert_eq!(content.orphans(10), ["t"]);
        content.apply(&Step::DropChange { n: 5 });
        assert_eq!(content.orphans(10), ["s", "t"]);
    }
}
