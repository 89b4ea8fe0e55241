//! The one way in which JSON is not YAML: characters beyond the first 65,536, escaped as two halves.
//!
//! In: text. Out: the same text, with such pairs in JSON put together to the character that they mean. Everything else
//! of JSON is YAML and is left alone, so that lines stay as they are.

use std::borrow::Cow;

/// Puts escaped surrogate pairs together, if the text is JSON.
pub(super) fn join_surrogates(text: &str) -> Cow<'_, str> {
    if !text.trim_start().starts_with(['{', '[']) || !text.contains("\\u") {
        return Cow::Borrowed(text);
    }
    let mut joined = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        joined.push_str(before);
        rest = match pair(escape) {
            Some(character) => {
                joined.push(character);
                &escape[12..]
            }
            // The escaped character goes along, so that the second backslash of `\\` begins no escape of its own.
            None => {
                let end = escape.char_indices().nth(2).map_or(escape.len(), |(end, _)| end);
                joined.push_str(&escape[..end]);
                &escape[end..]
            }
        };
    }
    joined.push_str(rest);
    Cow::Owned(joined)
}

/// The character of a pair such as `\ud83d\ude00` at the beginning of a text.
fn pair(text: &str) -> Option<char> {
    let half = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        if digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            u16::from_str_radix(digits, 16).ok()
        } else {
            None
        }
    };
    let mut decoded = char::decode_utf16([half(0)?, half(6)?]);
    match (decoded.next(), decoded.next()) {
        (Some(Ok(character)), None) => Some(character),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_joined_in_json_only_and_only_where_they_are_escapes() {
        for (text, joined) in [
            (r#"{"a":"\ud83d\ude00!"}"#, "{\"a\":\"😀!\"}"),
            (r#"{"a":"\\ud83d\ude00"}"#, r#"{"a":"\\ud83d\ude00"}"#),
            (r#"{"a":"\u00e9\ud83d"}"#, r#"{"a":"\u00e9\ud83d"}"#),
            (r#"{"a":"\ud83d\u0041"}"#, r#"{"a":"\ud83d\u0041"}"#),
            (r#"{"a":"\"#, r#"{"a":"\"#),
            (r#"a: "\ud83d\ude00""#, r#"a: "\ud83d\ude00""#),
        ] {
            assert_eq!(join_surrogates(text), joined, "{text}");
        }
    }
}
