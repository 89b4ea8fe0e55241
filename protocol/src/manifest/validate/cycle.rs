//! Circles in a graph of who imports whom.

/// An edge from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// Circles that together explain why the graph is not free of them, each as the edges along it; at most one for each
/// edge. The same edges give the same circles. Works with a stack of its own: the graph may be a chain of thousands.
pub(super) fn cycles(nodes: usize, edges: &[Edge]) -> Vec<Vec<usize>> {
    let mut leaving = vec![Vec::new(); nodes];
    for (at, edge) in edges.iter().enumerate() {
        leaving[edge.from].push(at);
    }
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        /// On the way from the start, so many edges from it.
        OnWay(usize),
        Done,
    }
    let mut seen = vec![Seen::No; nodes];
    let mut found = Vec::new();
    for start in 0..nodes {
        if seen[start] != Seen::No {
            continue;
        }
        // The way from the start: the edges taken, and for each node on it the next edge to try.
        let mut way: Vec<usize> = Vec::new();
        let mut stack = vec![(start, 0)];
        seen[start] = Seen::OnWay(0);
        while let Some((node, next)) = stack.last_mut() {
            let Some(edge) = leaving[*node].get(*next).copied() else {
                seen[*node] = Seen::Done;
                stack.pop();
                way.pop();
                continue;
            };
            *next += 1;
            let to = edges[edge].to;
            match seen[to] {
                Seen::Done => {}
                Seen::OnWay(depth) => {
                    let mut circle = way[depth..].to_vec();
                    circle.push(edge);
                    found.push(circle);
                }
                Seen::No => {
                    way.push(edge);
                    seen[to] = Seen::OnWay(way.len());
                    stack.push((to, 0));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
        let nodes = edges.iter().map(|(from, to)| from.max(to) + 1).max().unwrap_or(0);
        let edges: Vec<Edge> = edges.iter().map(|&(from, to)| Edge { from, to }).collect();
        cycles(nodes, &edges)
    }

    #[test]
    fn circles_are_found_with_the_edges_along_them() {
        assert_eq!(circles(&[(0, 1), (1, 2), (0, 2)]), Vec::<Vec<usize>>::new());
        assert_eq!(circles(&[(0, 1), (1, 2), (2, 1)]), [[1, 2]]);
        assert_eq!(circles(&[(0, 1), (1, 0), (2, 3), (3, 2)]), [[0, 1], [2, 3]]);
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_needs_no_deep_stack() {
        let mut chain: Vec<(usize, usize)> = (0..100_000).map(|n| (n, n + 1)).collect();
        assert!(circles(&chain).is_empty());
        chain.push((100_000, 0));
        assert_eq!(circles(&chain).len(), 1);
    }
}
