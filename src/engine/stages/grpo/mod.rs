//! Group-relative policy optimization: sample a group of completions for each prompt, rate them, and raise the
//! probability of what is better than its group's mean.
//!
//! As in the paper (arXiv:2402.03300) but for three things: the loss is normalized by the tokens of the whole step by
//! default (DAPO, arXiv:2503.14476); the log-probabilities of sampling are the old ones, since the same engine samples and
//! trains; and the reference is the stage's input, asked only when `kl_coef` is not 0.

mod metrics;
mod update;

use self::metrics::rollout_metrics;
use self::update::check_on_policy;
pub use self::update::{Rated, Reference, Sums, UpdateOptions, accumulate};
use super::scoring::{Answer, reward_metrics, rubric, score, truncation_metrics};
use super::training;
use super::{Context, Outcome};
use crate::data;
use crate::error::StageResult;
use crate::loss::advantages;
use crate::optim::Optimizer;
use crate::policy::Policy;
use crate::rollout::{Request, sample};
use crate::seed;
use orchestrate::cache::Assignment;
use orchestrate::event::EventKind;
use orchestrate::recipe::spec::GrpoSpec;
use std::time::Instant;

pub(super) fn run(context: &mut Context<'_>, assignment: &Assignment, spec: &GrpoSpec) -> StageResult<Outcome> {
    context.phase("loading the model")?;
    let mut policy = Policy::load(assignment, context.device)?;
    let mut rubric = rubric(assignment, &spec.rewards, context.device)?;
    context.phase("reading the prompts")?;
    let examples = data::grpo(spec, &assignment.inputs, &policy.tokenizer)?;
    context.preflight(&examples.reports)?;
    let seed = assignment.spec.seed;
    let stop_ids = policy.tokenizer.stop_ids();
    let options = UpdateOptions::new(spec, assignment.runtime.gradient_checkpointing);
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

        // 3. updates, each on one mini-batch of whole groups
        let mini_batches: Vec<Vec<Rated<'_>>> = (answers.chunks(answers.len() / spec.mini_batches))
            .zip(advantages.chunks(answers.len() / spec.mini_batches))
            .map(|(answers, advantages)| Rated::of(answers, advantages, spec))
            .collect();
        let tokens: usize = answers.iter().map(|a| a.example.prompt_ids.len() + a.sampled.ids.len()).sum();
        let updates = usize::try_from(spec.updates_per_rollout.min(total_steps - progress.step)).unwrap_or(usize::MAX);
        for update in 0..updates {
            let update_started = Instant::now();
            let step = progress.step + 1;
            let mut sums = Sums::default();
            for micro_batch in mini_batches[update % spec.mini_batches].chunks(spec.micro_batch_size) {
                accumulate(&mut policy.decoder, reference.as_ref(), micro_batch, options, &mut sums);
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
        // only here: a resumed stage samples its next rollout anew, and must not be in the middle of one
        if progress.step < total_steps && training::resume_point(context, &policy.decoder, &optimizer, &progress)? {
            return Ok(Outcome::Stopped { step: progress.step });
        }
    }
    training::save_output(context, assignment, &policy)?;
    Ok(Outcome::Finished(progress.result("reward/mean")))
}
