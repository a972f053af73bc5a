//! Loss and gradients are independent of packing, of the split into micro-batches, and of checkpointing.

use crate::golden;
use crate::project::Project;
use orchestrate_core::recipe::spec::LoraSpec;
use orchestrate_engine::data::{PackedRow, Sequence, one_a_row, packed_rows};
use orchestrate_engine::models::{Decoder, PassOptions};
use orchestrate_engine::stages::accumulate;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Returns conversations of many lengths with scattered masks.
fn sequences() -> Vec<Sequence> {
    (0..14i64)
        .map(|i| {
            let ids: Vec<i64> = (0..2 + (i * 7) % 19).map(|token| (i * 31 + token * 17) % 256).collect();
            let trained = (0..ids.len()).map(|token| (token + usize::try_from(i).unwrap()) % 3 != 0).collect();
            Sequence::new(format!("a:{i}"), ids, trained)
        })
        .filter(|sequence| sequence.trained_tokens() > 0)
        .collect()
}

/// Computes the loss over all of `micro_batches` and the gradient of every weight.
fn loss_and_gradients(
    decoder: &Decoder,
    micro_batches: &[Vec<&Sequence>],
    options: PassOptions,
) -> (f64, BTreeMap<String, Tensor>) {
    let count: usize = micro_batches.iter().flatten().map(|sequence| sequence.trained_tokens()).sum();
    let loss =
        micro_batches.iter().map(|sequences| accumulate(decoder, sequences, count, options).double_value(&[])).sum();
    let gradients = decoder.trainable().into_iter().map(|(name, tensor)| (name, tensor.grad().copy())).collect();
    for (_, tensor) in decoder.trainable() {
        let _ = tensor.grad().zero_();
    }
    (loss, gradients)
}

fn rows(rows: &[PackedRow]) -> Vec<Vec<&Sequence>> {
    rows.iter().map(|row| row.sequences.iter().collect()).collect()
}

fn decoder(name: &str, lora: bool, kind: Kind) -> Decoder {
    let mut decoder = Decoder::load(&golden::path(&format!("decoders/{name}")), kind, Device::Cpu).unwrap();
    if lora {
        let target_modules = vec!["q_proj".to_owned(), "down_proj".to_owned()];
        let spec = LoraSpec { rank: 4, alpha: 8.0, dropout: 0.1, rslora: false, target_modules };
        decoder.add_lora(&spec, 3).unwrap();
        for (_, tensor) in decoder.trainable() {
            tch::no_grad(|| {
                let _ = tensor.shallow_clone().normal_(0.0, 0.1); // otherwise half of the gradients are 0
            });
        }
    } else {
        decoder.unfreeze();
    }
    decoder
}

fn check(name: &str, lora: bool) {
    let decoder = decoder(name, lora, Kind::Float);
    let sequences = sequences();
    let options = PassOptions::default();
    let (expected, gradients) = loss_and_gradients(&decoder, &rows(&one_a_row(&sequences)), options);
    for seq_len in [20, 33, 1000] {
        let packed = packed_rows(&sequences, seq_len);
        assert!(packed.len() < sequences.len() && packed.iter().any(|row| row.sequences.len() > 1));
        let (loss, packed) = loss_and_gradients(&decoder, &rows(&packed), options);
        assert!((loss - expected).abs() < 1e-5, "{name}, {seq_len}: the loss is {loss}, alone {expected}");
        assert_eq!(packed.len(), gradients.len());
        for (weight, gradient) in &gradients {
            let difference = golden::largest_difference(&packed[weight], gradient);
            assert!(difference < 1e-5, "{name}, {seq_len}: the gradient of {weight} differs by {difference}");
            assert!(gradient.abs().max().double_value(&[]) > 1e-4, "{weight} has a gradient to compare");
        }
    }
}

#[test]
fn packing_changes_neither_loss_nor_any_gradient() {
    check("llama", false);
    check("qwen3", false);
    check("llama", true);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_split_into_micro_batches_gives_the_same_gradients(cuts in proptest::collection::vec(any::<bool>(), 13)) {
        let decoder = decoder("qwen2", false, Kind::Float);
        let sequences = sequences();
        let whole: Vec<&Sequence> = sequences.iter().collect();
        let mut split: Vec<Vec<&Sequence>> = vec![Vec::new()];
        for (index, sequence) in sequences.iter().enumerate() {
            split.last_mut().unwrap().push(sequence);
            if index + 1 < sequences.len() && cuts[index % cuts.len()] {
                split.push(Vec::new());
            }
        }
        let (loss, gradients) = loss_and_gradients(&decoder, &[whole], PassOptions::default());
        let (split_loss, split_gradients) = loss_and_gradients(&decoder, &split, PassOptions::default());
        prop_assert!((loss - split_loss).abs() < 1e-5);
        for (weight, gradient) in &gradients {
            let difference = golden::largest_difference(&split_gradients[weight], gradient);
            prop_assert!(difference < 1e-5, "the gradient of {} differs by {}", weight, difference);
        }
    }
}

#[test]
fn gradient_checkpointing_changes_no_bit() {
    let sequences = sequences();
    let (first, second) = sequences.split_at(5);
    let micro_batches: Vec<Vec<&Sequence>> = vec![first.iter().collect(), second.iter().collect()];
    for (name, lora, kind, dropout_seed) in [
        ("llama", true, Kind::Float, Some(9)),
        ("llama_tied", false, Kind::Float, None),
        ("qwen3", true, Kind::BFloat16, Some(4)),
        ("llama", false, Kind::BFloat16, None),
    ] {
        let decoder = decoder(name, lora, kind);
        let run =
            |checkpointing| loss_and_gradients(&decoder, &micro_batches, PassOptions { dropout_seed, checkpointing });
        let ((kept, expected), (again, gradients)) = (run(false), run(true));
        assert_eq!(kept.to_bits(), again.to_bits(), "{name}");
        for (weight, gradient) in &expected {
            assert!(gradient.equal(&gradients[weight]), "{name}, {kind:?}: the gradient of {weight} differs");
        }
        if dropout_seed.is_some() {
            let other = PassOptions { dropout_seed: Some(77), checkpointing: true };
            let (loss, _) = loss_and_gradients(&decoder, &micro_batches, other);
            assert_ne!(loss.to_bits(), kept.to_bits(), "dropout is on");
        }
    }
}

/// Covers recipe, packing and training loop: one optimizer step over the whole data set, packed and not packed.
#[test]
fn a_step_over_packed_rows_is_the_step_over_the_rows() {
    let project = Project::new();
    let step = |more: &[&str]| -> (f64, f64, u64) {
        let shown = project.succeed(&[&["check", "--show-data", "--json", "recipes/tiny.toml"], more].concat());
        let report = &crate::project::json_lines(&shown)[1]["data"][0];
        let rows = report["packed_rows"].as_u64().unwrap_or(report["rows"].as_u64().unwrap());
        let batch = format!("stages.sft.global_batch_size={rows}");
        let common = ["--set", "stages.sft.steps=1", "--set", "stages.sft.micro_batch_size=1", "--set", &batch];
        let dropout = ["--set", "model.lora.dropout=0.0"];
        let run = ["run", "recipes/tiny.toml", "--only", "sft"];
        project.succeed(&[&run[..], &common, &dropout, more].concat());
        let metrics = crate::project::json_lines(&project.succeed(&["metrics", "latest", "sft", "--json"]));
        let value = |name: &str| {
            let found = metrics.iter().find(|line| line["name"] == name);
            found.unwrap_or_else(|| panic!("no {name} in {metrics:?}"))["value"].as_f64().unwrap()
        };
        (value("train/loss"), value("optim/grad_norm"), rows)
    };
    let alone = step(&[]);
    let packed = step(&["--set", "stages.sft.packing=true", "--set", "stages.sft.seq_len=600"]);
    assert!(packed.2 * 2 <= alone.2, "{} rows of 600 tokens hold {} conversations", packed.2, alone.2);
    assert!((packed.0 - alone.0).abs() < 1e-5, "the loss is {}, alone {}", packed.0, alone.0);
    assert!((packed.1 - alone.1).abs() < 1e-4 * alone.1, "the gradient's norm is {}, alone {}", packed.1, alone.1);
}
