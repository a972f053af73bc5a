//! The options of multiple-choice rows, as the text with which the assistant would choose them.

use super::templates::Template;
use crate::error::{StageError, StageResult};
use crate::tokenizer::Tokenizer;
use orchestrate_core::data::{Row, load_rows};
use orchestrate_core::digest::Digest;
use orchestrate_core::recipe::spec::{DataSpec, OptionsSpec};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The letters of options that are given as a list.
const LETTERS: &[u8; 26] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The options of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `FILE:LINE` of the row.
    pub location: String,
    /// Text with which the assistant would choose each option; at least two, none of them empty.
    pub texts: Vec<String>,
    /// Tokens of each text, encoded without the prompt, as sampling would continue it.
    pub ids: Vec<Vec<i64>>,
    /// Index of the right option.
    pub right: usize,
}

/// Returns every row's options, in the order of [`super::prompts()`].
///
/// # Errors
/// Returns an error for:
///
/// - a row without a needed field
/// - a row with fewer than two options, or with two options of equal text
/// - a row whose answer is not among its options
pub fn options(
    spec: &DataSpec,
    options: &OptionsSpec,
    inputs: &BTreeMap<Digest, PathBuf>,
    tokenizer: &Tokenizer,
) -> StageResult<Vec<Options>> {
    // rendered as JSON, so the renderer's limits apply to the expression's value
    let listed = Template::new("options", &format!("{{{{ ({})|tojson }}}}", options.options))?;
    let option = Template::new("option", &options.option)?;
    let answer = Template::optional("answer", spec.templates.answer.as_ref())?
        .ok_or_else(|| StageError::input("the data set has `options`, but no `answer` that says which is right"))?;
    let read = |row: Row| {
        let at = &row.location;
        let choices = choices(&listed.render(&row)?, at)?;
        let texts: Vec<String> = choices
            .iter()
            .map(|choice| {
                let mut row = row.clone();
                row.fields.insert("option".to_owned(), json!({ "letter": choice.letter, "text": choice.text }));
                option.render(&row)
            })
            .collect::<StageResult<_>>()?;
        let alike = |index: &usize| texts[..*index].contains(&texts[*index]) || texts[*index].is_empty();
        if let Some(index) = (0..texts.len()).find(alike) {
            let what = if texts[index].is_empty() { "is empty" } else { "is written like an earlier one" };
            let message = format!("{at}: option {} {what}: its likelihood would say nothing", choices[index].letter);
            return Err(StageError::input(message).hinted("fix the row, or the template `option`"));
        }
        let ids = texts.iter().map(|text| tokenizer.encode(text)).collect::<StageResult<_>>()?;
        let right = right(&choices, answer.render(&row)?.trim(), at)?;
        Ok(Options { location: row.location, texts, ids, right })
    };
    load_rows(spec, inputs)?.into_iter().map(read).collect()
}

/// An option as it appears in the row.
struct RowOption {
    letter: String,
    text: String,
}

/// Returns the options in `listed`, a JSON list of texts or table of texts by letter.
fn choices(listed: &str, at: &str) -> StageResult<Vec<RowOption>> {
    let refused = |what: &str| {
        StageError::input(format!("{at}: the options {what}"))
            .hinted("`options` gives a list of texts, or a table of texts by their letters")
    };
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(refused("are not all texts")),
    };
    let listed: Value = serde_json::from_str(listed).map_err(|error| refused(&format!("are not readable: {error}")))?;
    let choices: Vec<RowOption> = match &listed {
        Value::Array(items) if items.len() > LETTERS.len() => {
            return Err(refused("are more than the alphabet has letters"));
        }
        Value::Array(items) => LETTERS
            .iter()
            .zip(items)
            .map(|(letter, item)| Ok(RowOption { letter: char::from(*letter).to_string(), text: text(item)? }))
            .collect::<StageResult<_>>()?,
        Value::Object(table) => table
            .iter()
            .map(|(letter, item)| Ok(RowOption { letter: letter.clone(), text: text(item)? }))
            .collect::<StageResult<_>>()?,
        _ => return Err(refused("are neither a list nor a table")),
    };
    if choices.len() < 2 { Err(refused("are fewer than two")) } else { Ok(choices) }
}

/// Returns the index of the option that `answer` names by its letter, or else by its text.
fn right(choices: &[RowOption], answer: &str, at: &str) -> StageResult<usize> {
    let by_letter = choices.iter().position(|choice| choice.letter == answer);
    let by_text = || choices.iter().position(|choice| choice.text.trim() == answer);
    by_letter.or_else(by_text).ok_or_else(|| {
        let letters: Vec<&str> = choices.iter().map(|choice| choice.letter.as_str()).collect();
        StageError::input(format!("{at}: the answer `{answer}` is none of the options {}", letters.join(", ")))
            .hinted("the template `answer` gives the letter or the text of one of them")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(listed: &str, answer: &str) -> StageResult<(Vec<String>, usize)> {
        let choices = choices(listed, "a.jsonl:3")?;
        let right = right(&choices, answer, "a.jsonl:3")?;
        Ok((choices.into_iter().map(|choice| format!("{} {}", choice.letter, choice.text)).collect(), right))
    }

    #[test]
    fn lists_have_letters_tables_bring_theirs_and_the_answer_is_a_letter_or_a_text() {
        let list = r#"["heart", "liver", 3]"#;
        assert_eq!(read(list, "B").unwrap(), (vec!["A heart".to_owned(), "B liver".to_owned(), "C 3".to_owned()], 1));
        assert_eq!(read(list, "3").unwrap().1, 2);
        let table = r#"{"1": "heart", "2": "B", "B": "liver"}"#;
        assert_eq!(read(table, "B").unwrap().1, 2, "a letter goes before a text");
        assert_eq!(read(table, "heart").unwrap().1, 0);
    }

    #[test]
    fn options_that_cannot_be_compared_are_named_by_file_and_line() {
        let many = format!("{:?}", vec!["x"; 27]);
        for (listed, answer, reason) in [
            (r#"["heart"]"#, "A", "fewer than two"),
            (r#""heart""#, "A", "neither a list nor a table"),
            (r#"["heart", ["liver"]]"#, "A", "not all texts"),
            (r#"["heart", "liver"]"#, "C", "the answer `C` is none of the options A, B"),
            (&many, "A", "more than the alphabet"),
        ] {
            let error = read(listed, answer).unwrap_err();
            assert!(error.message.starts_with("a.jsonl:3: ") && error.message.contains(reason), "{error}");
            assert!(error.hint.is_some());
        }
    }
}
