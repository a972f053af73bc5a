//! Comma-separated values as of RFC 4180, with `\n`. A missing value is empty, and an empty text is `""`. A text that a
//! spreadsheet would interpret as a formula gets an apostrophe in front.

use serde_json::Value;
use std::fmt::Write as _;

/// Formats a line of values, with its line break.
pub fn csv_line(values: impl IntoIterator<Item = Value>) -> String {
    let mut line = String::new();
    for (position, value) in values.into_iter().enumerate() {
        if position > 0 {
            line.push(',');
        }
        match value {
            Value::Null => {}
            Value::String(text) if is_formula(&text) => {
                let _ = write!(line, "\"'{}\"", text.replace('"', "\"\""));
            }
            Value::String(text) if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
                let _ = write!(line, "\"{}\"", text.replace('"', "\"\""));
            }
            Value::String(text) => line.push_str(&text),
            other => {
                let _ = write!(line, "{other}");
            }
        }
    }
    line.push('\n');
    line
}

/// Whether a spreadsheet would interpret the text as a formula.
fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_would_be_misread_is_quoted() {
        let line = |values: Value| csv_line(values.as_array().unwrap().clone());
        assert_eq!(line(json!(["a", 1, 0.5, null, ""])), "a,1,0.5,,\"\"\n");
        assert_eq!(
            line(json!(["a,b", "say \"so\"", "two\nlines", "cr\r"])),
            "\"a,b\",\"say \"\"so\"\"\",\"two\nlines\",\"cr\r\"\n"
        );
    }

    #[test]
    fn a_text_that_a_spreadsheet_would_compute_is_defused() {
        let line = |values: Value| csv_line(values.as_array().unwrap().clone());
        assert_eq!(
            line(json!(["=cmd|' /C calc'!A0", "@x", "+1+1", "a=b"])),
            "\"'=cmd|' /C calc'!A0\",\"'@x\",\"'+1+1\",a=b\n"
        );
        assert_eq!(line(json!([-1.5, "-1.5", "+7e3", "-"])), "-1.5,-1.5,+7e3,\"'-\"\n");
    }
}
