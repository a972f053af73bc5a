//! The words of a `command` stage's program: templates over the program's inputs.

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The values that templates in a `command` stage's words may use.
#[derive(Clone, Debug, Serialize)]
pub struct CommandWords<'a> {
    /// The directory that becomes the stage's result.
    pub output: &'a str,
    /// The result of the first stage in `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<&'a str>,
    /// The results of all stages in `after`.
    pub parents: &'a [String],
    /// The stage's `parameters`.
    pub parameters: &'a BTreeMap<String, serde_json::Value>,
    /// The path of a JSON file with the parameters.
    pub parameters_file: &'a str,
    /// The directory of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    /// The stage's seed.
    pub seed: u64,
    /// The directory that interrupted attempts leave for later ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<&'a str>,
}

impl CommandWords<'_> {
    /// The names that templates may use.
    pub const NAMES: [&'static str; 8] =
        ["output", "parent", "parents", "parameters", "parameters_file", "model", "seed", "resume"];

    /// Fills in the template `word`.
    ///
    /// # Errors
    /// An invalid template, or a name without a value.
    pub fn fill_in(&self, word: &str) -> Result<String, String> {
        if !is_template(word) {
            return Ok(word.to_owned());
        }
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment
            .render_str(word, Value::from(Serde(self)))
            .map_err(|error| error.detail().map_or_else(|| error.kind().to_string(), str::to_owned))
    }

    /// Returns the names that `words` use.
    pub fn named<'w>(words: impl IntoIterator<Item = &'w str>) -> BTreeSet<String> {
        let templates: Vec<&str> = words.into_iter().filter(|word| is_template(word)).collect();
        if templates.is_empty() {
            return BTreeSet::new(); // avoids creating an environment, which is expensive
        }
        let environment = Environment::new();
        let parsed = templates.into_iter().filter_map(|word| environment.template_from_str(word).ok());
        parsed.flat_map(|template| template.undeclared_variables(false)).collect()
    }
}

/// Whether `word` contains template syntax.
pub(in crate::recipe) fn is_template(word: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|opening| word.contains(opening))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_have_what_they_name_or_are_refused() {
        let parameters = BTreeMap::from([("shots".to_owned(), json!(5))]);
        let parents = ["/p/one".to_owned(), "/p/two".to_owned()];
        let words = CommandWords {
            output: "/out",
            parent: Some("/p/one"),
            parents: &parents,
            parameters: &parameters,
            parameters_file: "/parameters.json",
            model: None,
            seed: 3,
            resume: None,
        };
        assert_eq!(words.fill_in("--out={{ output }}").as_deref(), Ok("--out=/out"));
        assert_eq!(words.fill_in("{{ parents[1] }}:{{ parameters.shots }}").as_deref(), Ok("/p/two:5"));
        assert_eq!(words.fill_in("{\"json\": {}}").as_deref(), Ok("{\"json\": {}}"));
        for missing in ["{{ model }}", "{{ parents[2] }}", "{{ parameters.shot }}", "{{ output"] {
            assert!(words.fill_in(missing).is_err(), "{missing}");
        }
        assert_eq!(
            CommandWords::named(["{{ model }}", "plain", "{{ seed }}"]),
            ["model", "seed"].map(String::from).into()
        );
    }
}
