//! The packaged SmolLM2-135M-Instruct against transformers' token log-probabilities.

use crate::golden;
use orchestrate_engine::head;
use orchestrate_engine::models::{Decoder, Packed};
use orchestrate_engine::tokenizer::Tokenizer;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn token_logprobs_of_smollm2_equal_transformers() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/smollm2-135m-instruct");
    if !dir.exists() {
        eprintln!("skipped: {} is missing; `./justw test` fetches it", dir.display());
        assert!(std::env::var_os("CI").is_none(), "CI must have the real models");
        return;
    }
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
