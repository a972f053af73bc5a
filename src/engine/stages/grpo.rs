//! Group-relative policy optimization: sample a group of completions for each prompt, rate them, and raise the
//! probability of what is better than its group's mean.
//!
//! As in the paper (arXiv:2402.03300) but for three things: the loss is normalized by the tokens of the whole step by
//! default (DAPO, arXiv:2503.14476); the log-probabilities of sampling are the old ones, since the same engine samples and
//! trains; and the reference is the stage's input, held beside the policy only when `kl_coef` is not 0.

use super::scoring::{Answer, reward_metrics, rubric, score, truncation_metrics};
use super::training;
use super::{Context, Outcome};
use crate::data;
use crate::error::{StageError, StageResult};
use crate::head;
use crate::loss::{PolicyInputs, PolicyKnobs, RatioLevel, advantages, policy_loss, standard_deviation, token_weights};
use crate::models::{Decoder, Packed, PassOptions, TrainingPass};
use crate::optim::Optimizer;
use crate::policy::Policy;
use crate::rollout::{Request, sample};
use crate::seed;
use orchestrate::cache::Assignment;
use orchestrate::event::{EventKind, FailureClass};
use orchestrate::recipe::spec::GrpoSpec;
use std::collections::BTreeMap;
use std::time::Instant;
use tch::{Kind, Tensor};

/// How far from 1 the mean ratio of an on-policy step may be in 32 bits: sampling and training must agree.
const RATIO_TOLERANCE: f64 = 1e-4;
/// The same in 16 bits, where rounding depends on the shapes of a batch; beyond it there is a warning.
const RATIO_TOLERANCE_16_BIT: f64 = 5e-2;

#[expect(clippy::too_many_lines, reason = "the loop reads from top to bottom")]
pub(super) fn run(context: &mut Context<'_>, assignment: &Assignment, spec: &GrpoSpec) -> StageResult<Outcome> {
    context.phase("loading the model")?;
    let policy = Policy::load(assignment, context.device)?;
    let mut rubric = rubric(assignment, &spec.rewards, context.device)?;
    context.phase("reading the prompts")?;
    let examples = data::grpo(spec, &assignment.inputs, &policy.tokenizer)?;
    context.preflight(&examples.reports)?;
    let seed = assignment.spec.seed;
    let stop_ids = policy.tokenizer.stop_ids();
    let checkpointing = assignment.runtime.gradient_checkpointing;
    let reference = (spec.loss.kl_coef != 0.0).then(|| Reference::of(&policy.decoder));
    let total_steps = spec.steps;
    let mut optimizer = Optimizer::new(policy.decoder.trainable(), &spec.optimizer);
    let mut progress = training::start(context, &policy.decoder, &mut optimizer, total_steps)?;

    while progress.step < total_steps {
        // 1. rollout: `group_size` completions for each of the step's prompts
        let rollout_started = Instant::now();
        let rollout = progress.step / spec.updates_per_rollout;
        let first = rollout * spec.prompts_per_step as u64;
        let chosen: Vec<&data::Example> =
            (first..first + spec.prompts_per_step as u64).map(|position| examples.mixture.at(seed, position)).collect();
        let requests: Vec<Request<'_>> = (first..)
            .zip(&chosen)
            .map(|(position, example)| Request {
                prompt_ids: &example.prompt_ids,
                seeds: (0..spec.group_size)
                    .map(|i| seed::derive(seed, &["rollout", &position.to_string(), &i.to_string()]))
                    .collect(),
            })
            .collect();
        let sampled = sample(&policy.decoder, &requests, &spec.sampling, stop_ids);
        let answers: Vec<Answer<'_>> = sampled
            .into_iter()
            .enumerate()
            .map(|(i, sampled)| {
                let (group, index) = (i / spec.group_size, i % spec.group_size);
                Answer::new(chosen[group], index, sampled, &policy.tokenizer, stop_ids)
            })
            .collect();
        let rollout_s = rollout_started.elapsed().as_secs_f64();

        // 2. rewards and advantages
        let reward_started = Instant::now();
        let scores = score(&mut rubric, &answers);
        let rewards: Vec<Option<f64>> = scores.iter().map(|score| score.total).collect();
        let advantages = advantages(&rewards, spec.group_size, spec.loss.scale_rewards);
        for ((answer, score), advantage) in answers.iter().zip(&scores).zip(&advantages) {
            context.emit(&EventKind::Completion(Box::new(answer.completion(progress.step + 1, score, *advantage))))?;
        }
        let mut metrics = reward_metrics(&scores);
        metrics.extend(truncation_metrics(&rubric));
        metrics.extend(rollout_metrics(&answers, &rewards, spec.group_size));
        let reward_s = reward_started.elapsed().as_secs_f64();

        // 3. updates; a completion without an advantage, or cut short under `mask_truncated`, takes no part
        let lengths: Vec<Option<usize>> = answers
            .iter()
            .zip(&advantages)
            .map(|(a, advantage)| {
                let takes_part = advantage.is_some() && !(spec.loss.mask_truncated && a.sampled.truncated);
                takes_part.then_some(a.sampled.ids.len())
            })
            .collect();
        let weights = token_weights(&lengths, spec.loss.loss_type, spec.sampling.max_new_tokens);
        let rated: Vec<Rated<'_, '_>> = answers
            .iter()
            .zip(&advantages)
            .zip(&weights)
            .filter(|(_, weight)| **weight > 0.0)
            .map(|((answer, advantage), &weight)| Rated { answer, advantage: advantage.unwrap_or(0.0), weight })
            .collect();
        let tokens: usize = answers.iter().map(|a| a.example.prompt_ids.len() + a.sampled.ids.len()).sum();
        for update in 0..spec.updates_per_rollout.min(total_steps - progress.step) {
            let update_started = Instant::now();
            let step = progress.step + 1;
            let mut sums = Sums::default();
            for micro_batch in rated.chunks(spec.micro_batch_size) {
                accumulate(&policy.decoder, reference.as_ref(), micro_batch, spec, checkpointing, &mut sums);
            }
            if update == 0 {
                check_on_policy(context, &sums, policy.decoder.kind(), step)?;
            }
            let done = training::update(&mut optimizer, &spec.optimizer, step, total_steps, sums.loss)?;
            let update_s = update_started.elapsed().as_secs_f64();
            metrics.extend(sums.metrics(reference.is_some()));
            let generated: usize = answers.iter().map(|a| a.sampled.ids.len()).sum();
            let more = [
                ("optim/lr", done.lr),
                ("optim/grad_norm", done.grad_norm),
                ("time/rollout_s", rollout_s),
                ("time/reward_s", reward_s),
                ("time/update_s", update_s),
                ("perf/rollout_tokens_per_s", generated as f64 / rollout_s),
                ("perf/tokens_per_s", tokens as f64 / (rollout_s + reward_s + update_s)),
            ];
            metrics.extend(more.map(|(name, value)| (name.to_owned(), value)));
            progress.step = step;
            progress.tokens += tokens as u64;
            training::report(context, step, total_steps, metrics.clone())?;
        }
        if let Some(&mean) = metrics.get("reward/mean").filter(|mean| mean.is_finite()) {
            progress.remember(mean);
        }
        if progress.step < total_steps && training::resume_point(context, &policy.decoder, &optimizer, &progress)? {
            return Ok(Outcome::Stopped { step: progress.step });
        }
    }
    training::save_output(context, assignment, &policy)?;
    Ok(Outcome::Finished(progress.result("reward/mean")))
}

/// A completion that takes part in the loss.
struct Rated<'a, 'b> {
    answer: &'a Answer<'b>,
    advantage: f64,
    /// Of each of its tokens in the step's loss.
    weight: f64,
}

/// Adds the gradients of one micro-batch.
fn accumulate(
    decoder: &Decoder,
    reference: Option<&Reference>,
    micro_batch: &[Rated<'_, '_>],
    spec: &GrpoSpec,
    checkpointing: bool,
    sums: &mut Sums,
) {
    let device = decoder.device();
    let rows: Vec<Vec<i64>> = micro_batch
        .iter()
        .map(|r| [r.answer.example.prompt_ids.as_slice(), r.answer.sampled.ids.as_slice()].concat())
        .collect();
    let packed = Packed::new(&rows, device);
    let mut positions = Vec::new();
    let mut lengths = Vec::new();
    for (rated, start) in micro_batch.iter().zip(packed.starts()) {
        let prompt = i64::try_from(rated.answer.example.prompt_ids.len()).expect("lengths fit i64");
        let length = i64::try_from(rated.answer.sampled.ids.len()).expect("lengths fit i64");
        positions.extend(start + prompt - 1..start + prompt + length - 1);
        lengths.push(length);
    }
    let positions = Tensor::from_slice(&positions).to_device(device); // (N,)
    let targets: Vec<i64> = micro_batch.iter().flat_map(|r| r.answer.sampled.ids.iter().copied()).collect();
    let targets = Tensor::from_slice(&targets).to_device(device); // (N,)
    let sampling: Vec<f32> = micro_batch.iter().flat_map(|r| r.answer.sampled.logprobs.iter().copied()).collect();
    let sampling_logprobs = Tensor::from_slice(&sampling).to_device(device); // (N,)
    let per_token = |value: &dyn Fn(&Rated<'_, '_>) -> f64| {
        let values: Vec<f32> =
            micro_batch.iter().flat_map(|r| std::iter::repeat_n(value(r) as f32, r.answer.sampled.ids.len())).collect();
        Tensor::from_slice(&values).to_device(device) // (N,)
    };
    let temperature = if spec.sampling.temperature == 0.0 { 1.0 } else { spec.sampling.temperature };
    let select = |hidden: &Tensor| hidden.index_select(0, &positions); // (N, C)

    let ref_logprobs = reference.map(|reference| {
        reference.swapped_in(decoder, || {
            let hidden = tch::no_grad(|| select(&decoder.hidden(&packed)));
            head::logprobs(decoder, &hidden, &targets, temperature).logprobs
        })
    });
    // no dropout: the policy is the one that sampled
    let pass = TrainingPass::new(decoder, &packed, PassOptions { dropout_seed: None, checkpointing });
    let hidden = select(pass.hidden());
    let now = head::logprobs(decoder, &hidden.detach(), &targets, temperature);
    let leaf = now.logprobs.detach().set_requires_grad(true);
    let knobs = PolicyKnobs {
        clip_low: spec.loss.clip_low,
        clip_high: spec.loss.clip_high,
        kl_coef: spec.loss.kl_coef,
        ratio: RatioLevel::Token,
    };
    let inputs = PolicyInputs {
        logprobs: &leaf,
        sampling_logprobs: &sampling_logprobs,
        ref_logprobs: ref_logprobs.as_ref(),
        advantages: &per_token(&|r| r.advantage),
        weights: &per_token(&|r| r.weight),
        lengths: &lengths,
    };
    let result = policy_loss(&inputs, knobs);
    result.loss.backward();
    let _ = head::backward(decoder, &hidden, &targets, &leaf.grad(), temperature);
    pass.finish();

    let total = |t: &Tensor| t.sum(Kind::Double).double_value(&[]);
    sums.loss += result.loss.double_value(&[]);
    sums.tokens += targets.size()[0] as f64;
    sums.ratio_deviation += total(&(&result.ratio - 1.0).abs());
    sums.clipped += total(&result.clipped);
    sums.entropy += total(&now.entropy);
    sums.kl += result.kl.as_ref().map_or(0.0, total);
}

/// Sums over the tokens of an optimizer step.
#[derive(Default)]
struct Sums {
    loss: f64,
    tokens: f64,
    ratio_deviation: f64,
    clipped: f64,
    entropy: f64,
    kl: f64,
}

impl Sums {
    fn metrics(&self, with_kl: bool) -> BTreeMap<String, f64> {
        let mean = |sum: f64| sum / self.tokens;
        let mut metrics = BTreeMap::from([
            ("train/loss".to_owned(), self.loss),
            ("grpo/ratio_deviation".to_owned(), mean(self.ratio_deviation)),
            ("grpo/clip_frac".to_owned(), mean(self.clipped)),
            ("grpo/entropy".to_owned(), mean(self.entropy)),
        ]);
        if with_kl {
            metrics.insert("grpo/kl".to_owned(), mean(self.kl));
        }
        metrics
    }
}

/// The first update of a rollout is on-policy: what training computes must be what sampling computed.
fn check_on_policy(context: &mut Context<'_>, sums: &Sums, kind: Kind, step: u64) -> StageResult<()> {
    let deviation = sums.ratio_deviation / sums.tokens;
    if kind == Kind::Float && deviation > RATIO_TOLERANCE {
        return Err(StageError {
            class: FailureClass::NonFinite,
            message: format!(
                "at step {step} sampling and training disagree: the on-policy ratio is off 1 by {deviation:.1e}"
            ),
            hint: Some("this is a defect of the engine; please report the recipe".to_owned()),
        });
    }
    if deviation > RATIO_TOLERANCE_16_BIT {
        context.emit(&EventKind::Warning(format!(
            "step {step}: the on-policy ratio is off 1 by {deviation:.2} on average; 16-bit rounding this large distorts \
             the update, consider `dtype = \"float32\"`"
        )))?;
    }
    Ok(())
}

fn rollout_metrics(answers: &[Answer<'_>], rewards: &[Option<f64>], group_size: usize) -> BTreeMap<String, f64> {
    let count = answers.len() as f64;
    let flat_groups = rewards
        .chunks(group_size)
        .filter(|group| standard_deviation(&group.iter().copied().flatten().collect::<Vec<f64>>()) < 1e-8)
        .count();
    let tokens: usize = answers.iter().map(|a| a.sampled.ids.len()).sum();
    let truncated = answers.iter().filter(|a| a.sampled.truncated).count();
    BTreeMap::from([
        ("grpo/zero_std_groups".to_owned(), flat_groups as f64),
        ("completion/tokens_mean".to_owned(), tokens as f64 / count),
        ("completion/truncated_frac".to_owned(), truncated as f64 / count),
    ])
}

/// The stage's input, kept to measure the divergence from.
struct Reference {
    values: Vec<Tensor>,
}

impl Reference {
    fn of(decoder: &Decoder) -> Self {
        Self { values: decoder.trainable().iter().map(|(_, t)| t.detach().copy()).collect() }
    }

    /// Runs `compute` with the reference's weights in the policy's place.
    fn swapped_in<T>(&self, decoder: &Decoder, compute: impl FnOnce() -> T) -> T {
        let trainable = decoder.trainable();
        let current: Vec<Tensor> = trainable.iter().map(|(_, t)| t.data()).collect();
        let set = |values: &[Tensor]| {
            for ((_, tensor), value) in trainable.iter().zip(values) {
                tensor.shallow_clone().set_data(value);
            }
        };
        set(&self.values);
        let result = compute();
        set(&current);
        result
    }
}
