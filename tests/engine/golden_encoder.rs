//! BERT against Hugging Face, and the packaged MiniLM against sentence-transformers.

use crate::golden::{json, largest_difference, path, tensors};
use orchestrate::rewards::TextEncoder;
use orchestrate_engine::encoder::Encoder;
use orchestrate_engine::models::bert::Bert;
use tch::{Device, Kind, Tensor};

#[test]
fn bert_hidden_states_equal_hugging_face() {
    let model = Bert::load(&path("encoders/bert"), Kind::Float, Device::Cpu).unwrap();
    let golden = tensors("encoders/bert/golden.safetensors");
    let mask = &golden["attention_mask"];
    let hidden = tch::no_grad(|| model.forward(&golden["input_ids"], mask));
    // what stands on padding is nobody's business
    let visible = mask.unsqueeze(-1).to_kind(Kind::Float);
    let difference = largest_difference(&(hidden * &visible), &(&golden["last_hidden_state"] * &visible));
    assert!(difference < 1e-4, "{difference}");
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn minilm_embeddings_equal_sentence_transformers_whatever_the_batch() {
    let dir = path("../../models/all-minilm-l6-v2");
    if !dir.exists() {
        eprintln!("skipped: {} is missing; `./justw models` fetches it", dir.display());
        assert!(std::env::var_os("CI").is_none(), "CI must have the real models");
        return;
    }
    let mut encoder = Encoder::load(&dir, Device::Cpu, Kind::Float).unwrap();
    let golden = json("real_models.json");
    let cases = golden["encoder"].as_array().unwrap();
    let texts: Vec<&str> = cases.iter().map(|case| case["text"].as_str().unwrap()).collect();
    let together = encoder.embed(&texts).unwrap();
    for (case, ours) in cases.iter().zip(&together) {
        let theirs: Vec<f32> = serde_json::from_value(case["embedding"].clone()).unwrap();
        let difference = largest_difference(&Tensor::from_slice(ours), &Tensor::from_slice(&theirs));
        assert!(difference < 1e-4, "{}: {difference}", case["text"]);
    }
    for (text, whole) in texts.iter().zip(&together) {
        let alone = &encoder.embed(&[text]).unwrap()[0];
        assert!(largest_difference(&Tensor::from_slice(alone), &Tensor::from_slice(whole)) < 1e-5, "{text}");
    }
}
