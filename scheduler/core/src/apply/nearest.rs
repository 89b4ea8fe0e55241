//! What was probably meant by a name that does not exist.

/// The nearest of the known names, if it is near enough to be a slip: a third of the letters may be wrong.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Distances are worked out for short words only: nobody mistypes 200 letters.
    let short = |text: &&str| !text.is_empty() && text.len() <= 200;
    let word = Some(word).filter(short)?;
    let distance_max = (word.chars().count() / 3).max(1);
    let scored = known
        .into_iter()
        .filter(short)
        .map(|known| (strsim::damerau_levenshtein(word, known), known));
    scored
        .filter(|(distance, known)| *distance <= distance_max && *distance < known.len())
        .min()
        .map(|(_, known)| known)
}

/// Names in a sentence: at most five, and how many more.
pub(super) fn list<T: ToString>(names: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = names.into_iter().map(|n| n.to_string()).collect();
    match all.len() {
        0 => "none".to_owned(),
        1..=5 => all.join(", "),
        n => format!("{} and {} more", all[..5].join(", "), n - 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        assert_eq!(nearest("sesions", ["sessions", "web"]), Some("sessions"));
        assert_eq!(nearest("web", ["sessions"]), None);
        assert_eq!(nearest("", ["a"]), None);
        assert_eq!(list(["a", "b"]), "a, b");
        assert_eq!(list([1, 2, 3, 4, 5, 6, 7]), "1, 2, 3, 4, 5 and 2 more");
    }
}
