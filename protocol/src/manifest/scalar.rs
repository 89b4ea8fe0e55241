//! What a word without quotes means, by the core schema of YAML 1.2: `12` is a number, `no` is text.

use super::tree::Value;

/// A plain scalar by the core schema of YAML 1.2. Nothing for a number that cannot be kept exactly enough.
pub(super) fn resolve(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "true" | "True" | "TRUE" => return Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(Value::Int);
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|c| c.is_digit(radix))
        {
            return i64::from_str_radix(digits, radix).ok().map(Value::Int);
        }
    }
    let infinite = [".inf", ".Inf", ".INF"].contains(&unsigned);
    if infinite || [".nan", ".NaN", ".NAN"].contains(&text) {
        return None;
    }
    if is_float(unsigned) {
        return text
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
            .map(Value::Float);
    }
    Some(Value::Text(text.to_owned()))
}

/// Whether an unsigned text has the form of a float: `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_fits = digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty());
    mantissa_fits && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (text, value) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("true", Value::Bool(true)),
            ("yes", Value::Text("yes".into())),
            ("on", Value::Text("on".into())),
            ("12", Value::Int(12)),
            ("+12", Value::Int(12)),
            ("-0", Value::Int(0)),
            ("012", Value::Int(12)),
            ("0x1F", Value::Int(31)),
            ("0o17", Value::Int(15)),
            ("1e3", Value::Float(1_000.0)),
            (".5", Value::Float(0.5)),
            ("1.", Value::Float(1.0)),
            (".", Value::Text(".".into())),
            ("e3", Value::Text("e3".into())),
            ("1.2.3", Value::Text("1.2.3".into())),
            ("1_000", Value::Text("1_000".into())),
            ("0x", Value::Text("0x".into())),
            ("12:30", Value::Text("12:30".into())),
        ] {
            assert_eq!(resolve(text), Some(value), "{text}");
        }
        for text in [
            "9223372036854775808",
            "-99999999999999999999",
            "1e999",
            ".inf",
            "-.INF",
            ".nan",
            "0xffffffffffffffff",
        ] {
            assert_eq!(resolve(text), None, "{text}");
        }
    }
}
