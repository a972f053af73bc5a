//! The packaged SmolLM2-135M-Instruct compared with transformers' token log-probabilities.

use crate::golden;
use orchestrate_core::event::StopReason;
use orchestrate_core::recipe::spec::Sampling;
use orchestrate_engine::choice::{loglikelihoods, verdict};
use orchestrate_engine::generation::{Request, Sampled, Stop, sample};
use orchestrate_engine::head;
use orchestrate_engine::models::{Decoder, Group, Packed};
use orchestrate_engine::tokenizer::Tokenizer;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

/// Returns the model's directory, if it exists.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn smollm2() -> Option<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/smollm2-135m-instruct");
    if dir.exists() {
        return Some(dir);
    }
    eprintln!("skipped: {} is missing; `./justw test` fetches it", dir.display());
    assert!(std::env::var_os("CI").is_none(), "CI must have the real models");
    None
}

#[test]
fn completions_of_smollm2_are_the_same_alone_and_together() {
    let Some(dir) = smollm2() else { return };
    let decoder = Decoder::load(&dir, Kind::Float, Device::Cpu).unwrap();
    let tokenizer = Tokenizer::load(&dir).unwrap();
    let prompts = ["The heart pumps", "Which vessel carries oxygenated blood away from the left ventricle, and why?"];
    let prompts = prompts.map(|prompt| tokenizer.encode(prompt).unwrap());
    let sampling = Sampling { stop_strings: vec![".".to_owned()], ..Sampling::plain(24) };
    let stop = Stop::new(&tokenizer, &sampling);
    let requests: Vec<Request<'_>> =
        prompts.iter().map(|prompt_ids| Request { prompt_ids, seeds: (0..6).collect() }).collect();
    let together = sample(&decoder, &requests, &sampling, &stop, 0);
    let alone: Vec<Sampled> = requests
        .iter()
        .flat_map(|r| r.seeds.iter().map(|&seed| Request { prompt_ids: r.prompt_ids, seeds: vec![seed] }))
        .flat_map(|request| sample(&decoder, &[request], &sampling, &stop, 0))
        .collect();
    assert_eq!(together, alone, "tokens or log-probabilities depend on the batch");
    assert_eq!(sample(&decoder, &requests, &sampling, &stop, 5), alone, "or on how many are decoded at a time");
    for sampled in &together {
        let text = tokenizer.decode(&sampled.ids);
        assert_eq!(text.contains('.'), sampled.stop_reason == StopReason::StopString, "{text}");
    }
}

#[test]
fn token_logprobs_of_smollm2_equal_transformers() {
    let Some(dir) = smollm2() else { return };
    let decoder = Decoder::load(&dir, Kind::Float, Device::Cpu).unwrap();
    let tokenizer = Tokenizer::load(&dir).unwrap();
    let golden = golden::json("real_models.json");
    for case in golden["decoder"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<i64> = serde_json::from_value(case["input_ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text}");
        let theirs: Vec<f64> = serde_json::from_value(case["token_logprobs"].clone()).unwrap();
        let hidden = tch::no_grad(|| decoder.hidden(&Packed::new(&[&ids], Device::Cpu)));
        let count = i64::try_from(theirs.len()).unwrap();
        let ours = head::logprobs(&decoder, &hidden.narrow(0, 0, count), &Tensor::from_slice(&ids[1..]), 1.0).logprobs;
        let difference = golden::largest_difference(&ours, &Tensor::from_slice(&theirs));
        assert!(difference < 1e-3, "{text}: {difference}");
    }
}

/// The golden values are from `tests/golden/gen_choices.py`.
#[test]
fn the_likeliest_options_of_smollm2_are_those_of_transformers() {
    let Some(dir) = smollm2() else { return };
    let decoder = Decoder::load(&dir, Kind::Float, Device::Cpu).unwrap();
    let tokenizer = Tokenizer::load(&dir).unwrap();
    let golden = golden::json("choices.json");
    let mut differs = 0;
    for case in golden.as_array().unwrap() {
        let texts: Vec<String> = serde_json::from_value(case["options"].clone()).unwrap();
        let ids: Vec<Vec<i64>> = serde_json::from_value(case["option_ids"].clone()).unwrap();
        let encoded: Vec<Vec<i64>> = texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
        assert_eq!(encoded, ids, "options are encoded by themselves");
        let prompt: Vec<i64> = serde_json::from_value(case["prompt_ids"].clone()).unwrap();
        let theirs: Vec<f64> = serde_json::from_value(case["loglikelihoods"].clone()).unwrap();
        let group = Group { prompt: &prompt, completions: ids.iter().map(Vec::as_slice).collect() };
        let ours = loglikelihoods(&decoder, &[group]).remove(0);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!((ours - theirs).abs() < 1e-3 * theirs.abs().max(1.0), "{ours}, transformers {theirs}");
        }
        for right in 0..texts.len() {
            let choice = verdict(ours.clone(), &texts, right);
            assert_eq!((choice.correct, choice.correct_norm), (case["acc"] == right, case["acc_norm"] == right));
        }
        differs += usize::from(case["acc"] != case["acc_norm"]);
    }
    assert!(differs > 0, "a question tells the two measures apart");
}
