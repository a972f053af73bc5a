//! Packed rows give the loss and the gradients of their sequences one at a time.

use crate::golden;
use crate::project::Project;
use orchestrate::recipe::spec::LoraSpec;
use orchestrate_engine::data::{PackedRow, Sequence, one_a_row, packed_rows};
use orchestrate_engine::head;
use orchestrate_engine::models::{Decoder, Packed};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Conversations of many lengths with scattered masks.
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

/// The loss over all of `rows`, one forward pass a row, and the gradient of every weight.
fn loss_and_gradients(decoder: &Decoder, rows: &[PackedRow]) -> (f64, BTreeMap<String, Tensor>) {
    let count: usize = rows.iter().flat_map(|row| &row.sequences).map(Sequence::trained_tokens).sum();
    let mut loss = 0.0;
    for row in rows {
        let ids: Vec<&[i64]> = row.sequences.iter().map(|sequence| sequence.ids.as_slice()).collect();
        let packed = Packed::new(&ids, Device::Cpu);
        let starts = packed.starts();
        let at = |(sequence, start): (&Sequence, &i64)| -> Vec<(i64, i64)> {
            let start = *start;
            sequence.targets().map(move |(p, id)| (start + i64::try_from(p).unwrap() - 1, id)).collect()
        };
        let (positions, targets): (Vec<i64>, Vec<i64>) = row.sequences.iter().zip(&starts).flat_map(at).unzip();
        let hidden = decoder.hidden(&packed, true).index_select(0, &Tensor::from_slice(&positions));
        let targets = Tensor::from_slice(&targets);
        let grad = Tensor::full(targets.size(), -1.0 / count as f64, (Kind::Float, Device::Cpu));
        let logprobs = head::backward(decoder, &hidden, &targets, &grad, 1.0).logprobs;
        loss -= logprobs.sum(Kind::Double).double_value(&[]) / count as f64;
    }
    let gradients = decoder.trainable().into_iter().map(|(name, tensor)| (name, tensor.grad().copy())).collect();
    for (_, tensor) in decoder.trainable() {
        let _ = tensor.grad().zero_();
    }
    (loss, gradients)
}

fn check(name: &str, lora: bool) {
    let mut decoder = Decoder::load(&golden::path(&format!("decoders/{name}")), Kind::Float, Device::Cpu).unwrap();
    if lora {
        let target_modules = vec!["q_proj".to_owned(), "down_proj".to_owned()];
        let spec = LoraSpec { rank: 4, alpha: 8.0, dropout: 0.0, rslora: false, target_modules };
        decoder.add_lora(&spec, 3).unwrap();
        for (_, tensor) in decoder.trainable() {
            tch::no_grad(|| {
                let _ = tensor.shallow_clone().normal_(0.0, 0.1); // else half of the gradients are 0
            });
        }
    } else {
        decoder.unfreeze();
    }
    let sequences = sequences();
    let (expected, gradients) = loss_and_gradients(&decoder, &one_a_row(&sequences));
    for seq_len in [20, 33, 1000] {
        let rows = packed_rows(&sequences, seq_len);
        assert!(rows.len() < sequences.len() && rows.iter().any(|row| row.sequences.len() > 1));
        let (loss, packed) = loss_and_gradients(&decoder, &rows);
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

/// Through recipe, packing and training loop: one optimizer step over the whole data set, packed and not.
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
