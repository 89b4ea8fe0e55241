//! Names that guests choose, as parts of names that servers know. In: any text. Out: a token without separators,
//! wildcards or spaces, another one for every text.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What marks a text that could not stand as it is; no text that can has it.
const MARK: char = '=';

/// Text as a token of `A-Z a-z 0-9 - _ =`. Plain names stay readable; all others are in base64 behind a mark, so that a
/// name of 1 KiB still fits into a subject.
pub fn token(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut token = String::from(MARK);
    URL_SAFE_NO_PAD.encode_string(text, &mut token);
    token
}

/// The text that a token stands for; none for what is no token.
pub fn text(token: &str) -> Option<String> {
    match token.strip_prefix(MARK) {
        None => Some(token.to_owned()),
        Some(encoded) => String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_text_has_a_token_of_its_own_and_comes_back_from_it() {
        let texts = [
            "",
            "a",
            "a.b",
            "a.>",
            "*",
            "=",
            "=YQ",
            "..",
            "../a",
            "a b",
            "ä",
            "\0",
            "\r\nPUB x 1",
            "k-1_Z",
        ];
        let tokens: BTreeSet<String> = texts.iter().map(|text| token(text)).collect();
        assert_eq!(tokens.len(), texts.len(), "{tokens:?}");
        for name in texts {
            let token = token(name);
            assert!(
                token.chars().all(|c| c.is_ascii_alphanumeric() || "-_=".contains(c)),
                "{token}"
            );
            assert_eq!(text(&token).as_deref(), Some(name));
        }
        assert_eq!(token("k-1_Z"), "k-1_Z");
    }
}
