//! What people see: each file draws one kind of answer as text. Nothing here asks or decides anything.

pub mod applied;
pub mod audit;
pub mod events;
pub mod explain;
pub mod hosts;
pub mod objects;
pub mod rebalance;
pub mod replay;
pub mod status;
pub mod table;
pub mod yaml;

pub use table::{Style, Table};

/// Text from outside with everything that could steer a terminal made visible.
pub fn printable(text: &str) -> String {
    let steers = |c: char| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    if !text.chars().any(steers) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| {
            if steers(c) {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

/// A length of time in words of at most two units: `850ms`, `12s`, `3m5s`, `2h14m`, `3d4h`.
pub fn age(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}s"),
        60..3_600 => pair(s / 60, "m", s % 60, "s"),
        3_600..86_400 => pair(s / 3_600, "h", s / 60 % 60, "m"),
        _ => pair(s / 86_400, "d", s / 3_600 % 24, "h"),
    }
}

fn pair(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

/// `1 host`, `2 hosts`.
pub fn count(n: u64, what: &str) -> String {
    if n == 1 {
        format!("1 {what}")
    } else {
        format!("{n} {what}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_at_most_two_units() {
        let cases = [
            (850, "850ms"),
            (12_900, "12s"),
            (185_000, "3m5s"),
            (7_200_000, "2h"),
            (273_600_000, "3d4h"),
        ];
        for (ms, text) in cases {
            assert_eq!(age(ms), text);
        }
    }

    #[test]
    fn text_from_outside_cannot_steer_a_terminal() {
        assert_eq!(printable("a\tb\u{1b}[31mc\u{202e}"), "a\tb\\u{1b}[31mc\\u{202e}");
        assert_eq!(printable("plain ×2"), "plain ×2");
    }
}
