//! Numbers of any length. In: the protocol's binary form: groups of four decimal digits. Out: the number as text.

use std::error::Error;
use std::fmt::Write as _;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xd000;
const NEGATIVE_INFINITY: u16 = 0xf000;
const DIGITS_PER_GROUP: usize = 4;

/// The number as text, with as many digits behind the point as its scale says.
pub(crate) fn text(raw: &[u8]) -> Result<String, Box<dyn Error + Sync + Send>> {
    let cut_off = || "a numeric is cut off";
    let (head, rest) = raw.split_first_chunk::<8>().ok_or_else(cut_off)?;
    let [count, weight, sign, scale] = [0, 2, 4, 6].map(|at| u16::from_be_bytes([head[at], head[at + 1]]));
    match sign {
        NAN => return Ok("NaN".to_owned()),
        INFINITY => return Ok("Infinity".to_owned()),
        NEGATIVE_INFINITY => return Ok("-Infinity".to_owned()),
        0 | NEGATIVE => {}
        _ => return Err("a numeric has a sign that is not known here".into()),
    }
    let groups: Vec<u16> = rest
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    if groups.len() != usize::from(count) || groups.iter().any(|group| *group > 9_999) {
        return Err(cut_off().into());
    }
    // Where the first group stands, in groups before the point; below zero, it stands behind it.
    let weight = i32::from(weight as i16);
    let group = |at: i32| {
        usize::try_from(at)
            .ok()
            .and_then(|at| groups.get(at))
            .copied()
            .unwrap_or(0)
    };
    let mut text = String::from(if sign == NEGATIVE { "-" } else { "" });
    match weight {
        0.. => {
            write!(text, "{}", group(0))?;
            (1..=weight).try_for_each(|at| write!(text, "{:04}", group(at)))?;
        }
        _ => text.push('0'),
    }
    if scale > 0 {
        text.push('.');
        let end = text.len() + usize::from(scale);
        let mut at = (weight + 1).max(0);
        // Groups of zeros stand between the point and a first group far behind it.
        let mut zeros = usize::try_from(-1 - weight).unwrap_or(0);
        while text.len() < end {
            match zeros.checked_sub(1) {
                Some(left) => {
                    zeros = left;
                    text.push_str("0000");
                }
                None => {
                    write!(text, "{:0width$}", group(at), width = DIGITS_PER_GROUP)?;
                    at += 1;
                }
            }
        }
        text.truncate(end);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(weight: i16, sign: u16, scale: u16, groups: &[u16]) -> String {
        let count = groups.len() as u16;
        let head = [count, weight as u16, sign, scale];
        let raw: Vec<u8> = head.iter().chain(groups).flat_map(|n| n.to_be_bytes()).collect();
        text(&raw).unwrap()
    }

    #[test]
    fn groups_become_digits_on_both_sides_of_the_point() {
        assert_eq!(of(0, 0, 0, &[]), "0");
        assert_eq!(of(0, 0, 2, &[]), "0.00");
        assert_eq!(of(0, 0, 2, &[42, 5_000]), "42.50");
        assert_eq!(of(1, NEGATIVE, 0, &[1, 2]), "-10002");
        assert_eq!(of(2, 0, 0, &[7]), "700000000");
        assert_eq!(of(-1, 0, 3, &[1_230]), "0.123");
        assert_eq!(of(-2, 0, 6, &[1_200]), "0.000012");
        assert_eq!(of(0, NAN, 0, &[]), "NaN");
        assert!(text(&[0; 7]).is_err() && text(&[0, 1, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
