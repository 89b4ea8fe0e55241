//! A vector that is cheap to copy: copies share their parts until one of them changes something there.
//!
//! A plan works on a copy of the index and throws it away. So it must cost what the plan touches, not what there is.

use std::sync::Arc;

/// A vector in parts of `N`, each shared by all copies that did not change it.
#[derive(Debug, Clone)]
pub(crate) struct Shared<T, const N: usize = 32> {
    parts: Arc<Vec<Arc<[T]>>>,
    len: usize,
}

impl<T, const N: usize> Default for Shared<T, N> {
    fn default() -> Self {
        Self {
            parts: Arc::default(),
            len: 0,
        }
    }
}

impl<T: Clone, const N: usize> Shared<T, N> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// One by its place.
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        self.parts.get(index / N)?.get(index % N)
    }

    /// One by its place, to be changed.
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let index = index as usize;
        // Looked at first, so that a place that is not there copies nothing.
        if index >= self.len {
            return None;
        }
        let part = Arc::make_mut(&mut self.parts).get_mut(index / N)?;
        Arc::make_mut(part).get_mut(index % N)
    }

    /// Adds one at the end.
    pub(crate) fn push(&mut self, value: T) {
        let parts = Arc::make_mut(&mut self.parts);
        match parts.last_mut().filter(|part| part.len() < N) {
            Some(part) => *part = part.iter().cloned().chain([value]).collect(),
            None => parts.push(Arc::new([value])),
        }
        self.len += 1;
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().flat_map(|part| part.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_changes_leaves_the_other_alone() {
        let mut first: Shared<u32, 4> = Shared::default();
        for n in 0..10 {
            first.push(n);
        }
        let mut second = first.clone();
        *second.get_mut(5).unwrap() = 50;
        assert!(second.get_mut(10).is_none());
        assert_eq!(first.iter().copied().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert_eq!((second.get(5), second.get(6), second.len()), (Some(&50), Some(&6), 10));
    }
}
