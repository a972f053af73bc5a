//! Models with a head for sequence classification, compared with transformers: whole directories, from texts to logits.

use crate::golden::{json, path};
use orchestrate_core::recipe::spec::ClassifierInput;
use orchestrate_core::rewards::TextClassifier;
use orchestrate_engine::classifier::Classifier;
use serde::Deserialize;
use std::path::Path;
use tch::{Device, Kind};

const MODELS: [&str; 7] = ["bert", "xlm_roberta", "modernbert", "modernbert_mean", "llama", "qwen2", "qwen3"];

#[derive(Deserialize)]
struct Case {
    input: ClassifierInput,
    prompt: String,
    text: String,
    logits: Vec<f32>,
    cut: bool,
}

fn cases(name: &str) -> Vec<Case> {
    serde_json::from_value(json(&format!("classifiers/{name}/cases.json"))).unwrap()
}

fn load(dir: &Path, input: ClassifierInput, kind: Kind) -> Classifier {
    Classifier::load(dir, input, Device::Cpu, kind).unwrap()
}

/// Returns the logits of `cases`, all of them read with one call.
fn logits(classifier: &mut Classifier, cases: &[&Case]) -> Vec<Vec<f32>> {
    let texts: Vec<(&str, &str)> = cases.iter().map(|case| (&*case.prompt, &*case.text)).collect();
    classifier.logits(&texts).unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Returns the cases of each form of input that a model has.
fn by_input(cases: &[Case]) -> Vec<(ClassifierInput, Vec<&Case>)> {
    let of = |input| (input, cases.iter().filter(|case| case.input == input).collect::<Vec<_>>());
    let forms = [ClassifierInput::Pair, ClassifierInput::Chat, ClassifierInput::Text].map(of);
    forms.into_iter().filter(|(_, cases)| !cases.is_empty()).collect()
}

#[test]
fn logits_equal_transformers_for_pairs_chats_and_texts_alone_whatever_stands_beside_them() {
    for name in MODELS {
        let cases = cases(name);
        let forms = by_input(&cases);
        assert_eq!(forms.len(), 2, "{name}: {:?}", forms.iter().map(|(input, _)| input).collect::<Vec<_>>());
        for (input, cases) in forms {
            let mut classifier = load(&path(&format!("classifiers/{name}")), input, Kind::Float);
            let together = logits(&mut classifier, &cases);
            assert_eq!(classifier.truncated(), cases.iter().filter(|case| case.cut).count(), "{name}, {input:?}");
            for (case, together) in cases.iter().zip(&together) {
                let alone = logits(&mut classifier, &[case]).remove(0);
                for found in [together, &alone] {
                    let difference = largest_difference(found, &case.logits);
                    assert!(difference < 1e-4, "{name}, {input:?} of {:?}: {difference}", case.text);
                }
            }
        }
    }
}

#[test]
fn the_prompt_the_segments_and_the_last_token_count() {
    let differs = |name: &str, input| {
        let mut classifier = load(&path(&format!("classifiers/{name}")), input, Kind::Float);
        let logits = classifier.logits(&[("Why?", "So."), ("How?", "So.")]).unwrap();
        largest_difference(&logits[0], &logits[1]) > 1e-3
    };
    for (name, input) in [("bert", ClassifierInput::Pair), ("llama", ClassifierInput::Chat)] {
        assert!(differs(name, input), "{name}");
        assert!(!differs(name, ClassifierInput::Text), "{name}");
    }
    let changed = |name: &str, file: &str, from: &str, to: &str| {
        let dir = tempfile::tempdir().unwrap();
        for entry in fs_err::read_dir(path(&format!("classifiers/{name}"))).unwrap() {
            let entry = entry.unwrap();
            fs_err::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        let text = fs_err::read_to_string(dir.path().join(file)).unwrap();
        assert!(text.contains(from), "{text}");
        fs_err::write(dir.path().join(file), text.replace(from, to)).unwrap();
        dir
    };
    let without_segments = changed("bert", "tokenizer_config.json", "\"token_type_ids\",", "");
    let without_padding = changed("llama", "config.json", "\"pad_token_id\": 259", "\"pad_token_id\": null");
    for (name, dir, input) in
        [("bert", without_segments, ClassifierInput::Pair), ("llama", without_padding, ClassifierInput::Chat)]
    {
        let mut classifier = load(dir.path(), input, Kind::Float);
        let cases = cases(name);
        let case = cases.iter().find(|case| case.input == input && !case.cut).unwrap();
        let difference = largest_difference(&logits(&mut classifier, &[case])[0], &case.logits);
        assert!(difference > 1e-3, "{name}: {difference}");
    }
}

#[test]
fn bfloat16_is_near_and_a_text_without_tokens_has_no_logits() {
    for name in ["bert", "qwen2"] {
        let cases = cases(name);
        for (input, cases) in by_input(&cases) {
            let mut classifier = load(&path(&format!("classifiers/{name}")), input, Kind::BFloat16);
            for (case, found) in cases.iter().zip(logits(&mut classifier, &cases)) {
                let difference = largest_difference(&found, &case.logits);
                assert!(difference < 0.15, "{name}, {input:?} of {:?}: {difference}", case.text);
            }
        }
    }
    let mut classifier = load(&path("classifiers/qwen2"), ClassifierInput::Text, Kind::Float);
    let logits = classifier.logits(&[("", ""), ("", "x")]).unwrap();
    assert_eq!([logits[0].len(), logits[1].len()], [0, 2]);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let refusal = |dir: &Path, input| Classifier::load(dir, input, Device::Cpu, Kind::Float).unwrap_err().message;
    let without_head = refusal(&path("encoders/bert"), ClassifierInput::Pair);
    assert!(without_head.contains("`bert.pooler.dense.bias` is missing"), "{without_head}");
    let without_template = refusal(&path("classifiers/bert"), ClassifierInput::Chat);
    assert!(
        without_template.contains("no chat template") || without_template.contains("end-of-text"),
        "{without_template}"
    );
}
