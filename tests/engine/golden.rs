//! The golden values, and decoders compared with Hugging Face's logits (`tests/golden/gen_golden.py`).

use orchestrate_core::digest::Digest;
use orchestrate_core::recipe::spec::{Dtype, LoraSpec, ModelSpec, ParentAdapter};
use orchestrate_engine::checkpoint;
use orchestrate_engine::models::{Decoder, Packed};
use orchestrate_engine::weights::{load_tensors, save_sharded};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

pub(crate) fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(relative)
}

pub(crate) fn json(relative: &str) -> serde_json::Value {
    serde_json::from_str(&fs_err::read_to_string(path(relative)).unwrap()).unwrap()
}

pub(crate) fn tensors(relative: &str) -> BTreeMap<String, Tensor> {
    load_tensors(&path(relative)).unwrap()
}

pub(crate) fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

/// Computes the logits of every token of `input_ids`. // (B, T) -> (B, T, V)
fn logits(decoder: &Decoder, input_ids: &Tensor) -> Tensor {
    let rows: Vec<Vec<i64>> = Vec::<Vec<i64>>::try_from(input_ids).unwrap();
    let (b, t) = input_ids.size2().unwrap();
    tch::no_grad(|| decoder.logits(&decoder.hidden(&Packed::new(&rows, Device::Cpu))).view([b, t, -1]))
}

#[test]
fn decoder_logits_equal_hugging_face() {
    for name in ["llama", "llama_tied", "llama3_rope", "qwen2", "qwen3"] {
        let decoder = Decoder::load(&path(&format!("decoders/{name}")), Kind::Float, Device::Cpu).unwrap();
        let golden = tensors(&format!("decoders/{name}/golden.safetensors"));
        let difference = largest_difference(&logits(&decoder, &golden["input_ids"]), &golden["logits"]);
        assert!(difference < 1e-4, "{name}: logits differ by {difference}");
    }
}

#[test]
fn shards_and_16_bit_weights_on_disk_are_read() {
    let base = path("decoders/llama");
    let golden = tensors("decoders/llama/golden.safetensors");
    let whole: Vec<(String, Tensor)> = tensors("decoders/llama/model.safetensors").into_iter().collect();
    for (kind, tolerance) in [(Kind::Float, 1e-4), (Kind::Half, 0.05), (Kind::BFloat16, 0.3)] {
        let dir = tempfile::tempdir().unwrap();
        fs_err::copy(base.join("config.json"), dir.path().join("config.json")).unwrap();
        save_sharded(dir.path(), &whole, kind, 100_000).unwrap();
        assert!(dir.path().join("model.safetensors.index.json").exists(), "several files");
        let decoder = Decoder::load(dir.path(), Kind::Float, Device::Cpu).unwrap();
        for (name, weight) in decoder.weights() {
            let original = &whole.iter().find(|(other, _)| *other == name).unwrap().1;
            assert!(weight.equal(&original.to_kind(kind).to_kind(Kind::Float)), "{name} in {kind:?}");
        }
        let difference = largest_difference(&logits(&decoder, &golden["input_ids"]), &golden["logits"]);
        assert!(difference < tolerance, "{kind:?}: logits differ by {difference}");
    }
}

#[test]
fn sequences_in_a_packed_row_do_not_see_each_other() {
    let decoder = Decoder::load(&path("decoders/llama"), Kind::Float, Device::Cpu).unwrap();
    let sequences: [&[i64]; 3] = [&[5, 6, 7, 8, 9], &[10, 11], &[5, 6, 200]];
    let together = tch::no_grad(|| decoder.hidden(&Packed::new(&sequences, Device::Cpu)));
    let mut start = 0;
    for sequence in sequences {
        let length = i64::try_from(sequence.len()).unwrap();
        let alone = tch::no_grad(|| decoder.hidden(&Packed::new(&[sequence], Device::Cpu)));
        let difference = largest_difference(&together.narrow(0, start, length), &alone);
        assert!(difference < 1e-5, "a packed sequence differs from the same alone by {difference}");
        start += length;
    }
}

pub(crate) fn peft_spec() -> LoraSpec {
    let config = json("lora/adapter_config.json");
    let mut target_modules: Vec<String> = serde_json::from_value(config["target_modules"].clone()).unwrap();
    target_modules.sort();
    LoraSpec {
        rank: u32::try_from(config["r"].as_u64().unwrap()).unwrap(),
        alpha: config["lora_alpha"].as_f64().unwrap(),
        dropout: 0.0,
        rslora: false,
        target_modules,
    }
}

#[test]
fn a_peft_adapter_gives_pefts_logits_beside_the_weights_and_merged_into_them() {
    let golden = tensors("lora/golden.safetensors");
    let mut decoder = Decoder::load(&path("decoders/llama"), Kind::Float, Device::Cpu).unwrap();
    decoder.add_lora(&peft_spec(), 0).unwrap();
    checkpoint::load(&path("lora"), &decoder).unwrap();
    let difference = largest_difference(&logits(&decoder, &golden["input_ids"]), &golden["logits"]);
    assert!(difference < 1e-4, "with the adapter beside the weights: {difference}");
    decoder.merge_lora();
    let difference = largest_difference(&logits(&decoder, &golden["input_ids"]), &golden["merged_logits"]);
    assert!(difference < 1e-4, "with the adapter merged: {difference}");
}

#[test]
fn a_saved_adapter_has_pefts_names_shapes_and_settings() {
    let dir = tempfile::tempdir().unwrap();
    let base = path("decoders/llama");
    let mut decoder = Decoder::load(&base, Kind::Float, Device::Cpu).unwrap();
    decoder.add_lora(&peft_spec(), 0).unwrap();
    checkpoint::load(&path("lora"), &decoder).unwrap();
    let model = ModelSpec {
        files: Digest::of(b"the base"),
        chat_template: None,
        dtype: Dtype::Float32,
        lora: Some(peft_spec()),
        parent_adapter: ParentAdapter::Continue,
    };
    checkpoint::save(dir.path(), &decoder, &model, &base, &[]).unwrap();

    let ours = load_tensors(&dir.path().join("adapter_model.safetensors")).unwrap();
    let theirs = tensors("lora/adapter_model.safetensors");
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (name, tensor) in &theirs {
        assert!(largest_difference(&ours[name], tensor) == 0.0, "{name} changed on the way through");
    }
    let text = fs_err::read_to_string(dir.path().join("adapter_config.json")).unwrap();
    let ours: serde_json::Value = serde_json::from_str(&text).unwrap();
    let theirs = json("lora/adapter_config.json");
    for field in ["peft_type", "task_type", "r", "lora_alpha", "use_rslora", "bias", "fan_in_fan_out"] {
        if field == "task_type" && theirs[field].is_null() {
            continue;
        }
        assert_eq!(ours[field].as_f64(), theirs[field].as_f64(), "{field}");
        assert_eq!(ours[field].as_str(), theirs[field].as_str(), "{field}");
    }
}

#[test]
fn an_unknown_lora_target_is_an_error_that_names_the_layers() {
    let mut decoder = Decoder::load(&path("decoders/llama"), Kind::Float, Device::Cpu).unwrap();
    let spec = LoraSpec { target_modules: vec!["query".to_owned()], ..peft_spec() };
    let error = decoder.add_lora(&spec, 0).unwrap_err();
    assert!(error.message.contains("`query`"), "{error}");
    assert!(error.hint.unwrap().contains("q_proj, k_proj"));
}

#[test]
fn an_unsupported_architecture_or_field_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = json("decoders/llama/config.json");
    let mut load = |name: &str, value: serde_json::Value| {
        let before = config[name].clone();
        config[name] = value;
        fs_err::write(dir.path().join("config.json"), config.to_string()).unwrap();
        config[name] = before;
        Decoder::load(dir.path(), Kind::Float, Device::Cpu).unwrap_err().message
    };
    assert!(load("model_type", "gpt2".into()).contains("`gpt2` is not supported; supported are llama, qwen2, qwen3"));
    assert!(load("hidden_act", "gelu".into()).contains("`hidden_act` is `gelu`"));
    assert!(load("rope_parameters", serde_json::json!({"rope_type": "yarn"})).contains("rope type `yarn`"));
    assert!(load("vocab_size", serde_json::Value::Null).contains("`vocab_size` is missing"));
}
