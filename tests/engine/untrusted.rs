//! Untrusted files, which give an error and never a crash: weights, tokenizers, configurations.

use crate::golden::path;
use crate::project::tokenizer;
use orchestrate_engine::models::{Decoder, load_config};
use orchestrate_engine::tokenizer::Tokenizer;
use orchestrate_engine::weights::{Weights, load_tensors};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;
use tch::{Device, Kind};

/// Returns a safetensors file with one tensor that `header` describes and `data` bytes.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(std::iter::repeat_n(0, data));
    bytes
}

fn open(bytes: &[u8]) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("model.safetensors"), bytes).unwrap();
    let weights = Weights::open(dir.path()).map_err(|e| e.message)?;
    let names: Vec<String> = weights.names().map(str::to_owned).collect();
    for name in names {
        let _ = weights.get_shaped(&name, &[2], Kind::Float, Device::Cpu).map_err(|e| e.message)?;
    }
    Ok(())
}

#[test]
fn malformed_safetensors_are_named() {
    let good = safetensors(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8);
    assert_eq!(open(&good), Ok(()));
    let huge = [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat();
    for bytes in [
        Vec::new(),
        vec![0; 7],
        huge,
        good[..good.len() - 1].to_vec(),
        safetensors("not JSON", 0),
        safetensors(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8000000000000]}}"#, 8),
        safetensors(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8),
        safetensors(r#"{"a":{"dtype":"F32","shape":[18446744073709551615,4],"data_offsets":[0,8]}}"#, 8),
        safetensors(r#"{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}"#, 1),
        safetensors(&"[".repeat(200_000), 0),
    ] {
        let error = open(&bytes).unwrap_err();
        assert!(error.contains("model.safetensors"), "{error}");
    }
}

#[test]
fn an_index_cannot_lead_out_of_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["../model.safetensors", "/etc/passwd", "a/b.safetensors"] {
        let index = json!({"weight_map": {"a": name}});
        fs_err::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        let error = Weights::open(dir.path()).unwrap_err();
        assert!(error.message.contains(name), "{error}");
    }
}

#[test]
fn pickles_are_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("pytorch_model.bin"), b"\x80\x02").unwrap();
    let error = Weights::open(dir.path()).unwrap_err();
    assert!(error.hint.unwrap().contains("never read"));
}

/// Loads everything in a model directory. The test checks only that nothing panics.
fn load(dir: &Path) {
    let _ = load_config(dir);
    let _ = Tokenizer::load(dir).map(|tokenizer| tokenizer.encode("heart <|im_end|> \u{0} ❤"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn damaged_weights_are_an_error_or_weights(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: prop::sample::Index,
        cuts: bool,
    ) {
        let mut bytes = fs_err::read(path("lora/adapter_model.safetensors")).unwrap();
        let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap() + 8;
        for (at, byte) in damage {
            bytes[at.index(header)] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.safetensors");
        fs_err::write(&file, &bytes).unwrap();
        let _ = load_tensors(&file);
        let _ = open(&bytes);
    }

    #[test]
    fn damaged_tokenizers_and_configurations_are_an_error_or_read(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        config_damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut text = tokenizer(&["<|im_start|>", "<|im_end|>"], &Value::Null).to_string().into_bytes();
        for (at, byte) in damage {
            let at = at.index(text.len());
            text[at] = byte;
        }
        fs_err::write(dir.path().join("tokenizer.json"), &text).unwrap();
        let mut config = fs_err::read(path("decoders/llama/config.json")).unwrap();
        for (at, byte) in config_damage {
            let at = at.index(config.len());
            config[at] = byte;
        }
        fs_err::write(dir.path().join("config.json"), &config).unwrap();
        fs_err::write(dir.path().join("tokenizer_config.json"), r#"{"eos_token": "<|im_end|>"}"#).unwrap();
        load(dir.path());
    }
}

#[test]
fn sizes_that_no_machine_has_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs_err::copy(path("decoders/llama/model.safetensors"), dir.path().join("model.safetensors")).unwrap();
    for (name, value) in [
        ("hidden_size", json!(-64)),
        ("num_hidden_layers", json!(4_000_000_000_000_000_000_u64)),
        ("num_attention_heads", json!(0)),
        ("num_key_value_heads", json!(0)),
        ("num_key_value_heads", json!(3)),
        ("head_dim", json!(0)),
        ("max_position_embeddings", json!(9_000_000_000_000_000_000_u64)),
        ("vocab_size", json!(-1)),
        ("rope_theta", json!(-1.0)),
        ("rms_norm_eps", json!("a")),
    ] {
        let mut config = crate::golden::json("decoders/llama/config.json");
        config[name] = value.clone();
        fs_err::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let error = Decoder::load(dir.path(), Kind::Float, Device::Cpu).expect_err(name);
        assert!(error.message.contains(name), "{name} = {value}: {error}");
    }
}
