//! Passes in which completions share their prompt equal passes with a prompt for each completion, for every split into
//! micro-batches. The head's gradients equal those of autograd.

use crate::golden;
use orchestrate_core::recipe::spec::LoraSpec;
use orchestrate_engine::head::{self, TokenGrads};
use orchestrate_engine::loss::{PolicyInputs, PolicyKnobs, Surrogate, policy_loss};
use orchestrate_engine::models::{Decoder, Group, Packed, PassOptions, TrainingPass};
use orchestrate_engine::stages::{Rated, Reference, Sums, TokenAdvantages, UpdateOptions, accumulate_rated};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

type Gradients = BTreeMap<String, Tensor>;

fn decoder(name: &str, kind: Kind) -> Decoder {
    Decoder::load(&golden::path(&format!("decoders/{name}")), kind, Device::Cpu).unwrap()
}

fn with_lora(name: &str, kind: Kind) -> Decoder {
    let mut decoder = decoder(name, kind);
    let target_modules = decoder.linear_names();
    decoder.add_lora(&LoraSpec { rank: 4, alpha: 8.0, dropout: 0.0, rslora: false, target_modules }, 3).unwrap();
    decoder
}

/// Draws new trained weights, so that adapters have an effect.
fn disturb(decoder: &Decoder, seed: i64) {
    tch::manual_seed(seed);
    for (_, tensor) in decoder.trainable() {
        tch::no_grad(|| {
            let _ = tensor.shallow_clone().normal_(0.0, 0.1);
        });
    }
}

fn taken_gradients(decoder: &Decoder) -> Gradients {
    decoder
        .trainable()
        .into_iter()
        .map(|(name, tensor)| {
            let gradient = tensor.grad().copy();
            let _ = tensor.grad().zero_();
            (name, gradient)
        })
        .collect()
}

fn assert_close(ours: &Gradients, theirs: &Gradients, case: &str) {
    assert_eq!(ours.len(), theirs.len());
    for (name, theirs) in theirs {
        let difference = golden::largest_difference(&ours[name], theirs);
        assert!(difference < 1e-5, "{case}: the gradient of {name} differs by {difference}");
        assert!(theirs.abs().max().double_value(&[]) > 1e-4, "{case}: {name} has a gradient to compare");
    }
}

pub(crate) fn text(seed: i64, length: i64) -> Vec<i64> {
    (0..length).map(|i| (seed * 37 + i * 23 + i * i * seed) % 256).collect()
}

/// Returns prompts of several lengths with completions of different, of single and of equal lengths, and one with a
/// single completion.
fn groups() -> Vec<(Vec<i64>, Vec<Vec<i64>>)> {
    let group = |prompt: i64, completions: &[i64]| {
        let completions = completions.iter().zip(prompt..).map(|(&n, seed)| text(seed, n)).collect();
        (text(prompt, prompt), completions)
    };
    vec![group(9, &[5, 1, 7, 7, 3]), group(1, &[4, 1]), group(14, &[6]), group(5, &[8, 8, 8])]
}

/// Returns the hidden states that predict the completions, and the gradients of a fixed projection of them.
fn pass(
    decoder: &Decoder,
    packed: &Packed,
    predicting: impl Fn(&Tensor) -> Tensor,
    checkpointing: bool,
) -> (Tensor, Gradients) {
    let pass = TrainingPass::new(decoder, packed, PassOptions { dropout_seed: None, checkpointing });
    let hidden = predicting(pass.hidden()); // (N, C)
    let inference = tch::no_grad(|| predicting(&decoder.hidden(packed)));
    assert!(golden::largest_difference(&hidden, &inference) < 1e-6, "training and inference agree");
    let count: i64 = hidden.size().iter().product();
    let weights = Tensor::arange(count, (Kind::Float, Device::Cpu)).sin().view_as(&hidden) * 0.05;
    (&hidden * weights).sum(Kind::Float).backward();
    let values = hidden.detach();
    drop(hidden);
    pass.finish();
    (values, taken_gradients(decoder))
}

fn shared(decoder: &Decoder, checkpointing: bool) -> (Tensor, Gradients) {
    let groups = groups();
    let groups: Vec<Group<'_>> = groups
        .iter()
        .map(|(prompt, completions)| Group { prompt, completions: completions.iter().map(Vec::as_slice).collect() })
        .collect();
    let packed = Packed::grouped(&groups, Device::Cpu);
    pass(decoder, &packed, |states| packed.predicting(states), checkpointing)
}

/// Computes every completion behind its own copy of its prompt.
fn alone(decoder: &Decoder) -> (Tensor, Gradients) {
    let rows: Vec<(usize, Vec<i64>)> = groups()
        .iter()
        .flat_map(|(prompt, completions)| completions.iter().map(move |c| (prompt.len(), [&prompt[..], c].concat())))
        .collect();
    let ids: Vec<&[i64]> = rows.iter().map(|(_, row)| row.as_slice()).collect();
    let packed = Packed::new(&ids, Device::Cpu);
    let predictors: Vec<i64> = rows
        .iter()
        .zip(packed.starts())
        .flat_map(|((prompt, row), start)| (*prompt..row.len()).map(move |i| start + i64::try_from(i).unwrap() - 1))
        .collect();
    let predictors = Tensor::from_slice(&predictors);
    pass(decoder, &packed, |states| states.index_select(0, &predictors), false)
}

#[test]
fn a_shared_prompt_gives_the_hidden_states_and_gradients_of_prompts_of_their_own() {
    for name in ["llama", "qwen2", "qwen3"] {
        for adapters in [false, true] {
            let decoder = if adapters { with_lora(name, Kind::Float) } else { decoder(name, Kind::Float) };
            if adapters {
                disturb(&decoder, 5);
            } else {
                decoder_unfrozen(&decoder);
            }
            let (hidden, mut gradients) = shared(&decoder, false);
            let (expected, mut theirs) = alone(&decoder);
            let difference = golden::largest_difference(&hidden, &expected);
            assert!(difference < 1e-5, "{name}: the hidden states differ by {difference}");
            // the head receives no gradient here
            gradients.retain(|name, _| !name.starts_with("lm_head"));
            theirs.retain(|name, _| !name.starts_with("lm_head"));
            assert_close(&gradients, &theirs, name);
        }
    }
}

/// Makes all weights trainable. The head gets a zero gradient, since it is not part of a pass.
fn decoder_unfrozen(decoder: &Decoder) {
    for (name, weight) in decoder.trainable() {
        let mut weight = weight.set_requires_grad(true);
        if name.starts_with("lm_head") {
            weight.zero_grad();
            (&weight * 0.0).sum(Kind::Float).backward();
        }
    }
}

#[test]
fn gradient_checkpointing_of_a_shared_prompt_changes_no_bit() {
    for (name, kind) in [("llama", Kind::Float), ("qwen3", Kind::BFloat16), ("qwen2", Kind::Float)] {
        let decoder = with_lora(name, kind);
        disturb(&decoder, 6);
        let (kept, again) = (shared(&decoder, false), shared(&decoder, true));
        assert!(kept.0.equal(&again.0), "{name}: the hidden states differ");
        for (weight, gradient) in &kept.1 {
            assert!(gradient.equal(&again.1[weight]), "{name}, {kind:?}: the gradient of {weight} differs");
        }
    }
}

/// Returns log-probabilities of sampling for each completion, near those of the tiny models.
fn sampling_logprobs() -> Vec<Vec<f32>> {
    let completions = groups().into_iter().flat_map(|(_, completions)| completions);
    completions.map(|c| c.iter().map(|&id| -5.5 + 0.004 * ((id % 100) as f32 - 50.0)).collect()).collect()
}

/// Returns an advantage for each token of every completion.
fn credits() -> Vec<Vec<f64>> {
    let of = |(i, logprobs): (usize, Vec<f32>)| (0..logprobs.len()).map(|at| (i + at) as f64).map(f64::sin).collect();
    sampling_logprobs().into_iter().enumerate().map(of).collect()
}

/// Returns completions of which every other one has an advantage for each of its tokens.
fn rated<'a>(
    groups: &'a [(Vec<i64>, Vec<Vec<i64>>)],
    logprobs: &'a [Vec<f32>],
    credits: &'a [Vec<f64>],
) -> Vec<Rated<'a>> {
    groups
        .iter()
        .flat_map(|(prompt, completions)| completions.iter().map(move |completion| (prompt, completion)))
        .zip(logprobs)
        .enumerate()
        .map(|(i, ((prompt, completion), logprobs))| Rated {
            prompt_ids: prompt,
            ids: completion,
            sampling_logprobs: logprobs,
            advantages: if i % 2 == 0 {
                TokenAdvantages::Alike((i as f64 * 1.7).sin() * 2.0)
            } else {
                TokenAdvantages::Each(&credits[i])
            },
            weight: 1.0 / (20.0 + i as f64),
        })
        .collect()
}

fn options(ratio: Surrogate) -> UpdateOptions {
    let knobs = PolicyKnobs { surrogate: ratio, clip_low: 0.1, clip_high: 0.2, kl_coef: 0.3, entropy_coef: 0.0 };
    UpdateOptions { knobs, temperature: 0.8, checkpointing: false }
}

/// Computes the update of a policy against its earlier self as the reference, split after the completions for which
/// `cuts` is true.
fn update(ratio: Surrogate, cuts: &[bool]) -> (Sums, Gradients) {
    let mut decoder = with_lora("qwen3", Kind::Float);
    let reference = Reference::of(&decoder);
    disturb(&decoder, 8);
    let (groups, logprobs, credits) = (groups(), sampling_logprobs(), credits());
    let rated = rated(&groups, &logprobs, &credits);
    let mut sums = Sums::default();
    let mut rest = rated.as_slice();
    while !rest.is_empty() {
        let first = rated.len() - rest.len();
        let length = (1..rest.len()).find(|length| cuts[first + length - 1]).unwrap_or(rest.len());
        accumulate_rated(&mut decoder, Some(&reference), &rest[..length], options(ratio), &mut sums);
        rest = &rest[length..];
    }
    (sums, taken_gradients(&decoder))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_split_into_micro_batches_gives_the_same_update(
        cuts in proptest::collection::vec(any::<bool>(), 11),
        sequence in any::<bool>(),
    ) {
        let ratio = if sequence { Surrogate::SequenceRatio } else { Surrogate::TokenRatio };
        let (whole, gradients) = update(ratio, &[false; 11]);
        let (split, split_gradients) = update(ratio, &cuts);
        let (whole, split) = (whole.read().loss, split.read().loss);
        let difference = (whole - split).abs();
            prop_assert!(difference < 1e-5 * whole.abs().max(1.0), "{whole} and {split}");
        for (weight, gradient) in &gradients {
            let difference = golden::largest_difference(&split_gradients[weight], gradient);
            prop_assert!(difference < 1e-5, "the gradient of {} differs by {}", weight, difference);
        }
    }
}

/// Compares an update with autograd over whole logits, with each completion behind its own prompt.
#[test]
fn an_update_equals_autograd_on_the_objective() {
    for ratio in [Surrogate::TokenRatio, Surrogate::SequenceRatio] {
        let (sums, gradients) =
            update(ratio, &[false, false, true, false, false, false, false, false, true, false, false]);
        let decoder = with_lora("qwen3", Kind::Float);
        let (groups, sampled, credits) = (groups(), sampling_logprobs(), credits());
        let rated = rated(&groups, &sampled, &credits);
        let logprobs = |r: &Rated<'_>| {
            let row = [r.prompt_ids, r.ids].concat();
            let length = i64::try_from(r.ids.len()).unwrap();
            let hidden = decoder.hidden(&Packed::new(&[&row], Device::Cpu));
            let hidden = hidden.narrow(0, i64::try_from(r.prompt_ids.len()).unwrap() - 1, length);
            let log_softmax = (decoder.logits(&hidden) / 0.8).log_softmax(-1, Kind::Float);
            log_softmax.gather(1, &Tensor::from_slice(r.ids).unsqueeze(1), false).squeeze_dim(1)
        };
        let all = || Tensor::cat(&rated.iter().map(logprobs).collect::<Vec<Tensor>>(), 0);
        let reference = tch::no_grad(all);
        disturb(&decoder, 8);
        let per_token = |value: fn(&Rated<'_>, usize) -> f64| {
            let values = rated.iter().flat_map(|r| (0..r.ids.len()).map(move |token| value(r, token)));
            Tensor::from_slice(&values.collect::<Vec<f64>>()).to_kind(Kind::Float)
        };
        let lengths: Vec<i64> = rated.iter().map(|r| i64::try_from(r.ids.len()).unwrap()).collect();
        let inputs = PolicyInputs {
            logprobs: &all(),
            sampling_logprobs: &Tensor::from_slice(&sampled.concat()),
            ref_logprobs: Some(&reference),
            entropy: None,
            advantages: &per_token(|r, token| match r.advantages {
                TokenAdvantages::Alike(advantage) => advantage,
                TokenAdvantages::Each(advantages) => advantages[token],
            }),
            weights: &per_token(|r, _| r.weight),
            lengths: &lengths,
        };
        let result = policy_loss(&inputs, options(ratio).knobs);
        result.loss.backward();
        let loss = result.loss.double_value(&[]);
        let found = sums.read().loss;
        assert!((found - loss).abs() < 1e-5, "{ratio:?}: the loss is {found}, not {loss}");
        assert_close(&gradients, &taken_gradients(&decoder), &format!("{ratio:?}"));
    }
}

#[test]
fn the_reference_of_a_fresh_adapter_is_the_model_below_it() {
    let decoder = with_lora("llama", Kind::Float);
    assert!(matches!(Reference::of(&decoder), Reference::Base));
    disturb(&decoder, 2);
    assert!(matches!(Reference::of(&decoder), Reference::Copy(_)), "an adapter that changes the model is copied");
    let mut whole = self::decoder("llama", Kind::Float);
    whole.unfreeze();
    assert!(matches!(Reference::of(&whole), Reference::Copy(_)), "trained weights are copied");
}

#[test]
fn the_heads_gradients_are_those_of_autograd() {
    for (name, temperature) in [("llama", 1.0), ("llama_tied", 0.7)] {
        let mut decoder = decoder(name, Kind::Float);
        decoder.unfreeze();
        let ids = text(3, 40);
        let packed = Packed::new(&[&ids], Device::Cpu);
        let targets = Tensor::from_slice(&text(7, 40));
        let on_logprobs = Tensor::arange(40, (Kind::Float, Device::Cpu)).sin() * 0.1;
        let on_entropy = Tensor::arange(40, (Kind::Float, Device::Cpu)).cos() * 0.1;
        for with_entropy in [false, true] {
            let pass = TrainingPass::new(&decoder, &packed, PassOptions::default());
            let hidden = pass.hidden().shallow_clone();
            head::backward_with(&decoder, &hidden, &targets, temperature, |range, _| {
                let at = |t: &Tensor| t.narrow(0, range.start, range.end - range.start);
                TokenGrads { logprobs: at(&on_logprobs), entropy: with_entropy.then(|| at(&on_entropy)) }
            });
            drop(hidden);
            pass.finish();
            let ours = taken_gradients(&decoder);

            let log_softmax = (decoder.logits(&decoder.hidden(&packed)) / temperature).log_softmax(-1, Kind::Float);
            let logprobs = log_softmax.gather(1, &targets.unsqueeze(1), false).squeeze_dim(1);
            let entropy = -(log_softmax.exp() * &log_softmax).sum_dim_intlist(-1, false, Kind::Float);
            let mut loss = (logprobs * &on_logprobs).sum(Kind::Float);
            if with_entropy {
                loss += (entropy * &on_entropy).sum(Kind::Float);
            }
            loss.backward();
            assert_close(&ours, &taken_gradients(&decoder), &format!("{name}, entropy {with_entropy}"));
        }
    }
}
