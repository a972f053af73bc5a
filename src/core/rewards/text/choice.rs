//! The option that a text chooses: a letter among words.
//!
//! Prose contains many single letters that are not options: the English article and pronoun, the Italian verb `è`, the
//! Portuguese article. So a letter that is called the answer takes precedence over one that merely occurs alone.

use regex::Regex;
use std::sync::LazyLock;

/// The option that a text chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rewards) enum Choice {
    /// The option with this letter, in upper case.
    Letter(char),
    /// Several options without a decision between them.
    Ambiguous(Vec<char>),
    /// No option.
    Nothing,
}

/// Words for an answer, in English, German, French, Spanish, Italian and Portuguese.
const ANSWER: &str = "answer|choice|option|solution|antwort|lösung|option|réponse|choix|solution|respuesta|opción|solución|\
                      risposta|scelta|opzione|soluzione|resposta|opção|alternativa|solução";
/// Verbs between the answer and its letter.
const IS: &str = "is|was|would be|must be|should be|ist|wäre|est|serait|es|sería|è|é|sarebbe|seria";
/// Words that call a letter the answer.
const RIGHT: &str = "right|correct|best|true|richtig|korrekt|correcte?|juste|bonne|correct[ao]|corrett[ao]|giust[ao]|corret[ao]|cert[ao]";
/// Words after which a letter is not chosen.
const NOT: &str = "not|isn't|nor|neither|than|nicht|kein|keine|weder|pas|ni|non|né|no|não|nem";
/// Words between letters that are both chosen.
const OR: &str = "or|and|oder|und|ou|et|o|y|u|e";

/// A single letter in brackets, quotes or Markdown marks, and nothing else.
static ALONE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[\s\p{P}*_`$]*(\p{L})[\s\p{P}*_`$]*$"));
/// A letter at the beginning, marked as in a list: `B)`, `(B) the heart`, `**B.** the heart`.
static LABEL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[\s*_`]*(?:\((\p{L})\)|\[(\p{L})\]|(\p{L})[*_`]*\s*[).:\]])(?:[\s*_`]|$)"));
/// A line that begins as an option in a list.
static LISTED: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^[\s*_`-]*\(?(\p{Lu})[).:]\s+\S"));
static SAID: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r"(?i)\b(?:{ANSWER})s?\b(?:[^.!?\n\p{{Lu}}]{{0,60}}?\b(?:{IS})\b)?[\s\p{{P}}*_`=]*(?:(?:{IS})\b[\s\p{{P}}*_`]*)?(?:(?:the|die|der|la|l'|il|a|o)\s+)?(?:(?:{ANSWER}|letter|buchstabe|lettre|letra|lettera)\b[\s\p{{P}}*_`]*)?"
    ))
});
static CALLED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r"(?i)^[\s\p{{P}}*_`]*(?:{IS})\b\s+(?:(?:the|die|der|das|la|le|il|a|o)\s+)?(?:{RIGHT}|{ANSWER})\b"
    ))
});
static NEGATED: LazyLock<Regex> =
    LazyLock::new(|| pattern(&format!(r"(?i)\b(?:{NOT})\s+(?:{ANSWER}\s+)?[\s(\[*_`'\x22]*$")));
static JOINED: LazyLock<Regex> =
    LazyLock::new(|| pattern(&format!(r"(?i)^[\s)\]*_`'\x22]*(?:[,/&+]|\b(?:{OR})\b)[\s(\[*_`'\x22]*$")));
/// Text after a letter that shows it to be an option although it is also a word of some language.
static VERB: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(r"(?i)^\s+(?:{IS}|because|since|seems?|or|and|oder|und|ou|weil|parce|perché|porque|as|for)\b"))
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a constant")
}

/// A letter that may be an option, with its position in bytes.
#[derive(Clone, Copy)]
struct Candidate {
    letter: char,
    start: usize,
    end: usize,
}

/// Returns the option that `text` chooses. `wanted`, the row's answer, is an option even if it is not a letter from A
/// to Z.
///
/// In this order, it is:
/// - the letter that is the whole text,
/// - the last letter in a form such as `the answer is B` or `B is correct`,
/// - the letter of the label at the beginning (`B) the heart`),
/// - the last letter that occurs alone.
///
/// Letters after a `not` do not count, nor do lower-case letters among words. `A`, `E`, `I`, `O` and `Y` do not count
/// before a word, because they are words themselves.
pub(in crate::rewards) fn choice(text: &str, wanted: char) -> Choice {
    let text = within_tag(text);
    let wanted = upper(wanted);
    let is_option = |letter: char| letter.is_ascii_uppercase() || letter == wanted;
    if let Some(found) = ALONE.captures(text) {
        let letter = found[1].chars().next().map(upper).filter(|letter| is_option(*letter));
        return letter.map_or(Choice::Nothing, Choice::Letter);
    }
    let listed: Vec<char> = distinct(LISTED.captures_iter(text).filter_map(|found| found[1].chars().next()));
    let candidates = candidates(text, is_option);
    let said = candidates.iter().rposition(|one| is_said(text, *one));
    if let Some(at) = said {
        return with_neighbours(text, &candidates, at);
    }
    if listed.len() > 1 {
        return Choice::Ambiguous(listed);
    }
    if let Some(found) = LABEL.captures(text) {
        let letter = (1..=3).find_map(|group| found.get(group)).and_then(|group| group.as_str().chars().next());
        if let Some(letter) = letter.map(upper).filter(|letter| is_option(*letter)) {
            return Choice::Letter(letter);
        }
    }
    match candidates.len() {
        0 => Choice::Nothing,
        count => with_neighbours(text, &candidates, count - 1),
    }
}

/// Returns the text inside the last `<answer>`, or all of `text` without one.
fn within_tag(text: &str) -> &str {
    let Some(start) = text.rfind("<answer>") else { return text };
    let inside = &text[start + "<answer>".len()..];
    inside.find("</answer>").map_or(inside, |end| &inside[..end])
}

fn upper(letter: char) -> char {
    let mut letters = letter.to_uppercase();
    match (letters.next(), letters.next()) {
        (Some(only), None) => only,
        _ => letter,
    }
}

/// Returns the letters that occur alone, in upper case or in brackets, and are neither words nor negated.
fn candidates(text: &str, is_option: impl Fn(char) -> bool) -> Vec<Candidate> {
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let in_word = |i: usize| chars.get(i).is_some_and(|(_, c)| c.is_alphanumeric());
    let joins = |i: usize| chars.get(i).is_some_and(|(_, c)| matches!(c, '\'' | '\u{2019}' | '-' | '\u{2011}'));
    let joined_before = |i: usize| i >= 1 && (in_word(i - 1) || (i >= 2 && joins(i - 1) && in_word(i - 2)));
    let joined_after = |i: usize| in_word(i + 1) || (joins(i + 1) && in_word(i + 2));
    let bracketed = |i: usize| {
        let at = |i: usize| chars.get(i).map(|(_, c)| *c);
        i >= 1 && matches!((at(i - 1), at(i + 1)), (Some('('), Some(')')) | (Some('['), Some(']')))
    };
    let candidate = |i: usize| {
        let (start, letter) = chars[i];
        if joined_before(i) || joined_after(i) || !(letter.is_uppercase() || bracketed(i)) {
            return None;
        }
        let one = Candidate { letter: upper(letter), start, end: start + letter.len_utf8() };
        (is_option(one.letter) && !is_word(text, one) && !NEGATED.is_match(&text[..start])).then_some(one)
    };
    (0..chars.len()).filter_map(candidate).collect()
}

/// Whether the letter is a word of some language, because another word follows it.
fn is_word(text: &str, one: Candidate) -> bool {
    let rest = &text[one.end..];
    let next = rest.trim_start_matches([' ', '\u{a0}']).chars().next();
    "AEIOY".contains(one.letter)
        && rest.starts_with([' ', '\u{a0}'])
        && next.is_some_and(char::is_lowercase)
        && !VERB.is_match(rest)
}

/// Whether the text calls this letter the answer: `the answer is B`, `B is correct`.
fn is_said(text: &str, one: Candidate) -> bool {
    let before = &text[..one.start];
    SAID.find_iter(before).any(|found| found.end() == before.len()) || CALLED.is_match(&text[one.end..])
}

/// Returns the choice of the candidate at this index; ambiguous where others are joined to it: `A or B`, `A, B`.
fn with_neighbours(text: &str, candidates: &[Candidate], at: usize) -> Choice {
    let joined = |one: &Candidate, other: &Candidate| JOINED.is_match(&text[one.end..other.start]);
    let (mut first, mut last) = (at, at);
    while first > 0 && joined(&candidates[first - 1], &candidates[first]) {
        first -= 1;
    }
    while last + 1 < candidates.len() && joined(&candidates[last], &candidates[last + 1]) {
        last += 1;
    }
    let letters = distinct(candidates[first..=last].iter().map(|one| one.letter));
    if letters.len() > 1 { Choice::Ambiguous(letters) } else { Choice::Letter(candidates[at].letter) }
}

fn distinct(letters: impl Iterator<Item = char>) -> Vec<char> {
    let mut found: Vec<char> = Vec::new();
    for letter in letters {
        if !found.contains(&letter) {
            found.push(letter);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts with the letter they choose; `?` where they do not decide, `-` where they choose nothing.
    const CASES: &[(&str, char)] = &[
        // the letter and nothing else
        ("B", 'B'),
        ("b", 'B'),
        (" b.", 'B'),
        ("(B)", 'B'),
        ("[b]", 'B'),
        ("**B**", 'B'),
        ("\"B\"", 'B'),
        ("$B$", 'B'),
        ("`c`)", 'C'),
        // a label and its text
        ("B) the heart", 'B'),
        ("(B) the heart", 'B'),
        ("(b) the heart", 'B'),
        ("**B.** the heart", 'B'),
        ("A: vitamin C", 'A'),
        ("A) a bone of the skull", 'A'),
        ("a) a bone", 'A'),
        ("B. It is not C", 'B'),
        // English
        ("The answer is B.", 'B'),
        ("The answer is (b).", 'B'),
        ("The answer is a bone, so C", 'C'),
        ("A bone of the skull: C", 'C'),
        ("I think it is B", 'B'),
        ("I'm sure it is B", 'B'),
        ("B, I think", 'B'),
        ("Answer: B, not C", 'B'),
        ("C, not B", 'C'),
        ("Not B but C", 'C'),
        ("The correct option is D because A is a muscle", 'D'),
        ("C is the answer because A is wrong", 'C'),
        ("A is correct", 'A'),
        ("A is not correct; B is correct", 'B'),
        ("The answer is A; no, the answer is B", 'B'),
        ("The correct answer to this question is C", 'C'),
        ("My final answer: **D**", 'D'),
        ("option B.", 'B'),
        ("T-cells: B", 'B'),
        ("Option C seems best, since vitamin K is for clotting", 'C'),
        ("I would choose D", 'D'),
        ("It must be E. coli, hence option A", 'A'),
        ("Either A or B", '?'),
        ("A and C", '?'),
        ("The answer is A or B", '?'),
        ("A/B", '?'),
        ("A) femur\nB) tibia\nC) ulna", '?'),
        ("A) femur\nB) tibia\nThe answer is B", 'B'),
        ("Because it is a bone", '-'),
        ("a bone of the skull", '-'),
        ("I do not know", '-'),
        ("B2", '-'),
        ("", '-'),
        ("<think>A or C?</think> <answer>B</answer>", 'B'),
        ("<answer>It is a bone: D</answer> not A", 'D'),
        // German
        ("Die Antwort ist B.", 'B'),
        ("Die richtige Antwort ist C, weil A ein Muskel ist", 'C'),
        ("Antwort: D", 'D'),
        ("B ist richtig", 'B'),
        ("Nicht A, sondern C", 'C'),
        ("Ich glaube, dass es B ist", 'B'),
        ("A oder B", '?'),
        // French
        ("La réponse est C", 'C'),
        ("À mon avis, B", 'B'),
        ("La bonne réponse est la D.", 'D'),
        ("B est correcte", 'B'),
        ("Pas A, plutôt D", 'D'),
        ("Il y a un os, donc C", 'C'),
        // Spanish
        ("La respuesta es C", 'C'),
        ("A mi parecer, la B", 'B'),
        ("La respuesta correcta es la D.", 'D'),
        ("Y la opción es B", 'B'),
        ("B o C", '?'),
        // Italian
        ("La risposta è C", 'C'),
        ("a mio parere B", 'B'),
        ("A mio parere B", 'B'),
        ("È la B", 'B'),
        ("La risposta corretta è la D", 'D'),
        ("E quindi la risposta è A", 'A'),
        ("I muscoli sono quattro: C", 'C'),
        // Portuguese
        ("A resposta é C", 'C'),
        ("A alternativa correta é a letra D", 'D'),
        ("O correto é B", 'B'),
        ("é a B", 'B'),
    ];

    #[test]
    fn options_are_read_in_six_languages() {
        let told = |text: &str| match choice(text, 'B') {
            Choice::Letter(letter) => letter,
            Choice::Ambiguous(_) => '?',
            Choice::Nothing => '-',
        };
        let wrong: Vec<String> = CASES
            .iter()
            .filter(|(text, expected)| told(text) != *expected)
            .map(|(text, expected)| format!("{text:?}: {} instead of {expected}", told(text)))
            .collect();
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
    }

    #[test]
    fn a_letter_of_another_alphabet_is_an_option_where_it_is_the_answer() {
        assert_eq!(choice("Ответ: Б", 'Б'), Choice::Letter('Б'));
        assert_eq!(choice("è", 'B'), Choice::Nothing);
        assert_eq!(choice("Ä", 'B'), Choice::Nothing);
    }
}
