//! Twenty optimizer steps compared with transformers, PEFT and torch.optim. They cover a whole step and show that
//! nothing drifts.

use crate::golden::{json, path};
use orchestrate_core::recipe::spec::{AdjustLr, Optimizer as Rule, OptimizerSpec, Schedule};
use orchestrate_engine::adapter;
use orchestrate_engine::data::Sequence;
use orchestrate_engine::models::{Decoder, PassOptions};
use orchestrate_engine::optim::{Optimizer, clip_grad_norm, lr_multiplier};
use orchestrate_engine::stages::accumulate;
use tch::{Device, Kind};

/// Returns a token sequence as in `gen_curves.py`.
fn sequence(step: i64, index: i64, prompt: usize) -> Sequence {
    let step = step % 2;
    let length = 10 + (index * 5 + step) % 13;
    let ids: Vec<i64> = (0..length).map(|t| (step * 131 + index * 31 + t * 17 + t * t * 7) % 320).collect();
    let trained = (0..ids.len()).map(|t| t >= prompt).collect();
    Sequence::new(format!("step {step}, row {index}"), ids, trained)
}

#[test]
fn twenty_steps_follow_the_committed_curves() {
    let golden = json("curves.json");
    let whole = |name: &str| golden[name].as_u64().unwrap();
    let (steps, rows, warmup) = (whole("steps"), whole("rows"), whole("warmup_steps"));
    let prompt = usize::try_from(whole("prompt")).unwrap();
    for (name, case) in golden["cases"].as_object().unwrap() {
        let muon = case["muon"].as_bool().unwrap();
        let (betas, eps) = ((0.9, 0.95), 1e-8);
        let spec = OptimizerSpec {
            optimizer: if muon {
                Rule::Muon { momentum: 0.95, adjust_lr: AdjustLr::MatchRmsAdamw, betas, eps }
            } else {
                Rule::Adamw { betas, eps }
            },
            lr: case["lr"].as_f64().unwrap(),
            weight_decay: case["weight_decay"].as_f64().unwrap(),
            schedule: Schedule::Cosine,
            warmup_steps: warmup,
            max_grad_norm: golden["max_grad_norm"].as_f64().unwrap(),
        };
        let mut decoder = Decoder::load(&path("decoders/llama"), Kind::Float, Device::Cpu).unwrap();
        if case["lora"].as_bool().unwrap() {
            adapter::attach(&path("lora"), &mut decoder).unwrap();
        } else {
            decoder.unfreeze();
        }
        let mut optimizer = Optimizer::new(decoder.trainable(), &spec);
        // Muon orthogonalizes in 16 bits, and later steps amplify its differences in rounding
        let tolerance = if muon { 2e-2 } else { 1e-3 };
        for step in 0..steps {
            let at = i64::try_from(step).unwrap();
            let sequences: Vec<Sequence> = (0..i64::try_from(rows).unwrap()).map(|i| sequence(at, i, prompt)).collect();
            let trained = sequences.iter().map(Sequence::trained_tokens).sum();
            let sequences: Vec<&Sequence> = sequences.iter().collect();
            let options = PassOptions { dropout_seed: None, checkpointing: step % 2 == 1 };
            let loss: f64 = sequences
                .chunks(3)
                .map(|micro_batch| accumulate(&decoder, micro_batch, trained, options).double_value(&[]))
                .sum();
            let norm = clip_grad_norm(optimizer.values(), spec.max_grad_norm);
            optimizer.step(spec.lr * lr_multiplier(spec.schedule, step, warmup, steps));
            for (what, ours) in [("loss", loss), ("grad_norm", norm)] {
                let theirs = case[what][usize::try_from(step).unwrap()].as_f64().unwrap();
                let off = (ours - theirs).abs() / theirs;
                assert!(off < tolerance, "{name}, step {step}: {what} is {ours}, theirs {theirs}");
            }
        }
        let first_and_last = [0, usize::try_from(steps).unwrap() - 1].map(|i| case["loss"][i].as_f64().unwrap());
        assert!(first_and_last[1] < 0.9 * first_and_last[0], "{name}: the curve goes somewhere");
    }
}
