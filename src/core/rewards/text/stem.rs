//! Porter's stemmer (M. F. Porter, "An algorithm for suffix stripping", Program 14.3, 1980) with the extensions of NLTK
//! 3.
//!
//! rouge-score's `use_stemmer` uses that variant. No crate has these extensions: the maintained ones implement Porter's
//! later English stemmer or only the paper.

/// Words that NLTK exempts from the rules, with their stems.
const IRREGULAR: &[(&str, &str)] = &[
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// The suffixes of a step, with their replacements.
type Rules = &'static [(&'static str, &'static str)];

const STEP_1A: Rules = &[("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")];

const STEP_2: Rules = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: Rules =
    &[("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

const STEP_4: Rules = &[
    ("al", ""),
    ("ance", ""),
    ("ence", ""),
    ("er", ""),
    ("ic", ""),
    ("able", ""),
    ("ible", ""),
    ("ant", ""),
    ("ement", ""),
    ("ment", ""),
    ("ent", ""),
    ("ou", ""),
    ("ism", ""),
    ("ate", ""),
    ("iti", ""),
    ("ous", ""),
    ("ive", ""),
    ("ize", ""),
];

/// Returns the stem of `word`. A word with other than lower-case ASCII letters and digits is its own stem.
pub fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return (*stem).to_owned();
    }
    if word.len() <= 2 || !word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) {
        return word.to_owned();
    }
    let mut word = word.as_bytes().to_vec();
    step_1a(&mut word);
    step_1b(&mut word);
    step_1c(&mut word);
    step_2(&mut word);
    replace_first(&mut word, STEP_3, |stem| measure(stem) > 0);
    step_4(&mut word);
    step_5(&mut word);
    String::from_utf8(word).expect("the rules are in ASCII")
}

/// Replaces every word of more than three letters or digits in `lowercase` by its stem, as rouge-score does.
pub(in crate::rewards) fn stemmed(lowercase: &str) -> String {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut text = String::with_capacity(lowercase.len());
    for piece in lowercase.split_inclusive(|c| !is_word(c)) {
        let word = piece.trim_end_matches(|c| !is_word(c));
        if word.len() > 3 {
            text.push_str(&stem(word));
        } else {
            text.push_str(word);
        }
        text.push_str(&piece[word.len()..]);
    }
    text
}

/// Removes plurals.
fn step_1a(word: &mut Vec<u8>) {
    if word.len() == 4 && word.ends_with(b"ies") {
        word.pop();
    } else {
        replace_first(word, STEP_1A, |_| true);
    }
}

/// Removes past tenses and participles.
fn step_1b(word: &mut Vec<u8>) {
    if word.ends_with(b"ied") {
        word.truncate(word.len() - if word.len() == 4 { 1 } else { 2 });
        return;
    }
    if let Some(stem) = word.strip_suffix(b"eed") {
        if measure(stem) > 0 {
            word.pop();
        }
        return;
    }
    let verb = word.strip_suffix(b"ed").filter(|stem| has_vowel(stem));
    let Some(verb) = verb.or_else(|| word.strip_suffix(b"ing").filter(|stem| has_vowel(stem))) else { return };
    word.truncate(verb.len());
    if [b"at", b"bl", b"iz"].iter().any(|end| word.ends_with(*end)) {
        word.push(b'e');
    } else if ends_in_double_consonant(word) {
        if !word.ends_with(b"l") && !word.ends_with(b"s") && !word.ends_with(b"z") {
            word.pop();
        }
    } else if measure(word) == 1 && ends_short(word) {
        word.push(b'e');
    }
}

/// Replaces y by i after a consonant that is not the first letter, as NLTK does.
fn step_1c(word: &mut [u8]) {
    if let [stem @ .., last @ b'y'] = word
        && stem.len() > 1
        && is_consonant(stem, stem.len() - 1)
    {
        *last = b'i';
    }
}

fn step_2(word: &mut Vec<u8>) {
    // NLTK: the rest of `...ally` can have this step's suffixes as well
    while let Some(stem) = word.strip_suffix(b"alli").filter(|stem| measure(stem) > 0) {
        word.truncate(stem.len() + 2);
    }
    if word.ends_with(b"logi") {
        if measure(&word[..word.len() - 3]) > 0 {
            word.pop();
        }
    } else {
        replace_first(word, STEP_2, |stem| measure(stem) > 0);
    }
}

fn step_4(word: &mut Vec<u8>) {
    if let Some(stem) = word.strip_suffix(b"ion") {
        if measure(stem) > 1 && (stem.ends_with(b"s") || stem.ends_with(b"t")) {
            word.truncate(stem.len());
        }
    } else {
        replace_first(word, STEP_4, |stem| measure(stem) > 1);
    }
}

/// Removes a last e, and one of two l.
fn step_5(word: &mut Vec<u8>) {
    if let Some(stem) = word.strip_suffix(b"e")
        && (measure(stem) > 1 || measure(stem) == 1 && !ends_short(stem))
    {
        word.pop();
    }
    if word.ends_with(b"ll") && measure(&word[..word.len() - 1]) > 1 {
        word.pop();
    }
}

/// Replaces the first suffix that `word` has if `holds` for the part before it; tries no other suffix.
fn replace_first(word: &mut Vec<u8>, rules: Rules, holds: impl Fn(&[u8]) -> bool) {
    let Some((suffix, replacement)) = rules.iter().find(|(suffix, _)| word.ends_with(suffix.as_bytes())) else {
        return;
    };
    let kept = word.len() - suffix.len();
    if holds(&word[..kept]) {
        word.truncate(kept);
        word.extend_from_slice(replacement.as_bytes());
    }
}

/// Whether each letter is a consonant; y is one unless it follows a consonant.
fn consonants(word: &[u8]) -> impl Iterator<Item = bool> {
    word.iter().scan(false, |after_consonant, letter| {
        *after_consonant = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => !*after_consonant,
            _ => true,
        };
        Some(*after_consonant)
    })
}

fn is_consonant(word: &[u8], index: usize) -> bool {
    consonants(word).nth(index).unwrap_or(false)
}

/// Returns the measure m: the number of times that a consonant follows a vowel.
fn measure(word: &[u8]) -> usize {
    let mut after_vowel = false;
    consonants(word)
        .filter(|&is_consonant| {
            let counts = after_vowel && is_consonant;
            after_vowel = !is_consonant;
            counts
        })
        .count()
}

fn has_vowel(word: &[u8]) -> bool {
    consonants(word).any(|is_consonant| !is_consonant)
}

fn ends_in_double_consonant(word: &[u8]) -> bool {
    matches!(word, [.., a, b] if a == b) && is_consonant(word, word.len() - 1)
}

/// Whether the word ends in consonant, vowel, and a consonant other than w, x, y; NLTK: or is only a vowel and a
/// consonant.
fn ends_short(word: &[u8]) -> bool {
    let length = word.len();
    let flags: Vec<bool> = consonants(word).skip(length.saturating_sub(3)).collect();
    match flags[..] {
        [true, false, true] => !matches!(word[length - 1], b'w' | b'x' | b'y'),
        [false, true] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equals_nltk_on_the_golden_words() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/stems.txt");
        let golden = fs_err::read_to_string(path).unwrap();
        let wrong: Vec<String> = golden
            .lines()
            .filter_map(|line| {
                let (word, expected) = line.split_once(' ').expect("a word and its stem");
                let found = stem(word);
                (found != expected).then(|| format!("{word}: {found}, not {expected}"))
            })
            .collect();
        assert!(golden.lines().count() > 9000);
        assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    }

    #[test]
    fn a_text_keeps_its_short_words_and_what_stands_between() {
        assert_eq!(stemmed("the hearts, it's dying;\n was running  his"), "the heart, it's die;\n was run  his");
        assert_eq!(stemmed(""), "");
    }

    #[test]
    fn what_is_not_ascii_is_its_own_stem() {
        assert_eq!(["perché", "sì", "Running", ""].map(stem), ["perché", "sì", "Running", ""]);
    }

    proptest! {
        #[test]
        fn a_stem_is_a_word_no_longer_than_its_word(word in "[a-z0-9]{1,12}(ed|ing|ies|ally|logy|ness|ization|ement|sion)?") {
            let stem = stem(&word);
            prop_assert!(!stem.is_empty() && stem.len() <= word.len(), "{word}: {stem}");
            prop_assert!(stem.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
        }

        #[test]
        fn any_text_can_be_stemmed_and_keeps_its_words(text in any::<String>()) {
            let lowercase = text.to_lowercase();
            let count = |text: &str| {
                text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit())).filter(|word| !word.is_empty()).count()
            };
            prop_assert_eq!(count(&stemmed(&lowercase)), count(&lowercase));
        }
    }
}
