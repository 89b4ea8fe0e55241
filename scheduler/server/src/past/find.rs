//! Finding the steps that a past decision is made again from: its own, and all before it back to the last base.
//!
//! In: the parts of the past, which are in the order of their commits. Out: steps, the first of which has a base.

use super::{PartHead, Step, decode, open};
use crate::store::{PastStore, StoreError};
use bytes::Bytes;
use heddle_protocol::api::{ApiError, ErrorCode};

/// Parts that are looked at around the place where a commit should be: a scheduler that was replaced may have written its
/// last ones late.
const AROUND: u64 = 64;
/// Parts that one decision is made again from, at most.
const PARTS_MAX: u64 = 4_096;

/// The steps up to that of a commit.
pub async fn steps(store: &PastStore, commit: u64) -> Result<Vec<Step>, ApiError> {
    let range = store.range().await.map_err(|error| unavailable(commit, &error))?;
    let Some((at, head)) = find(store, range.clone(), commit).await? else {
        return Err(not_kept(commit));
    };
    if head.base > commit {
        return Err(not_kept(commit));
    }
    // Its base is in a frame of its own, or in the same one.
    let begin = match head.first <= head.base && head.base <= head.last {
        true => Some((at, head.clone())),
        false => find(store, range.start..at + 1, head.base).await?,
    };
    let Some((begin, first)) = begin else {
        return Err(not_kept(commit));
    };
    let mut steps: Vec<Step> = Vec::new();
    let (mut number, end) = (begin - first.part as u64, range.end.min(begin + PARTS_MAX));
    while number < end && steps.last().is_none_or(|step| step.version.n != commit) {
        let Some((part, _)) = read(store, number, commit).await? else {
            number += 1;
            continue;
        };
        if part.first > commit && part.epoch == head.epoch {
            break;
        }
        let (frame, next) = frame(store, number, &part, commit).await?;
        number = next;
        if part.epoch != head.epoch {
            continue;
        }
        for step in frame.into_iter().flatten().filter(|step| step.version.n <= commit) {
            if step.base.is_some() {
                steps.clear();
            }
            let known = steps.last().map(|step| step.version.n);
            if step.previous == known && (known.is_some() || step.base.is_some()) {
                steps.push(step);
            }
        }
    }
    match steps.last() {
        Some(step) if step.version.n == commit => Ok(steps),
        _ => Err(not_kept(commit)),
    }
}

/// All steps that are kept, in runs that each begin with a base.
///
/// # Errors
/// If the store does not answer.
pub async fn runs(store: &PastStore) -> Result<Vec<Vec<Step>>, ApiError> {
    let range = store.range().await.map_err(|error| unavailable(0, &error))?;
    let mut runs: Vec<Vec<Step>> = Vec::new();
    let mut number = range.start;
    while number < range.end {
        let Some((head, _)) = read(store, number, 0).await? else {
            number += 1;
            continue;
        };
        let (steps, next) = frame(store, number, &head, 0).await?;
        number = next;
        for step in steps.into_iter().flatten() {
            if step.base.is_some() {
                runs.push(vec![step]);
                continue;
            }
            let follows = |run: &&mut Vec<Step>| {
                let last = run.last().map(|last| last.version);
                last.is_some_and(|last| last.epoch == step.version.epoch && Some(last.n) == step.previous)
            };
            if let Some(run) = runs.iter_mut().rev().find(follows) {
                run.push(step);
            }
        }
    }
    Ok(runs)
}

/// A frame that begins with a part, and the number of what follows; none if it is not whole.
async fn frame(
    store: &PastStore,
    begin: u64,
    head: &PartHead,
    commit: u64,
) -> Result<(Option<Vec<Step>>, u64), ApiError> {
    let mut parts = Vec::new();
    for part in 0..head.parts {
        let expected = PartHead { part, ..head.clone() };
        match read(store, begin + part as u64, commit).await? {
            Some((found, bytes)) if found == expected => parts.push(bytes),
            _ => return Ok((None, begin + (part as u64).max(1))),
        }
    }
    let next = begin + head.parts as u64;
    Ok((decode(&parts).ok(), next))
}

/// The last part of which a commit may be one.
async fn find(
    store: &PastStore,
    range: std::ops::Range<u64>,
    commit: u64,
) -> Result<Option<(u64, PartHead)>, ApiError> {
    // The first whose last commit is this one or a later one.
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        match read(store, middle, commit).await? {
            Some((head, _)) if head.last < commit => low = middle + 1,
            Some(_) => high = middle,
            // It went meanwhile: the oldest go first.
            None => low = middle + 1,
        }
    }
    let mut found: Option<(u64, PartHead)> = None;
    for number in low.saturating_sub(AROUND).max(range.start)..range.end.min(low + AROUND) {
        let Some((head, _)) = read(store, number, commit).await? else {
            continue;
        };
        let newer = found.as_ref().is_none_or(|(_, known)| head.epoch >= known.epoch);
        if (head.first..=head.last).contains(&commit) && head.part == 0 && newer {
            found = Some((number, head));
        }
    }
    Ok(found)
}

async fn read(store: &PastStore, number: u64, commit: u64) -> Result<Option<(PartHead, Bytes)>, ApiError> {
    let part = store.read(number).await.map_err(|error| unavailable(commit, &error))?;
    Ok(part.as_ref().and_then(open))
}

fn unavailable(commit: u64, error: &StoreError) -> ApiError {
    ApiError::new(
        ErrorCode::Unavailable,
        format!("failed to find what commit {commit} was decided from: {error}"),
        "try again in a moment",
    )
}

fn not_kept(commit: u64) -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        format!("failed to find what commit {commit} was decided from: it is not kept"),
        "decisions are kept for a week, but not those of housekeeping, nor those whose scheduler ended a moment later; `heddle audit` lists commits",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::past::{Kept, encode};
    use heddle_protocol::digest::Digest;
    use heddle_protocol::id::Version;
    use heddle_protocol::time::UnixMs;
    use heddle_scheduler_core::Premises;

    fn step(epoch: u64, n: u64, previous: Option<u64>) -> Step {
        Step {
            version: Version { epoch, n },
            at: UnixMs(0),
            planner: String::new(),
            previous,
            base: previous.is_none().then(Vec::new),
            premises: Premises::default(),
            asked: Vec::new(),
            placed: Some(Vec::new()),
            placed_digest: None,
        }
    }

    async fn write(store: &PastStore, base: u64, frame: &[Step]) {
        for part in encode(frame, base).unwrap() {
            store.append(part).await.unwrap();
        }
    }

    async fn found(store: &PastStore, commit: u64) -> Option<Vec<u64>> {
        let steps = steps(store, commit).await.ok()?;
        Some(steps.iter().map(|step| step.version.n).collect())
    }

    #[tokio::test]
    async fn a_step_is_found_with_all_before_it_back_to_its_base() {
        let store = PastStore::in_memory();
        write(&store, 2, &[step(1, 2, None), step(1, 3, Some(2))]).await;
        write(&store, 2, &[step(1, 4, Some(3))]).await;
        // Commits of housekeeping have no step, and so leave no gap.
        write(&store, 2, &[step(1, 6, Some(4)), step(1, 7, Some(6))]).await;
        write(&store, 8, &[step(1, 8, None)]).await;
        write(&store, 8, &[step(1, 9, Some(8))]).await;
        for (commit, expected) in [(2, vec![2]), (4, vec![2, 3, 4]), (6, vec![2, 3, 4, 6]), (9, vec![8, 9])] {
            assert_eq!(found(&store, commit).await, Some(expected), "{commit}");
        }
        for nothing in [0, 1, 5, 10] {
            assert_eq!(found(&store, nothing).await, None, "{nothing}");
        }
    }

    #[tokio::test]
    async fn what_follows_a_step_that_is_missing_is_not_made_up() {
        let store = PastStore::in_memory();
        write(&store, 2, &[step(1, 2, None)]).await;
        write(&store, 2, &[step(1, 4, Some(3))]).await;
        assert_eq!(found(&store, 2).await, Some(vec![2]));
        assert_eq!(found(&store, 4).await, None);
        // Its base is gone already.
        let store = PastStore::in_memory();
        write(&store, 2, &[step(1, 4, Some(3))]).await;
        assert_eq!(found(&store, 4).await, None);
    }

    #[tokio::test]
    async fn the_late_word_of_a_scheduler_that_was_replaced_is_told_from_its_successors() {
        let store = PastStore::in_memory();
        write(&store, 2, &[step(1, 2, None)]).await;
        write(&store, 5, &[step(2, 5, None)]).await;
        write(&store, 2, &[step(1, 3, Some(2))]).await;
        write(&store, 5, &[step(2, 6, Some(5))]).await;
        assert_eq!(found(&store, 3).await, Some(vec![2, 3]));
        assert_eq!(found(&store, 6).await, Some(vec![5, 6]));
    }

    #[tokio::test]
    async fn a_large_base_is_put_together_and_one_without_all_its_parts_is_not() {
        let noise = |n: u64| Digest::of(&n.to_be_bytes()).to_string();
        let mut large = step(1, 2, None);
        large.base = Some(
            (0..20_000)
                .map(|n| Kept {
                    key: noise(n),
                    value: Some(noise(n + 1_000_000).into()),
                })
                .collect(),
        );
        let parts = encode(std::slice::from_ref(&large), 2).unwrap();
        assert!(parts.len() > 2);
        let (whole, torn) = (PastStore::in_memory(), PastStore::in_memory());
        for (number, part) in parts.into_iter().enumerate() {
            whole.append(part.clone()).await.unwrap();
            if number != 1 {
                torn.append(part).await.unwrap();
            }
        }
        for store in [&whole, &torn] {
            write(store, 2, &[step(1, 3, Some(2))]).await;
        }
        assert_eq!(found(&whole, 3).await, Some(vec![2, 3]));
        assert_eq!(found(&torn, 3).await, None);
    }
}
