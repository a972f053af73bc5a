//! Comma-separated values as of RFC 4180, with `\n`: what is missing is empty, an empty text is `""`.

use serde_json::Value;
use std::fmt::Write as _;

/// A line of the values, with its end.
pub fn csv_line(values: impl IntoIterator<Item = Value>) -> String {
    let mut line = String::new();
    for (position, value) in values.into_iter().enumerate() {
        if position > 0 {
            line.push(',');
        }
        match value {
            Value::Null => {}
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
}
