//! Unpacking staged changes: each of their writes gets a record of its own, then the change and its blocks go.
//!
//! In: the content's books. Out: small fenced commits that change no value, one for each call, so that ordinary commits
//! are not held up. Order of the stream decides at every point in between, so a crash half-way loses nothing.

use bytes::Bytes;

use super::chain::Store;
use super::content::{Content, Step};
use super::error::StoreError;
use super::record::{CommitKind, CommitOutcome, DIRECT_BYTES_MAX};

/// Records moved by one commit: below the batch limit, with room to spare.
const FOLD_RECORDS_MAX: usize = 800;

impl Store {
    /// Does one step of folding. `None` when nothing is left to do.
    ///
    /// The leader calls it whenever it is idle and [`Store::needs_fold`]; there is no hurry, but blocks take space.
    pub async fn fold(&self) -> Result<Option<CommitOutcome>, StoreError> {
        let mut chain = self.inner.chain.lock().await;
        chain.check_leading()?;
        let steps = fold_steps(&chain.content);
        match steps.is_empty() {
            true => Ok(None),
            false => self
                .commit_steps(&mut chain, CommitKind::Fold, steps, Vec::new(), Bytes::new())
                .await
                .map(Some),
        }
    }
}

/// The next step: the oldest change's writes first; then the change itself; then what nobody names any more.
fn fold_steps(content: &Content) -> Vec<Step> {
    let Some((n, change)) = content.changes.first_key_value() else {
        return tidy_steps(content, FOLD_RECORDS_MAX);
    };
    let mut steps = Vec::new();
    let mut bytes = 0;
    for key in &change.keys {
        let value = content.values.get(key);
        bytes += value.map_or(0, Bytes::len);
        if !steps.is_empty() && (steps.len() == FOLD_RECORDS_MAX || bytes > DIRECT_BYTES_MAX) {
            return steps;
        }
        steps.push(match value {
            Some(value) => Step::Put {
                key: key.clone(),
                value: value.clone(),
            },
            // The oldest change says the same for as long as it lives, so this marker may go at any time.
            None => Step::Remove {
                key: key.clone(),
                timed: true,
            },
        });
    }
    if steps.is_empty() {
        steps.push(Step::DropChange { n: *n });
    }
    steps
}

fn tidy_steps(content: &Content, max: usize) -> Vec<Step> {
    let orphans = content
        .orphans(max)
        .into_iter()
        .map(|digest| Step::DropStage { digest });
    let markers = content.untimed.iter().map(|key| Step::Remove {
        key: key.clone(),
        timed: true,
    });
    orphans.chain(markers).take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::Write;

    #[test]
    fn folding_ends_and_changes_no_value() {
        let mut content = Content::default();
        let writes = (0..2000).map(|i| match i % 3 {
            0 => Write::remove(format!("k.{i}")),
            _ => Write::put(format!("k.{i}"), "v"),
        });
        content.apply(&Step::Put {
            key: "k.0".into(),
            value: "old".into(),
        });
        content.apply(&Step::Stage { digest: "s".into() });
        content.apply(&Step::Change {
            n: 3,
            stages: vec!["s".into()],
            writes: writes.collect(),
        });
        let (values, digest) = (content.values.clone(), content.digest);
        let mut rounds = 0;
        while !content.is_folded() {
            let steps = fold_steps(&content);
            assert!((1..=FOLD_RECORDS_MAX).contains(&steps.len()));
            steps.iter().for_each(|step| content.apply(step));
            assert_eq!((&content.values, content.digest), (&values, digest));
            rounds += 1;
            assert!(rounds < 20, "folding does not end");
        }
        assert!(fold_steps(&content).is_empty());
    }
}
