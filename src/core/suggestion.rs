//! Suggestions for unknown words.

/// Returns `did you mean ...? known WHAT: ...`, for a word that is not among `known_words`.
pub fn did_you_mean(word: &str, what: &str, known_words: &[&str]) -> String {
    let mut listed: Vec<&str> = known_words.to_vec();
    listed.sort_unstable();
    let list = listed.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let known = if known_words.is_empty() { format!("there are no {what}") } else { format!("known {what}: {list}") };
    match nearest(word, known_words) {
        Some(candidate) => format!("did you mean `{candidate}`? {known}"),
        None => known,
    }
}

/// Returns the word in `known` of which `word` is most likely a misspelling.
pub fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + word.len().max(candidate.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}
