//! The `config.json` of a model with a head for sequence classification: its labels and what they mean.

use super::Activation;
use crate::suggestion::nearest;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

/// A label of a classifier.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Label {
    /// The index of the label.
    Index(usize),
    /// The name of the label in the model's `id2label`.
    Name(String),
}

/// Returns the schema of a [`Label`].
pub(super) fn name_or_index(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "integer"], "minimum": 0 })
}

/// The head of a model.
#[derive(Debug, PartialEq)]
pub(super) struct Head {
    /// Whether the model is a decoder.
    pub(super) is_decoder: bool,
    /// The names of the labels, by index.
    pub(super) labels: Vec<String>,
    /// The activation that transformers applies.
    pub(super) activation: Activation,
}

/// The architectures, each with whether it is a decoder.
const ARCHITECTURES: [(&str, bool); 7] = [
    ("BertForSequenceClassification", false),
    ("RobertaForSequenceClassification", false),
    ("XLMRobertaForSequenceClassification", false),
    ("ModernBertForSequenceClassification", false),
    ("LlamaForSequenceClassification", true),
    ("Qwen2ForSequenceClassification", true),
    ("Qwen3ForSequenceClassification", true),
];

impl Head {
    /// Reads a `config.json`. The error says what it lacks.
    pub(super) fn read(config: &Value) -> Result<Self, String> {
        let named = &config["architectures"];
        let is_decoder = ARCHITECTURES
            .iter()
            .find(|(name, _)| named.as_array().is_some_and(|list| list.iter().any(|listed| listed == name)))
            .map(|(_, is_decoder)| *is_decoder)
            .ok_or_else(|| format!("`architectures` in its `config.json` is {named}"))?;
        let labels = labels(config)?;
        // as transformers' text-classification pipeline
        let activation = match config["problem_type"].as_str() {
            Some("regression") => Activation::None,
            Some("multi_label_classification") => Activation::Sigmoid,
            _ if labels.len() == 1 => Activation::Sigmoid,
            _ => Activation::Softmax,
        };
        Ok(Self { is_decoder, labels, activation })
    }

    /// Returns the index of `label`, or that of the only label.
    pub(super) fn label(&self, label: Option<&Label>) -> Result<usize, String> {
        let count = self.labels.len();
        match label {
            None if count == 1 => Ok(0),
            None => Err(format!("the classifier has {count} labels, and `label` names none of them")),
            Some(Label::Index(index)) if *index < count => Ok(*index),
            Some(Label::Index(index)) => {
                Err(format!("the classifier has no label {index}: they are 0 to {}", count - 1))
            }
            Some(Label::Name(name)) => self.labels.iter().position(|known| known == name).ok_or_else(|| {
                let known: Vec<&str> = self.labels.iter().map(String::as_str).collect();
                let meant = nearest(name, &known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                format!("the classifier has no label `{name}`{meant}")
            }),
        }
    }

    /// Returns the labels in words.
    pub(super) fn listed(&self) -> String {
        let listed = self.labels.iter().enumerate().map(|(index, name)| format!("`{name}` ({index})"));
        listed.collect::<Vec<_>>().join(", ")
    }
}

/// Returns the names of the labels. Without any, transformers has two.
fn labels(config: &Value) -> Result<Vec<String>, String> {
    let Some(named) = config["id2label"].as_object().filter(|named| !named.is_empty()) else {
        let count = config["num_labels"].as_u64().unwrap_or(2);
        return Ok((0..count).map(|index| format!("LABEL_{index}")).collect());
    };
    let label = |index: usize| named.get(&index.to_string()).and_then(Value::as_str).map(str::to_owned);
    (0..named.len())
        .map(|index| label(index).ok_or_else(|| format!("`id2label` in its `config.json` has no label {index}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn head(config: &Value) -> Head {
        Head::read(config).unwrap()
    }

    #[test]
    fn labels_and_activation_are_those_of_transformers() {
        let architectures = json!(["BertForSequenceClassification"]);
        let two = head(&json!({ "architectures": architectures }));
        assert_eq!((two.labels.len(), two.activation, two.is_decoder), (2, Activation::Softmax, false));
        let one = json!({ "architectures": ["Qwen3ForSequenceClassification"], "id2label": { "0": "LABEL_0" } });
        assert_eq!((head(&one).activation, head(&one).is_decoder), (Activation::Sigmoid, true));
        let regression = json!({ "architectures": architectures, "num_labels": 1, "problem_type": "regression" });
        assert_eq!((head(&regression).labels.len(), head(&regression).activation), (1, Activation::None));
        let several =
            json!({ "architectures": architectures, "num_labels": 3, "problem_type": "multi_label_classification" });
        assert_eq!((head(&several).labels.len(), head(&several).activation), (3, Activation::Sigmoid));
    }

    #[test]
    fn a_label_is_its_name_or_index() {
        let config = json!({
            "architectures": ["BertForSequenceClassification"], "id2label": { "1": "good", "0": "bad", "2": "1" },
        });
        let head = head(&config);
        assert_eq!(head.labels, ["bad", "good", "1"]);
        assert_eq!(head.label(Some(&Label::Name("good".to_owned()))), Ok(1));
        assert_eq!(head.label(Some(&Label::Index(1))), Ok(1));
        assert_eq!(head.label(Some(&Label::Name("1".to_owned()))), Ok(2));
        assert_eq!(head.label(Some(&Label::Index(3))).unwrap_err(), "the classifier has no label 3: they are 0 to 2");
        let unknown = head.label(Some(&Label::Name("goods".to_owned()))).unwrap_err();
        assert_eq!(unknown, "the classifier has no label `goods`; did you mean `good`?");
        assert!(head.label(None).unwrap_err().contains("3 labels"));
        assert_eq!(head.listed(), "`bad` (0), `good` (1), `1` (2)");
    }

    #[test]
    fn other_heads_and_gaps_between_labels_are_refused() {
        let causal = json!({ "architectures": ["LlamaForCausalLM"] });
        assert_eq!(Head::read(&causal).unwrap_err(), "`architectures` in its `config.json` is [\"LlamaForCausalLM\"]");
        assert!(Head::read(&json!({})).unwrap_err().ends_with("is null"));
        let gap = json!({ "architectures": ["BertForSequenceClassification"], "id2label": { "0": "a", "2": "b" } });
        assert_eq!(Head::read(&gap).unwrap_err(), "`id2label` in its `config.json` has no label 1");
    }
}
