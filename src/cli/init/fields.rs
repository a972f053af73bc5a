//! Templates for the rows of a file, from the names of its fields.

use super::super::error::{CliError, Kind};
use serde_json::{Map, Value};
use std::path::Path;

/// Common names of the question's field. The first one that a row has is taken, as for the lists below.
const QUESTION: [&str; 6] = ["question", "prompt", "instruction", "problem", "query", "input"];
/// Common names of the answer's field.
const ANSWER: [&str; 7] = ["answer", "label", "target", "solution", "output", "response", "completion"];
/// Common names of the field that explains the answer.
const EXPLANATION: [&str; 5] = ["explanation", "rationale", "reasoning", "reference", "cot"];
/// Common names of the field with the options.
const OPTIONS: [&str; 2] = ["options", "choices"];

/// The parts of a recipe that depend on the data.
pub(super) struct Fields {
    /// The keys of `[data.questions]` from `prompt` on.
    pub(super) templates: String,
    /// The tables of rewards below a stage's `rewards`, each with `STAGE` for the stage.
    pub(super) rewards: String,
}

/// Derives the templates from the first row of the file at `path`.
///
/// # Errors
/// The file cannot be read, it is not JSON lines, or its fields have other names.
pub(super) fn of_file(path: &Path) -> Result<Fields, CliError> {
    let text = fs_err::read_to_string(path)?;
    let shown = path.display();
    let first = text.trim_start_matches('\u{feff}').lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let row: Map<String, Value> = serde_json::from_str(first).map_err(|error| {
        CliError::new(Kind::Usage, format!("the first line of `{shown}` is not a JSON object: {error}"))
            .hint("a data file has one JSON object a line, such as {\"question\": \"...\", \"answer\": \"...\"}")
    })?;
    of_row(&row).ok_or_else(|| {
        let fields: Vec<String> = row.keys().map(|name| format!("`{name}`")).collect();
        CliError::new(Kind::Usage, format!("no field of `{shown}` is recognized as a question or an answer"))
            .hint(format!("its fields are {}", fields.join(", ")))
            .hint(format!(
                "a question field is named one of {}, an answer field one of {}",
                QUESTION.join(", "),
                ANSWER.join(", ")
            ))
            .hint("`orchestrate init` without `--data` writes an example, whose templates may name any field")
    })
}

fn of_row(row: &Map<String, Value>) -> Option<Fields> {
    let named = |names: &[&'static str]| names.iter().copied().find(|name| row.contains_key(*name));
    let question = named(&QUESTION)?;
    let answer = ANSWER.iter().copied().find(|name| *name != question && row.contains_key(*name))?;
    let explanation = EXPLANATION.iter().copied().find(|name| *name != answer && row.contains_key(*name));
    let options = named(&OPTIONS).filter(|name| row[*name].is_object());
    let choices = options.map_or_else(String::new, |options| {
        format!("\n{{% for letter, option in {options}|items %}}{{{{ letter }}}}) {{{{ option }}}}\n{{% endfor %}}")
    });
    let gap = if options.is_some() { "" } else { "\n" };
    let what = if options.is_some() { "letter" } else { "answer" };
    let (ask, completion, reference, tags, scope) = match explanation {
        Some(explanation) => (
            format!("Explain briefly inside <think></think>, then give the {what} inside <answer></answer>."),
            format!("<think>{{{{ {explanation} }}}}</think><answer>{{{{ {answer} }}}}</answer>"),
            explanation,
            "[\"think\", \"answer\"]",
            "think",
        ),
        None => (
            format!("Give the {what} inside <answer></answer>."),
            format!("<answer>{{{{ {answer} }}}}</answer>"),
            answer,
            "[\"answer\"]",
            "answer",
        ),
    };
    let is_number =
        row[answer].is_number() || row[answer].as_str().is_some_and(|text| text.trim().parse::<f64>().is_ok());
    let matching = match (options, is_number) {
        (Some(_), _) => "choice",
        (None, true) => "numeric",
        (None, false) => "exact",
    };
    Some(Fields {
        templates: format!(
            "prompt = \"\"\"\n{{{{ {question} }}}}{choices}{gap}{ask}\"\"\"\ncompletion = \"{completion}\"\n\
             reference = \"{{{{ {reference} }}}}\"                # what `rouge` and `semantic` compare with\n\
             answer = \"{{{{ {answer} }}}}\"                        # what `correctness` compares with\n"
        ),
        rewards: format!(
            "[stages.STAGE.rewards.correctness]\nmatch = \"{matching}\"\n[stages.STAGE.rewards.format]\ntags = {tags}\n\
             [stages.STAGE.rewards.rouge]\nscope = \"{scope}\"\n"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(row: &Value) -> Option<Fields> {
        of_row(row.as_object().unwrap())
    }

    #[test]
    fn templates_name_the_fields_that_are_there() {
        let found = fields(&json!({"problem": "2 + 2", "solution": "4"})).unwrap();
        assert!(found.templates.contains("{{ problem }}\nGive the answer inside <answer></answer>."));
        assert!(found.templates.contains("completion = \"<answer>{{ solution }}</answer>\""));
        assert!(found.rewards.contains("match = \"numeric\"") && found.rewards.contains("tags = [\"answer\"]"));
        let row = json!({"question": "Bone?", "choices": {"A": "femur"}, "label": "A", "rationale": "Long."});
        let found = fields(&row).unwrap();
        assert!(found.templates.contains("in choices|items"));
        assert!(found.templates.contains("<think>{{ rationale }}</think><answer>{{ label }}</answer>"));
        assert!(found.rewards.contains("match = \"choice\"") && found.rewards.contains("scope = \"think\""));
    }

    #[test]
    fn rows_with_other_fields_are_refused() {
        assert!(fields(&json!({"text": "a document"})).is_none());
        assert!(fields(&json!({"question": "no answer"})).is_none());
    }
}
