//! Numbers in running text.

use regex::{Captures, Regex};
use std::sync::LazyLock;

/// A mixed number (`1 1/2`), a fraction (`3/4`) or a number, with an optional percent sign.
///
/// Commas or thin spaces may group digits; the decimal mark is a point.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    let number = r"(?:\d[\d,\u{2009}\u{202f}]*(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+)";
    let pattern = format!(
        r"(?:(?P<whole>\d+)\ (?P<above>\d+)\s*/\s*(?P<below>\d+)|(?P<over>{number})(?:\s*/\s*(?P<under>{number}))?)(?P<percent>\s*%)?"
    );
    Regex::new(&pattern).expect("the pattern is a constant")
});

/// LaTeX's `\frac{1}{2}`, with an optional digit before it that makes it a mixed number.
static LATEX_FRACTION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?P<whole>\d?)\s*\\[dt]?frac\{(?P<above>[^{}]*)\}\{(?P<below>[^{}]*)\}")
        .expect("the pattern is a constant")
});

/// Returns the last number of `text`: `-3`, `1,234.5`, `6e23`, `3/4`, `1 1/2`, `\frac{1}{2}`, `12 %` (0.12).
///
/// Digits of a word, as in `CO2`, are not a number. A minus sign counts unless it is a subtraction.
pub(in crate::rewards) fn last_number(text: &str) -> Option<f64> {
    let text = LATEX_FRACTION.replace_all(text, |found: &Captures<'_>| {
        let space = if found["whole"].is_empty() { "" } else { " " };
        format!("{}{space}{}/{}", &found["whole"], &found["above"], &found["below"])
    });
    let numbers = NUMBER.captures_iter(&text).filter_map(|found| {
        let before = &text[..found.get(0).expect("a match has a place").start()];
        if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            return None;
        }
        let part = |name| found.name(name).map(|part| part.as_str());
        let size = match (part("whole"), part("above"), part("below")) {
            (Some(whole), Some(above), Some(below)) => parse(whole)? + parse(above)? / parse(below)?,
            _ => parse(part("over")?)? / part("under").map_or(Some(1.0), parse)?,
        };
        let size = if part("percent").is_some() { size / 100.0 } else { size };
        let value = if is_negated(before) { -size } else { size };
        value.is_finite().then_some(value)
    });
    numbers.last()
}

/// Whether the number after `before` has a minus sign.
fn is_negated(before: &str) -> bool {
    let before = before.trim_end_matches(['$', '€', '£']);
    let minus = before.strip_suffix(['-', '\u{2212}']);
    minus.is_some_and(|left| !left.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ')' | ']' | '}' | '-')))
}

/// Parses `digits`. Commas that do not group thousands separate numbers, and the last number counts.
fn parse(digits: &str) -> Option<f64> {
    const SEPARATORS: [char; 3] = [',', '\u{2009}', '\u{202f}'];
    let digits = digits.trim_end_matches(SEPARATORS);
    let whole = digits.split(['.', 'e', 'E']).next().unwrap_or_default();
    let mut groups = whole.split(SEPARATORS);
    let first = groups.next().unwrap_or_default();
    if (1..=3).contains(&first.len()) && groups.all(|group| group.len() == 3) {
        return digits.replace(SEPARATORS, "").parse().ok();
    }
    digits.rsplit(SEPARATORS).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_number_is_read_as_people_write_it() {
        for (text, expected) in [
            ("so 40 + 2 = 42.", 42.0),
            ("#### 1,234,567", 1_234_567.0),
            ("$1,000.50", 1000.5),
            ("12\u{202f}500 people", 12_500.0),
            ("-3", -3.0),
            ("a loss of -$5", -5.0),
            ("x=\u{2212}0.5", -0.5),
            ("10-4", 4.0),
            ("10 - 4", 4.0),
            ("from 7 to -4", -4.0),
            ("3/4", 0.75),
            ("1 1/2 cups", 1.5),
            ("-1 1/2", -1.5),
            (r"\frac{3}{4}", 0.75),
            (r"$2\dfrac{1}{2}$", 2.5),
            ("12.5 %", 0.125),
            ("6.02e23", 6.02e23),
            (".5", 0.5),
            ("5kg", 5.0),
            ("7, 8, 9", 9.0),
            ("1,2,3", 3.0),
            ("12345,5", 5.0),
            ("4 of CO2", 4.0),
            ("7 (not 1/0)", 7.0),
        ] {
            let found = last_number(text).unwrap_or_else(|| panic!("{text:?} has a number"));
            assert!((found - expected).abs() <= 1e-12 * expected.abs(), "{text:?}: {found}");
        }
        for none in ["", "none", "CO2", "x_1", "-", "1/0", "%"] {
            assert_eq!(last_number(none), None, "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn a_number_comes_back_from_the_text_it_is_put_into(number in -1e9..1e9, before in "[a-z .]{0,10} ", after in "[ .]?( [a-z]+)?") {
            prop_assert_eq!(last_number(&format!("{before}{number:.3}{after}")), format!("{number:.3}").parse().ok());
        }

        #[test]
        fn grouped_thousands_are_the_same_number(groups in prop::collection::vec(0_u32..1000, 1..4), first in 1_u32..1000) {
            let grouped = groups.iter().fold(first.to_string(), |text, group| format!("{text},{group:03}"));
            prop_assert_eq!(last_number(&grouped), grouped.replace(',', "").parse().ok());
        }

        #[test]
        fn any_text_has_a_finite_number_or_none(text in any::<String>(), digits in "[0-9,./%eE+$ -]*") {
            prop_assert!(last_number(&text).is_none_or(f64::is_finite));
            prop_assert!(last_number(&digits).is_none_or(f64::is_finite));
        }
    }
}
