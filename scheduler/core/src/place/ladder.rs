//! The hosts of one class, ordered by how full they are.
//!
//! In: hosts that come, go, or change how full they are. Out: walks from the emptiest upwards or from the fullest
//! downwards, ties by host id. Chunks are shared with copies until one of them changes.

use super::index::HostNo;
use std::sync::Arc;

/// Hosts in one chunk at most: few enough to shift, many enough that a large class has few chunks.
const CHUNK_MAX: usize = 128;

/// One host on the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rung {
    /// How full it is, in millionths of its scarcest resource.
    pub(crate) fullness: u32,
    /// Its place in the order of host ids.
    pub(crate) rank: u64,
    /// The host.
    pub(crate) host: HostNo,
}

/// Hosts ordered by fullness, then id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ladder {
    chunks: Arc<Vec<Chunk>>,
}

/// Some hosts that are one after the other.
#[derive(Debug, Clone)]
struct Chunk {
    /// The last of them, so that the others are looked at only where they matter.
    last: Rung,
    rungs: Arc<Vec<Rung>>,
}

impl Ladder {
    /// Puts a host on it.
    pub(crate) fn insert(&mut self, rung: Rung) {
        let chunks = Arc::make_mut(&mut self.chunks);
        // The chunk whose last rung is not before this one, or the last chunk.
        let at = chunks.partition_point(|chunk| chunk.last < rung);
        let at = at.min(chunks.len().saturating_sub(1));
        let Some(chunk) = chunks.get_mut(at) else {
            let rungs = Arc::new(vec![rung]);
            chunks.push(Chunk { last: rung, rungs });
            return;
        };
        let rungs = Arc::make_mut(&mut chunk.rungs);
        let place = rungs.partition_point(|other| *other < rung);
        rungs.insert(place, rung);
        chunk.last = chunk.last.max(rung);
        if rungs.len() > CHUNK_MAX {
            let rest = rungs.split_off(CHUNK_MAX / 2);
            let last = std::mem::replace(&mut chunk.last, rungs.last().copied().unwrap_or(rung));
            let rungs = Arc::new(rest);
            chunks.insert(at + 1, Chunk { last, rungs });
        }
    }

    /// Takes a host off it.
    pub(crate) fn remove(&mut self, rung: Rung) {
        let chunks = Arc::make_mut(&mut self.chunks);
        let at = chunks.partition_point(|chunk| chunk.last < rung);
        let Some(chunk) = chunks.get_mut(at) else { return };
        let Ok(place) = chunk.rungs.binary_search(&rung) else {
            return;
        };
        let rungs = Arc::make_mut(&mut chunk.rungs);
        rungs.remove(place);
        match rungs.last() {
            Some(last) => chunk.last = *last,
            None => {
                chunks.remove(at);
            }
        }
    }

    /// Moves hosts on it.
    pub(crate) fn shift(&mut self, moves: impl Iterator<Item = (Rung, Rung)>) {
        for (before, after) in moves {
            self.remove(before);
            self.insert(after);
        }
    }

    /// All rungs, the emptiest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rung> {
        self.chunks.iter().flat_map(|chunk| chunk.rungs.iter())
    }

    /// Where a walk upwards begins.
    pub(crate) fn bottom(&self) -> Step {
        Step::default()
    }

    /// Where a walk downwards begins that needs no rung that is fuller than this: the first of the fullest.
    pub(crate) fn top(&self, fullness_max: u32) -> Option<Step> {
        let above = self
            .chunks
            .partition_point(|chunk| chunk.rungs.first().is_some_and(|first| first.fullness <= fullness_max));
        let chunk = self.chunks.get(above.checked_sub(1)?)?;
        let place = chunk
            .rungs
            .partition_point(|rung| rung.fullness <= fullness_max)
            .checked_sub(1)?;
        Some(self.first_as_full_as(chunk.rungs.get(place)?.fullness))
    }

    /// The rung at a step.
    pub(crate) fn at(&self, step: Step) -> Option<Rung> {
        self.chunks.get(step.chunk)?.rungs.get(step.place).copied()
    }

    /// The step above.
    pub(crate) fn up(&self, step: Step) -> Step {
        match self.chunks.get(step.chunk) {
            Some(chunk) if step.place + 1 < chunk.rungs.len() => Step {
                place: step.place + 1,
                ..step
            },
            _ => Step {
                chunk: step.chunk + 1,
                place: 0,
            },
        }
    }

    /// The next step of a walk downwards: among equally full hosts upwards by id, then those less full.
    pub(crate) fn down(&self, step: Step) -> Option<Step> {
        let fullness = self.at(step)?.fullness;
        let up = self.up(step);
        if self.at(up).is_some_and(|rung| rung.fullness == fullness) {
            return Some(up);
        }
        self.top(fullness.checked_sub(1)?)
    }

    fn first_as_full_as(&self, fullness: u32) -> Step {
        let chunk = self.chunks.partition_point(|chunk| chunk.last.fullness < fullness);
        let place = self
            .chunks
            .get(chunk)
            .map_or(0, |chunk| chunk.rungs.partition_point(|rung| rung.fullness < fullness));
        Step { chunk, place }
    }
}

/// A place on a ladder that does not change meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Step {
    chunk: usize,
    place: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rung(fullness: u32, n: u32) -> Rung {
        Rung {
            fullness,
            rank: u64::from(n),
            host: n,
        }
    }

    fn downwards(ladder: &Ladder, most: u32) -> Vec<u32> {
        let mut seen = Vec::new();
        let mut step = ladder.top(most);
        while let Some(at) = step {
            seen.push(ladder.at(at).unwrap().host);
            step = ladder.down(at);
        }
        seen
    }

    #[test]
    fn walks_go_by_fullness_and_then_by_id_in_both_directions() {
        let mut ladder = Ladder::default();
        // A sequence that jumps about, long enough for several chunks.
        let fullness = |n: u32| (n * 7_919) % 50;
        for n in 0..1_000 {
            ladder.insert(rung(fullness(n), n));
        }
        for n in (0..1_000).filter(|n| n % 3 == 0) {
            ladder.remove(rung(fullness(n), n));
        }
        let left: Vec<u32> = (0..1_000).filter(|n| n % 3 != 0).collect();
        let mut by_fullness = left.clone();
        by_fullness.sort_by_key(|n| (fullness(*n), *n));
        let walked: Vec<u32> = ladder.iter().map(|rung| rung.host).collect();
        assert_eq!(walked, by_fullness);
        let mut step = ladder.bottom();
        let mut upwards = Vec::new();
        while let Some(rung) = ladder.at(step) {
            upwards.push(rung.host);
            step = ladder.up(step);
        }
        assert_eq!(upwards, by_fullness);
        for most in [0, 17, 49, 60] {
            let mut wanted: Vec<u32> = left.iter().copied().filter(|n| fullness(*n) <= most).collect();
            wanted.sort_by_key(|n| (std::cmp::Reverse(fullness(*n)), *n));
            assert_eq!(downwards(&ladder, most), wanted);
        }
        assert_eq!(downwards(&Ladder::default(), 10), Vec::<u32>::new());
    }
}
