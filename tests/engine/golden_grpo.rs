//! The GRPO objective and its gradient compared with the published formulas (`grpo.json`, and `grpo_variants.json`,
//! which equals TRL's), and the effect of missing rewards.

use crate::golden::json;
use orchestrate_core::recipe::spec::{AdvantageBaseline, ComponentStd, LossType, ScaleRewards};
use orchestrate_engine::loss::{
    Column, PolicyInputs, PolicyKnobs, Surrogate, advantages, gdpo_advantages, has_spread, policy_loss, token_weights,
};
use serde_json::Value;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Returns the tokens without padding, end to end. // (B, T) with lengths -> (N,)
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
        let ours = advantages(&rewards, 3, scale(name), AdvantageBaseline::Group);
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
            entropy: None,
            advantages: &per_token(&numbers(&golden["advantages"][case["scale_rewards"].as_str().unwrap()]), &lengths),
            weights: &per_token(&weights, &lengths),
            lengths: &token_counts,
        };
        let knobs = PolicyKnobs {
            clip_low: case["clip_low"].as_f64().unwrap(),
            clip_high: case["clip_high"].as_f64().unwrap(),
            kl_coef,
            entropy_coef: 0.0,
            surrogate: if case["ratio"] == "sequence" { Surrogate::SequenceRatio } else { Surrogate::TokenRatio },
        };
        let ours = policy_loss(&inputs, knobs).loss.double_value(&[]);
        let theirs = case["loss"].as_f64().unwrap();
        assert!((ours - theirs).abs() < 1e-6, "{case}: {ours}");
    }
}

#[test]
fn every_loss_type_equals_its_paper() {
    let golden = json("grpo_variants.json");
    let lengths: Vec<usize> = serde_json::from_value(golden["lengths"].clone()).unwrap();
    let token_counts: Vec<i64> = serde_json::from_value(golden["lengths"].clone()).unwrap();
    let present: Vec<Option<usize>> = lengths.iter().copied().map(Some).collect();
    let max_new_tokens = usize::try_from(golden["max_new_tokens"].as_u64().unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 40);
    for case in cases {
        let loss_type: LossType = serde_json::from_value(case["loss_type"].clone()).unwrap();
        let [kl_coef, entropy_coef, clip_low, clip_high] =
            ["kl_coef", "entropy_coef", "clip_low", "clip_high"].map(|name| case[name].as_f64().unwrap());
        let (reference, entropy) = (flat(&golden["ref_logprobs"], &lengths), flat(&golden["entropy"], &lengths));
        let inputs = PolicyInputs {
            logprobs: &flat(&golden["logprobs"], &lengths),
            sampling_logprobs: &flat(&golden["sampling_logprobs"], &lengths),
            ref_logprobs: (kl_coef != 0.0).then_some(&reference),
            entropy: (entropy_coef != 0.0).then_some(&entropy),
            advantages: &per_token(&numbers(&golden["advantages"]), &lengths),
            weights: &per_token(&token_weights(&present, loss_type, max_new_tokens), &lengths),
            lengths: &token_counts,
        };
        let knobs = PolicyKnobs { surrogate: loss_type.into(), clip_low, clip_high, kl_coef, entropy_coef };
        let ours = policy_loss(&inputs, knobs).loss.double_value(&[]);
        let theirs = case["loss"].as_f64().unwrap();
        assert!((ours - theirs).abs() < 1e-6, "{case}: {ours}");
    }
}

/// Returns the columns of a golden mix.
fn columns(golden: &Value) -> Vec<Column> {
    let column = |column: &Value| Column {
        name: column["name"].as_str().unwrap().to_owned(),
        weight: column["weight"].as_f64().unwrap(),
        values: serde_json::from_value(column["values"].clone()).unwrap(),
    };
    golden["columns"].as_array().unwrap().iter().map(column).collect()
}

#[track_caller]
fn assert_equal(ours: &[Option<f64>], theirs: &Value, tolerance: f64) {
    let theirs: Vec<Option<f64>> = serde_json::from_value(theirs.clone()).unwrap();
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours.is_some(), theirs.is_some());
        assert!((ours.unwrap_or(0.0) - theirs.unwrap_or(0.0)).abs() < tolerance, "{ours:?} != {theirs:?}");
    }
}

#[test]
fn gdpo_normalizes_each_component_before_it_adds() {
    let golden = &json("grpo_variants.json")["gdpo"];
    let group_size = usize::try_from(golden["group_size"].as_u64().unwrap()).unwrap();
    let ours = gdpo_advantages(&columns(golden), group_size, ComponentStd::Group, &mut BTreeMap::new());
    assert_eq!(ours.iter().filter(|advantage| advantage.is_none()).count(), 1, "one completion lacks a component");
    assert_equal(&ours, &golden["advantages"], 1e-6);
}

/// Three rollouts in a row, whose deviations are averaged, and the ranks of the same values.
#[test]
fn components_are_divided_by_their_running_deviation_or_ranked() {
    let golden = &json("grpo_variants.json")["component_std"];
    let group_size = usize::try_from(golden["group_size"].as_u64().unwrap()).unwrap();
    let mut running = BTreeMap::new();
    let steps = golden["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 3);
    for step in steps {
        let columns = columns(step);
        let ours = gdpo_advantages(&columns, group_size, ComponentStd::Running, &mut running);
        assert_equal(&ours, &step["running"], 1e-12);
        for (name, std) in step["std"].as_object().unwrap() {
            assert!((running[name].std() - std.as_f64().unwrap()).abs() < 1e-12, "{name}");
        }
        let ours = gdpo_advantages(&columns, group_size, ComponentStd::Rank, &mut BTreeMap::new());
        assert_equal(&ours, &step["rank"], 1e-12);
        // a resumed stage reads the state from its resume point
        running = serde_json::from_str(&serde_json::to_string(&running).unwrap()).unwrap();
    }
}

#[test]
fn leave_one_out_and_maximum_likelihood_equal_their_formulas() {
    let golden = json("grpo_variants.json");
    let cases = golden["advantage_variants"].as_array().unwrap();
    assert_eq!(cases.len(), 4, "random rewards, 0 and 1, equal rewards, a missing one");
    for case in cases {
        let rewards: Vec<Option<f64>> = serde_json::from_value(case["rewards"].clone()).unwrap();
        let of = |scale, baseline| advantages(&rewards, 4, scale, baseline);
        assert_equal(&of(ScaleRewards::None, AdvantageBaseline::LeaveOneOut), &case["leave_one_out"], 1e-12);
        let batch = of(ScaleRewards::Batch, AdvantageBaseline::LeaveOneOut);
        assert_equal(&batch, &case["leave_one_out_batch"], 1e-12);
        assert_equal(&of(ScaleRewards::Mean, AdvantageBaseline::Group), &case["mean"], 1e-12);
    }
}

#[test]
fn a_group_of_equal_rewards_has_no_spread() {
    assert!(!has_spread(&[Some(0.1 + 0.2), Some(0.3), None]), "equal but for rounding");
    assert!(!has_spread(&[Some(1.0), None]), "one reward alone");
    assert!(has_spread(&[Some(0.0), Some(0.0), Some(1e-3)]));
}

#[test]
fn the_gradient_equals_finite_differences() {
    let logprobs = Tensor::from_slice(&[-1.0f64, -0.5, -2.0, -0.7]);
    let sampling = Tensor::from_slice(&[-1.1f64, -0.9, -1.6, -0.7]);
    let reference = Tensor::from_slice(&[-1.3f64, -0.6, -1.9, -0.2]);
    let (advantages, weights) = (Tensor::from_slice(&[0.7f64, 0.7, -1.2, -1.2]), Tensor::from_slice(&[0.25f64; 4]));
    for surrogate in [Surrogate::TokenRatio, Surrogate::SequenceRatio] {
        let loss = |logprobs: &Tensor| {
            let inputs = PolicyInputs {
                logprobs,
                sampling_logprobs: &sampling,
                ref_logprobs: Some(&reference),
                entropy: None,
                advantages: &advantages,
                weights: &weights,
                lengths: &[2, 2],
            };
            let knobs = PolicyKnobs { surrogate, clip_low: 0.2, clip_high: 0.2, kl_coef: 0.1, entropy_coef: 0.0 };
            policy_loss(&inputs, knobs).loss
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
            assert!((numeric - exact).abs() < 1e-3, "{surrogate:?}, token {i}: {numeric} != {exact}");
        }
    }
}

#[test]
fn a_missing_reward_is_left_out_and_not_counted_as_zero() {
    let with_gap =
        advantages(&[Some(1.0), None, Some(3.0), Some(2.0)], 4, ScaleRewards::Group, AdvantageBaseline::Group);
    let without = advantages(&[Some(1.0), Some(3.0), Some(2.0)], 3, ScaleRewards::Group, AdvantageBaseline::Group);
    assert_eq!(with_gap[1], None);
    assert_eq!([with_gap[0], with_gap[2], with_gap[3]], without[..]);
    assert_eq!(token_weights(&[Some(2), None, Some(4)], LossType::Dapo, 8), [1.0 / 6.0, 0.0, 1.0 / 6.0]);
}

#[test]
fn a_group_with_one_reward_says_nothing() {
    let baseline = AdvantageBaseline::Group;
    assert_eq!(advantages(&[None, Some(2.0), None], 3, ScaleRewards::Group, baseline), [None, None, None]);
}
