//! The GRPO objective against the published formulas (`grpo.json`), its gradient, and what missing rewards do.

use crate::golden::json;
use orchestrate::recipe::spec::{LossType, ScaleRewards};
use orchestrate_engine::loss::{PolicyInputs, PolicyKnobs, RatioLevel, advantages, policy_loss, token_weights};
use serde_json::Value;
use tch::{Kind, Tensor};

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// The tokens that count, end to end. // (B, T) with lengths -> (N,)
fn flat(value: &Value, lengths: &[usize]) -> Tensor {
    let values: Vec<f64> =
        value.as_array().unwrap().iter().zip(lengths).flat_map(|(row, &n)| numbers(row)[..n].to_vec()).collect();
    Tensor::from_slice(&values)
}

fn per_token(values: &[f64], lengths: &[usize]) -> Tensor {
    let values: Vec<f64> = values.iter().zip(lengths).flat_map(|(&v, &n)| std::iter::repeat_n(v, n)).collect();
    Tensor::from_slice(&values)
}

fn scale(name: &str) -> ScaleRewards {
    serde_json::from_value(name.into()).unwrap()
}

#[test]
fn advantages_equal_the_formula() {
    let golden = json("grpo.json");
    let rewards: Vec<Option<f64>> = numbers(&golden["rewards"]).into_iter().map(Some).collect();
    for name in ["group", "batch", "none"] {
        let ours = advantages(&rewards, 3, scale(name));
        for (ours, theirs) in ours.iter().zip(numbers(&golden["advantages"][name])) {
            assert!((ours.unwrap() - theirs).abs() < 1e-5, "{name}: {ours:?} != {theirs}");
        }
    }
}

#[test]
fn every_variant_of_the_loss_equals_the_formula() {
    let golden = json("grpo.json");
    let lengths: Vec<usize> =
        golden["lengths"].as_array().unwrap().iter().map(|v| usize::try_from(v.as_u64().unwrap()).unwrap()).collect();
    let token_counts: Vec<i64> = lengths.iter().map(|&n| i64::try_from(n).unwrap()).collect();
    let present: Vec<Option<usize>> = lengths.iter().copied().map(Some).collect();
    let max_new_tokens = usize::try_from(golden["max_new_tokens"].as_u64().unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 72);
    for case in cases {
        let loss_type: LossType = serde_json::from_value(case["loss_type"].clone()).unwrap();
        let weights = token_weights(&present, loss_type, max_new_tokens);
        let kl_coef = case["kl_coef"].as_f64().unwrap();
        let reference = flat(&golden["ref_logprobs"], &lengths);
        let inputs = PolicyInputs {
            logprobs: &flat(&golden["logprobs"], &lengths),
            sampling_logprobs: &flat(&golden["sampling_logprobs"], &lengths),
            ref_logprobs: (kl_coef != 0.0).then_some(&reference),
            advantages: &per_token(&numbers(&golden["advantages"][case["scale_rewards"].as_str().unwrap()]), &lengths),
            weights: &per_token(&weights, &lengths),
            lengths: &token_counts,
        };
        let knobs = PolicyKnobs {
            clip_low: case["clip_low"].as_f64().unwrap(),
            clip_high: case["clip_high"].as_f64().unwrap(),
            kl_coef,
            ratio: if case["ratio"] == "sequence" { RatioLevel::Sequence } else { RatioLevel::Token },
        };
        let ours = policy_loss(&inputs, knobs).loss.double_value(&[]);
        let theirs = case["loss"].as_f64().unwrap();
        assert!((ours - theirs).abs() < 1e-6, "{case}: {ours}");
    }
}

#[test]
fn the_gradient_equals_finite_differences() {
    let logprobs = Tensor::from_slice(&[-1.0f64, -0.5, -2.0, -0.7]);
    let sampling = Tensor::from_slice(&[-1.1f64, -0.9, -1.6, -0.7]);
    let reference = Tensor::from_slice(&[-1.3f64, -0.6, -1.9, -0.2]);
    let (advantages, weights) = (Tensor::from_slice(&[0.7f64, 0.7, -1.2, -1.2]), Tensor::from_slice(&[0.25f64; 4]));
    for ratio in [RatioLevel::Token, RatioLevel::Sequence] {
        let loss = |logprobs: &Tensor| {
            let inputs = PolicyInputs {
                logprobs,
                sampling_logprobs: &sampling,
                ref_logprobs: Some(&reference),
                advantages: &advantages,
                weights: &weights,
                lengths: &[2, 2],
            };
            policy_loss(&inputs, PolicyKnobs { clip_low: 0.2, clip_high: 0.2, kl_coef: 0.1, ratio }).loss
        };
        let leaf = logprobs.copy().set_requires_grad(true);
        loss(&leaf).backward();
        for i in 0..4 {
            let mut step = [0.0f64; 4];
            step[i] = 1e-4;
            let step = Tensor::from_slice(&step);
            let difference = (loss(&(&logprobs + &step)) - loss(&(&logprobs - &step))).to_kind(Kind::Double);
            let numeric = difference.double_value(&[]) / 2e-4;
            let exact = leaf.grad().double_value(&[i64::try_from(i).unwrap()]);
            assert!((numeric - exact).abs() < 1e-3, "{ratio:?}, token {i}: {numeric} != {exact}");
        }
    }
}

#[test]
fn a_missing_reward_is_left_out_and_not_counted_as_zero() {
    let with_gap = advantages(&[Some(1.0), None, Some(3.0), Some(2.0)], 4, ScaleRewards::Group);
    let without = advantages(&[Some(1.0), Some(3.0), Some(2.0)], 3, ScaleRewards::Group);
    assert_eq!(with_gap[1], None);
    assert_eq!([with_gap[0], with_gap[2], with_gap[3]], without[..]);
    assert_eq!(token_weights(&[Some(2), None, Some(4)], LossType::Dapo, 8), [1.0 / 6.0, 0.0, 1.0 / 6.0]);
}

#[test]
fn a_group_with_one_reward_says_nothing() {
    assert_eq!(advantages(&[None, Some(2.0), None], 3, ScaleRewards::Group), [None, None, None]);
}
