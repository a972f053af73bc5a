//! Number formats of the page's templates.

use crate::number::{duration, number, signed};
use minijinja::{Environment, HtmlEscape, Value};
use std::fmt::Write as _;

/// Adds the filters to `environment`.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("number", number);
    environment.add_filter("duration", duration);
    environment.add_filter("signed", signed);
    environment.add_filter("percent", percent);
    environment
        .add_filter("tenths_or_none", |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.1}")));
    environment.add_filter("code", |text: &str| Value::from_safe_string(code(text)));
    environment.add_filter("whole", |value: f64| format!("{value:.0}"));
    environment.add_filter("p_value", p_value);
    environment.add_filter("ends", ends);
    environment.add_filter("number_or_none", |value: Option<f64>| value.map_or(String::new(), number));
    environment.add_filter("signed_or_none", |value: Option<f64>| value.map_or(String::new(), signed));
    environment.add_filter("percent_or_none", |value: Option<f64>| value.map_or(String::new(), percent));
    environment.add_filter("duration_or_none", |value: Option<f64>| value.map_or(String::new(), duration));
    environment.add_filter("count_or_none", |value: Option<f64>| value.map_or(String::new(), count));
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Formats a probability with three decimals.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "<0.001".into() } else { format!("{p:.3}") }
}

/// Converts plain text to HTML. Text in backticks becomes code.
fn code(text: &str) -> String {
    let pieces: Vec<&str> = text.split('`').collect();
    let mut out = String::new();
    for (place, piece) in pieces.iter().enumerate() {
        let escaped = HtmlEscape(piece);
        let _ = match place % 2 {
            0 => write!(out, "{escaped}"),
            // An unpaired backtick stays as it is.
            _ if place + 1 == pieces.len() => write!(out, "`{escaped}"),
            _ => write!(out, "<code>{escaped}</code>"),
        };
    }
    out
}

/// Formats a whole number with thousands separators.
fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 && digit.is_ascii_digit() {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Formats the interval of a measurement; empty without an interval.
fn ends(measured: &Value) -> String {
    let end = |place| {
        let ends = measured.get_attr("interval").ok()?;
        f64::try_from(ends.get_item_by_index(place).ok()?).ok()
    };
    match (end(0), end(1)) {
        (Some(low), Some(high)) => format!("[{}, {}]", number(low), number(high)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backticks_are_code_and_nothing_else_is() {
        assert_eq!(code("`a<b>` & `c"), "<code>a&lt;b&gt;</code> &amp; `c");
        assert_eq!(code("<i>"), "&lt;i&gt;");
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        assert_eq!([7.0, 1234.0, 1_234_567.4].map(count), ["7", "1,234", "1,234,567"]);
    }

    #[test]
    fn differences_have_signs_and_small_probabilities_a_bound() {
        assert_eq!([0.031, -0.2, 0.0].map(signed), ["+0.031", "-0.200", "0"]);
        assert_eq!([0.0004, 0.04].map(p_value), ["<0.001", "0.040"]);
    }
}
