//! Slices: the questions of an evaluation that have the same value of an expression, and their metrics.
//!
//! A metric of a slice is named `METRIC{BY=VALUE}`, for example `eval/accuracy{subject=biology}`. In `BY` and `VALUE`,
//! the characters `{`, `}`, `%`, control characters and, in `VALUE`, `=` are written as `%` and two hexadecimal digits
//! for each byte. So a name has one reading, and it is one line of text in SQL, JSON and event files.

use serde::{Deserialize, Serialize};

/// The questions for which the expression `by` has the value `value`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slice {
    /// The expression over a row's fields, as in the recipe.
    pub by: String,
    /// The text of its value.
    pub value: String,
}

impl Slice {
    /// The largest number of different values of an expression in one evaluation.
    pub const MOST: usize = 200;

    /// The largest length of a value, in characters.
    pub const LONGEST: usize = 100;

    /// Returns the name of the metric `whole` over this slice.
    pub fn metric(&self, whole: &str) -> String {
        format!("{whole}{{{}={}}}", escaped(&self.by, false), escaped(&self.value, true))
    }

    /// Splits a metric's name into that of the metric over all questions and the slice. Returns `None` for a metric
    /// over all questions.
    pub fn of_metric(name: &str) -> Option<(&str, Self)> {
        let (whole, inside) = name.strip_suffix('}')?.split_once('{')?;
        // the value contains no `=`, the expression may
        let (by, value) = inside.rsplit_once('=')?;
        (!whole.is_empty() && !by.is_empty()).then(|| (whole, Self { by: unescaped(by), value: unescaped(value) }))
    }
}

/// Returns the name of the metric over all questions for a metric's name, with or without a slice.
pub fn whole_metric(name: &str) -> &str {
    Slice::of_metric(name).map_or(name, |(whole, _)| whole)
}

fn escaped(text: &str, is_value: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '{' | '}' | '%') || c.is_control() || (is_value && c == '=') {
            let mut bytes = [0; 4];
            out.extend(c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// Returns the text that [`escaped`] wrote. What is not an escape stays as it is.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|_| first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = byte {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slice(by: &str, value: &str) -> Slice {
        Slice { by: by.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn a_metric_of_a_slice_is_named_by_its_expression_and_value() {
        for (slice, name) in [
            (slice("subject", "biology"), "eval/accuracy{subject=biology}"),
            (slice("level >= 3", "true"), "eval/accuracy{level >= 3=true}"),
            (slice("matière", "algèbre linéaire"), "eval/accuracy{matière=algèbre linéaire}"),
            (slice("a", "x=1, {y}\n100%"), "eval/accuracy{a=x%3D1, %7By%7D%0A100%25}"),
            (slice("a", ""), "eval/accuracy{a=}"),
        ] {
            assert_eq!(slice.metric("eval/accuracy"), name);
            assert_eq!(Slice::of_metric(name), Some(("eval/accuracy", slice)));
            assert_eq!(whole_metric(name), "eval/accuracy");
        }
    }

    #[test]
    fn other_names_have_no_slice() {
        for name in ["eval/accuracy", "f1{macro}", "{a=b}", "eval/accuracy{a=b", "eval/accuracy{=b}", ""] {
            assert_eq!((Slice::of_metric(name), whole_metric(name)), (None, name));
        }
    }

    proptest! {
        #[test]
        fn any_expression_and_value_are_read_back(by in "\\PC{1,12}|[{}%=\n a]{1,8}", value in any::<String>()) {
            let slice = slice(&by, &value);
            let name = slice.metric("eval/reward/semantic");
            prop_assert_eq!(Slice::of_metric(&name), Some(("eval/reward/semantic", slice)));
            prop_assert!(!name.contains(['\n', '\r', '\0']));
        }
    }
}
