//! References to the result of a stage in recipes: `stage:NAME`, `stage:NAME@STEP`, `stage:NAME/FILE`.

use std::fmt;

/// The prefix of a reference to a stage.
const STAGE_SCHEME: &str = "stage:";

/// A reference to the result of a stage of the same variant. What refers to it has the stage's key in its own key,
/// never a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::recipe) struct StageReference {
    /// The stage's name in the recipe.
    pub(in crate::recipe) stage: String,
    /// The step of a snapshot; absent: the stage's end.
    pub(in crate::recipe) step: Option<u64>,
    /// The path of a file in the result; absent: the result's main file.
    pub(in crate::recipe) file: Option<String>,
}

impl StageReference {
    /// Whether `text` has the prefix of a reference to a stage.
    pub(in crate::recipe) fn is_meant(text: &str) -> bool {
        text.starts_with(STAGE_SCHEME)
    }

    /// Reads `stage:NAME`, `stage:NAME@STEP` or `stage:NAME/FILE`.
    ///
    /// # Errors
    /// A short reason why `text` is not a valid reference.
    pub(in crate::recipe) fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(STAGE_SCHEME).ok_or_else(|| format!("it does not begin with `{STAGE_SCHEME}`"))?;
        let (rest, file) = match rest.split_once('/') {
            Some((rest, file)) => (rest, Some(file)),
            None => (rest, None),
        };
        let (stage, step) = match rest.split_once('@') {
            Some((stage, step)) => (stage, Some(step)),
            None => (rest, None),
        };
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        if stage.is_empty() || !stage.chars().all(is_name) {
            return Err(format!("`{stage}` is not the name of a stage (lowercase letters, digits, `-`, `_`)"));
        }
        let step = match step.map(str::parse::<u64>) {
            None => None,
            Some(Ok(step)) if step > 0 => Some(step),
            Some(_) => return Err("`@` is followed by the number of a step, from 1".to_owned()),
        };
        if let Some(file) = file.filter(|file| file.split('/').any(|part| matches!(part, "" | "." | ".."))) {
            return Err(format!("`{file}` is not a file of a stage's result"));
        }
        Ok(Self { stage: stage.to_owned(), step, file: file.map(str::to_owned) })
    }
}

impl fmt::Display for StageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STAGE_SCHEME}{}", self.stage)?;
        self.step.map_or(Ok(()), |step| write!(f, "@{step}"))?;
        self.file.as_ref().map_or(Ok(()), |file| write!(f, "/{file}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_a_stage_a_step_or_a_file() {
        let read =
            |text: &str| StageReference::parse(text).map(|r| (r.stage.clone(), r.step, r.file.clone(), r.to_string()));
        for (text, step, file) in [
            ("stage:parent", None, None),
            ("stage:parent@50", Some(50), None),
            ("stage:parent/a/b.jsonl", None, Some("a/b.jsonl")),
            ("stage:parent@50/b.jsonl", Some(50), Some("b.jsonl")),
        ] {
            let expected = ("parent".to_owned(), step, file.map(str::to_owned), text.to_owned());
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        for text in
            ["stage:", "stage:A b", "stage:a@", "stage:a@0", "stage:a@x", "stage:a/../x", "stage:a//x", "stages:a"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
