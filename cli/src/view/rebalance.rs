//! What moves, and why.

use super::table::Style;
use super::{count, printable};
use heddle_protocol::api::rebalance::Rebalanced;

/// A line for each replica, and how many workloads were looked at.
pub fn draw(rebalanced: &Rebalanced, _: Style) -> String {
    let mut text = String::new();
    for moved in &rebalanced.moves {
        let line = format!(
            "> {} moves from {} to {}: {}",
            moved.workload, moved.from, moved.to, moved.because
        );
        text.push_str(&printable(&line));
        text.push('\n');
    }
    let looked_at = count(u64::from(rebalanced.considered), "workload");
    text.push_str(&match rebalanced.moves.len() {
        0 => format!("nothing to move: {looked_at} looked at\n"),
        moves => format!(
            "to move: {}; {looked_at} looked at; commit {}\n",
            count(moves as u64, "replica"),
            rebalanced.commit
        ),
    });
    if rebalanced.restless > 0 {
        let restless = count(u64::from(rebalanced.restless), "workload");
        text.push_str(&format!(
            "{restless} not looked at: replicas of them start, go, or are not ready\n"
        ));
    }
    if rebalanced.more {
        text.push_str("there may be more to move\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_protocol::api::rebalance::{Better, Move};

    #[test]
    fn what_moves_and_what_does_not_is_told() {
        let moved = Move {
            workload: "shop/cart".parse().unwrap(),
            from: "h-1".parse().unwrap(),
            to: "h-2".parse().unwrap(),
            because: Better::FewerReplicas,
        };
        let mut rebalanced = Rebalanced {
            commit: 7,
            moves: vec![moved],
            considered: 3,
            restless: 1,
            more: true,
        };
        assert_eq!(
            draw(&rebalanced, Style::Plain),
            "> shop/cart moves from h-1 to h-2: it has fewer replicas of the workload\n\
             to move: 1 replica; 3 workloads looked at; commit 7\n\
             1 workload not looked at: replicas of them start, go, or are not ready\n\
             there may be more to move\n"
        );
        rebalanced.moves.clear();
        assert!(draw(&rebalanced, Style::Plain).starts_with("nothing to move: 3 workloads looked at\n"));
    }
}
