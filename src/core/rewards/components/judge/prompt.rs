//! The prompt of a judge: the recipe's template rendered for a sample, and the request that contains it.

use super::Pair;
use crate::rewards::Sample;
use crate::rewards::{JudgeSampling, RubricScale};
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde::Serialize;
use serde_json::{Value, json};

const NAME: &str = "prompt";
/// The limit of steps of a template, so that rendering always ends.
const FUEL: u64 = 1_000_000;

/// The compiled template of a recipe.
pub(super) struct Prompt {
    environment: Environment<'static>,
}

/// The variables of a rubric's template.
#[derive(Serialize)]
struct OfARubric<'a> {
    prompt: &'a str,
    completion: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a str>,
    min_score: i64,
    max_score: i64,
}

/// The variables of a pair's template.
#[derive(Serialize)]
struct OfAPair<'a> {
    prompt: &'a str,
    first: &'a str,
    second: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a str>,
}

impl Prompt {
    /// Compiles `template`.
    pub(super) fn new(template: &str) -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        // `{% if reference %}` may test a value that a row lacks; `{{ reference }}` may not print it
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_fuel(Some(FUEL));
        environment.add_template_owned(NAME, template.to_owned())?;
        Ok(Self { environment })
    }

    /// Returns the message about `text`, the judged part of `sample`'s completion, or the reason why it cannot be
    /// rendered.
    pub(super) fn of_text(&self, sample: &Sample<'_>, text: &str, scale: &RubricScale) -> Result<String, String> {
        let RubricScale { min_score, max_score, .. } = *scale;
        let Sample { prompt, reference, answer, .. } = *sample;
        let variables = OfARubric { prompt, completion: text, reference, answer, min_score, max_score };
        self.render(&variables, reference, answer)
    }

    /// Returns the message about `pair`, with `a` first, or the reason why it cannot be rendered.
    pub(super) fn of_pair(&self, pair: &Pair<'_>) -> Result<String, String> {
        let Pair { prompt, a, b, reference, answer } = *pair;
        self.render(&OfAPair { prompt, first: a, second: b, reference, answer }, reference, answer)
    }

    fn render(
        &self,
        variables: &impl Serialize,
        reference: Option<&str>,
        answer: Option<&str>,
    ) -> Result<String, String> {
        let template = self.environment.get_template(NAME).expect("it was added when compiling");
        template.render(minijinja::Value::from(Serde(variables))).map_err(|error| {
            let asked = template.undeclared_variables(false);
            let optional = [("reference", reference), ("answer", answer)];
            let absent = optional.iter().find(|(name, text)| text.is_none() && asked.contains(*name));
            match absent {
                Some((name, _)) if error.kind() == ErrorKind::UndefinedError => format!("the row has no {name}"),
                _ => format!("the judge's prompt does not render: {error}"),
            }
        })
    }
}

/// Returns the JSON schema of a score.
pub(super) fn score_schema(scale: &RubricScale) -> Value {
    let score = json!({"type": "integer", "minimum": scale.min_score, "maximum": scale.max_score});
    json!({
        "type": "object", "properties": {"score": score}, "required": ["score"], "additionalProperties": false,
    })
}

/// Returns the JSON schema of a preference.
pub(super) fn preference_schema() -> Value {
    let properties = json!({
        "reason": {"type": "string"}, "verdict": {"type": "string", "enum": ["first", "second", "tie"]},
    });
    json!({
        "type": "object", "properties": properties, "required": ["reason", "verdict"], "additionalProperties": false,
    })
}

/// Returns the request to `model` in the format of OpenAI's chat completions.
///
/// Answers are cached by the request, so it contains neither the address of the server nor the API key.
pub(super) fn request(sampling: JudgeSampling, model: &str, message: &str, schema: &Value) -> Value {
    json!({
        "model": model,
        "messages": [{"role": "user", "content": message}],
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "max_tokens": sampling.max_tokens,
        "response_format": {"type": "json_schema", "json_schema": {"name": "verdict", "strict": true, "schema": schema}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::JudgeSpec;
    use crate::rewards::component::Kind as _;
    use crate::rewards::components::judge::testing::scale;
    use crate::rewards::testing::sample;

    fn render(template: &str, sample: &Sample<'_>) -> Result<String, String> {
        Prompt::new(template).unwrap().of_text(sample, "the part", &scale())
    }

    #[test]
    fn a_template_sees_the_sample_and_the_scale() {
        let all = "{{ prompt }}|{{ completion }}|{{ reference }}|{{ answer }}|{{ min_score }}-{{ max_score }}";
        let sample = Sample { prompt: "Q", reference: Some("R"), answer: Some("A"), ..sample("all of it") };
        assert_eq!(render(all, &sample).unwrap(), "Q|the part|R|A|1-5");
    }

    #[test]
    fn what_a_row_lacks_may_be_asked_for_but_not_printed() {
        let sample = Sample { reference: None, ..sample("") };
        assert_eq!(render("{% if reference %}{{ reference }}{% else %}none{% endif %}", &sample).unwrap(), "none");
        assert_eq!(render("{{ reference }}", &sample).unwrap_err(), "the row has no reference");
        let endless = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}";
        assert!(render(endless, &sample).unwrap_err().contains("does not render"));
    }

    #[test]
    fn the_built_in_rubric_tells_what_there_is() {
        let defaults: toml::Table = JudgeSpec::DEFAULTS.parse().unwrap();
        let rubric = defaults["prompt"].as_str().unwrap();
        let bare = render(rubric, &Sample { prompt: "Which organ?", ..sample("") }).unwrap();
        assert!(bare.contains("<task>\nWhich organ?\n</task>\n\n<answer_to_rate>\nthe part\n"), "{bare}");
        assert!(bare.ends_with("{\"score\": an integer from 1 to 5}"), "{bare}");
        let full = Sample { reference: Some("It pumps."), answer: Some("A"), ..sample("") };
        let full = render(rubric, &full).unwrap();
        assert!(
            full.contains("</task>\n\n<reference>\nIt pumps.\n</reference>\n\n<solution>\nA\n</solution>\n\n<answer"),
            "{full}"
        );
    }

    #[test]
    fn a_completion_is_text_not_template() {
        let prompt = Prompt::new("Rate: {{ completion }}").unwrap();
        let message = prompt.of_text(&sample(""), "{{ reference }} {% if %}", &scale()).unwrap();
        assert!(message.contains("{{ reference }} {% if %}"), "{message}");
    }
}
