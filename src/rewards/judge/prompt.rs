//! What a judge is asked: the recipe's template over a sample, and the request it goes out in.

use crate::recipe::spec::JudgeSpec;
use crate::rewards::Sample;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde::Serialize;
use serde_json::{Value, json};

const NAME: &str = "prompt";
/// Steps a template may take: rendering ends, whatever the template does.
const FUEL: u64 = 1_000_000;

/// The recipe's template, compiled.
pub(super) struct Prompt {
    environment: Environment<'static>,
    scale: (i64, i64),
}

/// What a template may name.
#[derive(Serialize)]
struct Variables<'a> {
    prompt: &'a str,
    completion: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a str>,
    min_score: i64,
    max_score: i64,
}

impl Prompt {
    /// Compiles the template of `spec`.
    pub(super) fn new(spec: &JudgeSpec) -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        // `{% if reference %}` may ask for what a row lacks, `{{ reference }}` may not
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_fuel(Some(FUEL));
        environment.add_template_owned(NAME, spec.prompt.clone())?;
        Ok(Self { environment, scale: (spec.min_score, spec.max_score) })
    }

    /// The message about `text`, the part of `sample`'s completion that is judged; or why there is none.
    pub(super) fn render(&self, sample: &Sample<'_>, text: &str) -> Result<String, String> {
        let template = self.environment.get_template(NAME).expect("it was added when compiling");
        let (min_score, max_score) = self.scale;
        let Sample { prompt, reference, answer, .. } = *sample;
        let variables = Variables { prompt, completion: text, reference, answer, min_score, max_score };
        template.render(minijinja::Value::from(Serde(&variables))).map_err(|error| {
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

/// What is sent to ask `model`, in the form of OpenAI's chat completions. Equal requests have equal answers: this is what
/// answers are kept by, so it names neither where the model is served nor the key.
pub(super) fn request(spec: &JudgeSpec, model: &str, message: &str) -> Value {
    let score = json!({"type": "integer", "minimum": spec.min_score, "maximum": spec.max_score});
    let schema = json!({
        "type": "object", "properties": {"score": score}, "required": ["score"], "additionalProperties": false,
    });
    json!({
        "model": model,
        "messages": [{"role": "user", "content": message}],
        "temperature": spec.temperature,
        "seed": spec.seed,
        "max_tokens": spec.max_tokens,
        "response_format": {"type": "json_schema", "json_schema": {"name": "verdict", "strict": true, "schema": schema}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::judge::tests::spec;
    use crate::rewards::testing::sample;

    fn render(template: &str, sample: &Sample<'_>) -> Result<String, String> {
        Prompt::new(&JudgeSpec { prompt: template.to_owned(), ..spec() }).unwrap().render(sample, "the part")
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
        let schema = crate::recipe::schema();
        let rubric = schema["$defs"]["JudgeTable"]["properties"]["prompt"]["default"].as_str().unwrap();
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
        let prompt = Prompt::new(&spec()).unwrap();
        let message = prompt.render(&sample(""), "{{ reference }} {% if %}").unwrap();
        assert!(message.contains("{{ reference }} {% if %}"), "{message}");
    }
}
