//! How many replicas each value of the spread rules' labels has, and which value is more in need of one.
//!
//! In: the tree of values, the hosts that may have replicas, and the replicas. Out: the order of need, and whether a bound
//! on skew leaves room for one more.

use super::shape::Tree;
use heddle_protocol::record::Spread;
use std::cmp::Ordering;
use std::sync::Arc;

/// What is counted for one value.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    replicas: u32,
    /// Whether any host there may take replicas.
    open: bool,
    /// Whether any host there may take replicas or has some.
    counts: bool,
    /// Its share of the replicas; none where the rule has no weights.
    target: Option<u32>,
}

/// The replicas of one workload, by value.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    tree: Arc<Tree>,
    counts: Vec<Count>,
}

impl Tally {
    /// No replicas anywhere.
    pub(crate) fn new(tree: Arc<Tree>) -> Self {
        let counts = vec![Count::default(); tree.nodes().len()];
        Self { tree, counts }
    }

    /// The values.
    pub(crate) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    fn upwards(&mut self, leaf: u32, how: impl Fn(&mut Count)) {
        let mut at = leaf as usize;
        while let (Some(node), Some(count)) = (self.tree.nodes().get(at), self.counts.get_mut(at)) {
            how(count);
            if at == 0 {
                break;
            }
            at = node.parent as usize;
        }
    }

    /// Notes that hosts at a place may take replicas.
    pub(crate) fn open(&mut self, leaf: u32) {
        self.upwards(leaf, |count| (count.open, count.counts) = (true, true));
    }

    /// Counts replicas at a place.
    pub(crate) fn add(&mut self, leaf: u32, replicas: u32) {
        self.upwards(leaf, |count| {
            count.replicas += replicas;
            count.counts = true;
        });
    }

    /// Takes one replica away from a place.
    pub(crate) fn remove_one(&mut self, leaf: u32) {
        self.upwards(leaf, |count| count.replicas = count.replicas.saturating_sub(1));
    }

    /// Works out the shares of all values of weighted rules, once all hosts are in.
    pub(crate) fn set_targets(&mut self, rules: &[Spread], wanted: u32) {
        let tree = self.tree.clone();
        if let Some(root) = self.counts.first_mut() {
            root.target = Some(wanted);
        }
        if rules.iter().all(|rule| rule.weights.is_empty()) {
            return;
        }
        // Parents come before their children.
        for (at, node) in tree.nodes().iter().enumerate() {
            let weighted = rules.get(node.level).is_some_and(|rule| !rule.weights.is_empty());
            let Some(total) = self.counts.get(at).and_then(|count| count.target).filter(|_| weighted) else {
                continue;
            };
            let node_of = |child: &u32| tree.nodes().get(*child as usize);
            let there = |child: &u32| self.counts.get(*child as usize).is_some_and(|count| count.counts);
            let mut children: Vec<u32> = node.children.iter().copied().filter(there).collect();
            children.sort_by_key(|child| node_of(child).map(|node| node.value.clone()));
            let weights: Vec<u32> = children
                .iter()
                .map(|c| node_of(c).map_or(0, |node| node.weight))
                .collect();
            for (child, share) in children.iter().zip(largest_remainder(total, &weights)) {
                if let Some(count) = self.counts.get_mut(*child as usize) {
                    count.target = Some(share);
                }
            }
        }
    }

    /// Which of two places needs a replica more, all rules looked at in their order: the lesser one.
    pub(crate) fn compare_leaves(&self, a: u32, b: u32) -> Ordering {
        let path = |leaf: u32| {
            let mut path = vec![leaf as usize];
            let mut at = leaf as usize;
            while let Some(node) = self.tree.nodes().get(at).filter(|_| at > 0) {
                at = node.parent as usize;
                path.push(at);
            }
            path.into_iter().rev()
        };
        let levels = path(a).zip(path(b)).filter(|(a, b)| a != b);
        let mut needs = levels.map(|(a, b)| self.compare(a, b));
        needs.find(|need| need.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// Which of two values of the same rule needs a replica more: the lesser one.
    pub(crate) fn compare(&self, a: usize, b: usize) -> Ordering {
        let (Some(one), Some(other)) = (self.counts.get(a), self.counts.get(b)) else {
            return Ordering::Equal;
        };
        // The one that lacks most of its share comes first; the one that is most above it, last.
        let lacks = |c: &Count| c.target.map_or(0, |target| i64::from(target) - i64::from(c.replicas));
        let by_lack = lacks(other).cmp(&lacks(one));
        // Then whoever would have the fewest per weight, this replica counted.
        let per_weight = |c: &Count, w: u32| (u64::from(c.replicas) + 1) * u64::from(w.max(1));
        let (mine, theirs) = (self.weight(a), self.weight(b));
        by_lack.then_with(|| per_weight(one, theirs).cmp(&per_weight(other, mine)))
    }

    fn weight(&self, node: usize) -> u32 {
        self.tree.nodes().get(node).map_or(1, |node| node.weight)
    }

    /// The value of a hard bounded rule below a node that has the fewest replicas per weight, of those whose hosts take
    /// replicas.
    pub(crate) fn least(&self, parent: usize, rule: &Spread) -> Option<usize> {
        rule.max_skew.filter(|_| rule.hard)?;
        let children = self
            .tree
            .nodes()
            .get(parent)?
            .children
            .iter()
            .map(|child| *child as usize);
        let open = children.filter(|child| self.counts.get(*child).is_some_and(|count| count.open));
        open.min_by(|a, b| {
            let scaled = |node: usize, by: usize| self.replicas(node) * u64::from(self.weight(by).max(1));
            scaled(*a, *b).cmp(&scaled(*b, *a))
        })
    }

    fn replicas(&self, node: usize) -> u64 {
        self.counts.get(node).map_or(0, |count| u64::from(count.replicas))
    }

    /// Whether one more replica at a value leaves it within a rule's bound above the least.
    pub(crate) fn has_leeway(&self, node: usize, rule: &Spread, least: Option<usize>) -> bool {
        let (Some(most), Some(least)) = (rule.max_skew.filter(|_| rule.hard), least) else {
            return true;
        };
        // (count + 1) / weight - least / its weight <= most, in whole numbers. The least may be this very value.
        let (mine, theirs) = (
            u64::from(self.weight(node).max(1)),
            u64::from(self.weight(least).max(1)),
        );
        let after = (self.replicas(node) + 1) * theirs;
        after <= self.replicas(least) * mine + u64::from(most) * mine * theirs
    }
}

/// Shares `total` by weights: whole parts first, then one each by the largest remainder, ties in order.
fn largest_remainder(total: u32, weights: &[u32]) -> Vec<u32> {
    let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let exact = |w: &u32| u64::from(total) * u64::from(*w);
    let mut shares: Vec<u32> = weights
        .iter()
        .map(|w| u32::try_from(exact(w) / sum).unwrap_or(u32::MAX))
        .collect();
    let mut by_remainder: Vec<(u64, usize)> = (0..)
        .zip(weights)
        .filter(|(_, weight)| **weight > 0)
        .map(|(index, weight)| (exact(weight) % sum, index))
        .collect();
    by_remainder.sort_by_key(|(remainder, index)| (std::cmp::Reverse(*remainder), *index));
    let given: u32 = shares.iter().sum();
    for (_, index) in by_remainder.into_iter().take((total - given) as usize) {
        if let Some(share) = shares.get_mut(index) {
            *share += 1;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_follow_the_weights() {
        assert_eq!(largest_remainder(6, &[2, 1]), [4, 2]);
        assert_eq!(largest_remainder(2, &[2, 1]), [1, 1]);
        assert_eq!(largest_remainder(5, &[1, 1, 1]), [2, 2, 1]);
        assert_eq!(largest_remainder(7, &[0, 3, 1]), [0, 5, 2]);
        assert_eq!(largest_remainder(3, &[0, 0]), [0, 0]);
        assert_eq!(
            largest_remainder(1_000_000, &[1_000_000, 1_000_000]),
            [500_000, 500_000]
        );
    }
}
