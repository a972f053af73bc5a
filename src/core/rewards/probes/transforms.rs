//! The texts of the probes.

use super::prose::{content_words, folded_words, replaced, rewritten, sentences, words};
use super::swap::swapped;
use super::{Probe, Row};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// Sentences that say nothing; `{0}` and `{1}` are words of the question.
const STOCK: [&str; 5] = [
    "{0} is an important concept.",
    "There are many factors to consider regarding {0} and {1}.",
    "It is essential to see {0} in its context.",
    "Many experts agree that {1} plays a significant role.",
    "In conclusion, both {0} and {1} matter in many ways.",
];
/// What a stock sentence names where the question has too few words.
const NO_TOPIC: [&str; 2] = ["this topic", "its context"];
/// The words of a padded text, as a multiple of the true text's.
const PADDING: usize = 3;
/// The fewest repeats of a repeated sentence.
const REPEATS: usize = 3;
/// The verbs that take `not` directly behind them.
const AUXILIARIES: [&str; 20] = [
    "is", "are", "was", "were", "am", "be", "can", "could", "will", "would", "should", "shall", "may", "might", "must",
    "do", "does", "did", "has", "have",
];
/// What precedes a text without such a verb.
const NOT_TRUE: &str = "It is not true that ";

impl Probe {
    /// Returns the changed completion. `None` where the probe does not apply to the row, and for
    /// [`Probe::Climbed`], which needs the component.
    pub(super) fn completion(self, row: &Row<'_>, seed: u64) -> Option<String> {
        let Row { prompt, completion, reference, answer, neighbour } = *row;
        let by = |text: &str| Some(text).filter(|text| !text.trim().is_empty()).and_then(|t| replaced(completion, t));
        let prose = |change: &dyn Fn(&str) -> String| rewritten(completion, change, str::to_owned);
        match self {
            Self::Echo => by(prompt.trim()),
            Self::Keywords => by(&keywords(reference?, seed)),
            Self::Vacuous => by(&stock(prompt).join(" ")),
            Self::Padded => prose(&|text| padded(text, prompt)),
            Self::Repeated => prose(&|text| repeated(text, reference)),
            Self::Negated => prose(&negated),
            Self::Swapped => swapped(completion),
            Self::Halved => prose(&halved),
            Self::Neighbour => by(neighbour?),
            Self::Unanswered => by(&unanswered(reference?, answer?, prompt)?),
            Self::Climbed => None,
        }
    }
}

fn keywords(reference: &str, seed: u64) -> String {
    let mut words = content_words(reference);
    words.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    words.join(" ")
}

fn stock(prompt: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut topics: Vec<&str> = content_words(prompt).into_iter().filter(|w| seen.insert(w.to_lowercase())).collect();
    topics.sort_by_key(|word| std::cmp::Reverse(word.chars().count())); // stable: earlier words first
    let topic = |index: usize| topics.get(index).copied().unwrap_or(NO_TOPIC[index]);
    STOCK.iter().map(|sentence| sentence.replace("{0}", topic(0)).replace("{1}", topic(1))).collect()
}

fn padded(text: &str, prompt: &str) -> String {
    let wanted = PADDING * words(text).len().max(1);
    let mut result = text.to_owned();
    for sentence in stock(prompt).iter().cycle() {
        if words(&result).len() >= wanted {
            break;
        }
        result.push(' ');
        result.push_str(sentence);
    }
    result
}

fn repeated(text: &str, reference: Option<&str>) -> String {
    let wanted: BTreeSet<String> = reference.map(folded_words).into_iter().flatten().collect();
    let sentences = sentences(text);
    let value = |sentence: &str| {
        let words: BTreeSet<String> = folded_words(sentence).into_iter().collect();
        (words.intersection(&wanted).count(), words.len())
    };
    let best = sentences.iter().copied().reduce(|best, next| if value(next) > value(best) { next } else { best });
    let Some(best) = best else { return text.to_owned() };
    vec![best; sentences.len().max(REPEATS)].join(" ")
}

fn negated(text: &str) -> String {
    let sentences = sentences(text);
    let changed: Vec<Option<String>> = sentences.iter().map(|sentence| negated_sentence(sentence)).collect();
    if changed.iter().all(Option::is_none) {
        return format!("{NOT_TRUE}{text}");
    }
    sentences
        .iter()
        .zip(changed)
        .map(|(as_is, changed)| changed.unwrap_or_else(|| (*as_is).to_owned()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Negates the first auxiliary verb of `sentence`, or removes its negation; `None` without one.
fn negated_sentence(sentence: &str) -> Option<String> {
    let parts: Vec<&str> = sentence.split_inclusive(char::is_whitespace).collect();
    for (index, part) in parts.iter().enumerate() {
        let word = part.trim_matches(|c: char| !c.is_alphanumeric());
        let lower = word.to_lowercase().replace('\u{2019}', "'");
        let positive = match lower.as_str() {
            "cannot" | "can't" => Some("can"),
            "won't" => Some("will"),
            _ => lower.strip_suffix("n't").filter(|verb| AUXILIARIES.contains(verb)),
        };
        let (before, after) = (parts[..index].concat(), parts[index + 1..].concat());
        if let Some(positive) = positive {
            return Some(format!("{before}{}{after}", part.replacen(word, positive, 1)));
        }
        if AUXILIARIES.contains(&&*lower) {
            let next =
                parts.get(index + 1).map(|next| next.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase());
            return Some(if next.as_deref() == Some("not") {
                let rest = parts[index + 1].trim_start_matches(char::is_alphabetic).trim_start().to_owned();
                format!("{before}{part}{rest}{}", parts[index + 2..].concat())
            } else {
                let end = part.find(word).map_or(part.len(), |start| start + word.len());
                format!("{before}{} not{}{after}", &part[..end], &part[end..])
            });
        }
    }
    None
}

fn halved(text: &str) -> String {
    let sentences = sentences(text);
    if sentences.len() > 1 {
        return sentences[..sentences.len() / 2].join(" ");
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    words[..words.len() / 2].join(" ")
}

/// Returns the reference without the sentences that hold the answer: its words, or for one letter those of the option
/// in the question. `None` if no sentence holds it or none is left.
fn unanswered(reference: &str, answer: &str, prompt: &str) -> Option<String> {
    let answer = answer.trim();
    let mut letters = answer.chars().filter(|c| c.is_alphanumeric());
    let needle = match (letters.next(), letters.next()) {
        (Some(letter), None) if letter.is_alphabetic() => folded_words(option_text(prompt, letter)?),
        _ => folded_words(answer),
    };
    if needle.is_empty() {
        return None;
    }
    let holds = |sentence: &&str| folded_words(sentence).windows(needle.len()).any(|run| run == needle);
    let all = sentences(reference);
    let rest: Vec<&str> = all.iter().copied().filter(|sentence| !holds(sentence)).collect();
    (!rest.is_empty() && rest.len() < all.len()).then(|| rest.join(" "))
}

/// Returns the text behind `letter` in a line such as `B) heart`, `(B) heart` or `B. heart`.
fn option_text(prompt: &str, letter: char) -> Option<&str> {
    prompt.lines().find_map(|line| {
        let line = line.trim().trim_start_matches('(');
        let rest = line.strip_prefix(|c: char| c.eq_ignore_ascii_case(&letter))?;
        let text = rest.strip_prefix([')', '.', ':'])?.trim();
        (!text.is_empty()).then_some(text)
    })
}
