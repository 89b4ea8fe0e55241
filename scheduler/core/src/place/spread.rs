//! How replicas share the values of labels among them: evenly, or by weights.
//!
//! In: the spread rules, the hosts that may have replicas, how many there should be. Out: a tree, one level per rule,
//! that counts replicas and says which of two hosts is more in need of one.

use super::filter::HOST_LABEL;
use super::fleet::HostView;
use heddle_protocol::record::Spread;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// One value of one rule's label, within the values of the rules before it.
#[derive(Debug, Clone, Default)]
struct Node<'a> {
    children: BTreeMap<&'a str, usize>,
    count: u32,
    weight: u32,
    /// Its share of the replicas; none where the rule has no weights.
    target: Option<u32>,
}

/// The values of all rules' labels, as a tree. Node 0 is the root.
#[derive(Debug, Clone)]
pub struct SpreadTree<'a> {
    nodes: Vec<Node<'a>>,
}

/// Where a host is in the tree: one node per rule.
pub type Path = Vec<usize>;

impl<'a> SpreadTree<'a> {
    /// An empty tree for so many replicas.
    pub fn new(wanted: u32) -> Self {
        Self {
            nodes: vec![Node {
                target: Some(wanted),
                weight: 1,
                ..Node::default()
            }],
        }
    }

    /// Adds a host and says where it is.
    pub fn add_host(&mut self, rules: &'a [Spread], host: &HostView<'a>) -> Path {
        let mut path = Vec::with_capacity(rules.len());
        let mut at = 0;
        for rule in rules {
            let value: &'a str = match rule.by.as_str() {
                HOST_LABEL => host.id.as_str(),
                label => host.labels.and_then(|l| l.get(label)).map_or("", String::as_str),
            };
            let weight = if rule.weights.is_empty() {
                1
            } else {
                rule.weights.get(value).copied().unwrap_or(0)
            };
            at = match self.nodes[at].children.get(value) {
                Some(child) => *child,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node {
                        weight,
                        ..Node::default()
                    });
                    self.nodes[at].children.insert(value, child);
                    child
                }
            };
            path.push(at);
        }
        path
    }

    /// Works out the shares of all values of weighted rules, once all hosts are in.
    pub fn set_targets(&mut self, rules: &[Spread]) {
        let mut level = vec![0];
        for rule in rules {
            let mut next = Vec::new();
            for parent in level {
                let children: Vec<usize> = self.nodes[parent].children.values().copied().collect();
                if let Some(total) = self.nodes[parent].target.filter(|_| !rule.weights.is_empty()) {
                    let weights: Vec<u32> = children.iter().map(|c| self.nodes[*c].weight).collect();
                    for (child, share) in children.iter().zip(largest_remainder(total, &weights)) {
                        self.nodes[*child].target = Some(share);
                    }
                }
                next.extend(children);
            }
            level = next;
        }
    }

    /// Counts replicas at a place.
    pub fn add(&mut self, path: &Path, count: u32) {
        for node in path {
            self.nodes[*node].count += count;
        }
    }

    /// Takes replicas away from a place.
    pub fn remove(&mut self, path: &Path, count: u32) {
        for node in path {
            self.nodes[*node].count = self.nodes[*node].count.saturating_sub(count);
        }
    }

    /// Which of two places needs a replica more: the lesser one. Rules are compared in their order.
    pub fn compare(&self, a: &Path, b: &Path) -> Ordering {
        let levels = a.iter().zip(b).filter(|(a, b)| a != b);
        levels
            .map(|(a, b)| self.nodes[*a].need_compared(&self.nodes[*b]))
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl Node<'_> {
    fn need_compared(&self, other: &Self) -> Ordering {
        // The one that lacks most of its share comes first; the one that is most above it, last.
        let lacks = |node: &Self| {
            node.target
                .map_or(0, |target| i64::from(target) - i64::from(node.count))
        };
        let by_lack = lacks(other).cmp(&lacks(self));
        // Then whoever would have the fewest per weight, this replica counted.
        let per_weight = |node: &Self, w: u32| (u64::from(node.count) + 1) * u64::from(w.max(1));
        by_lack.then_with(|| per_weight(self, other.weight).cmp(&per_weight(other, self.weight)))
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
    let mut by_remainder: Vec<usize> = (0..weights.len()).filter(|i| weights[*i] > 0).collect();
    by_remainder.sort_by_key(|i| (std::cmp::Reverse(exact(&weights[*i]) % sum), *i));
    let given: u32 = shares.iter().sum();
    for index in by_remainder.into_iter().take((total - given) as usize) {
        shares[index] += 1;
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
