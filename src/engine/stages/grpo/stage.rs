//! The loop of a GRPO stage.

use super::credit::{Earned, credits};
use super::metrics::{Counted, mix_metrics, rollout_metrics};
use super::pass_rates::save_pass_rates;
use super::rollout::{Rollout, Source, Timing};
use super::update::{KL, Rated, Reference, Sums, UpdateOptions, accumulate, check_on_policy};
use crate::checkpoint::{self, TrainingProgress};
use crate::data;
use crate::error::StageResult;
use crate::optim::Optimizer;
use crate::policy::Policy;
use crate::stages::scoring::{check_missing, judge_expenses, reward_mix, save_completions};
use crate::stages::training;
use crate::stages::{Context, Outcome};
use crate::torch::Deterministic;
use orchestrate_core::event::{EventKind, Measurement, StepPart};
use orchestrate_core::recipe::spec::GrpoSpec;
use orchestrate_core::rewards::{RewardMix, Watched, reward_metrics};
use orchestrate_core::workspace::Assignment;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

#[expect(clippy::too_many_lines, reason = "the loop reads from top to bottom in one place")]
pub(in crate::stages) fn run(
    context: &mut Context<'_>,
    assignment: &Assignment,
    spec: &GrpoSpec,
) -> StageResult<Outcome> {
    context.phase("loading the model")?;
    let mut policy = Policy::load(assignment, context.device)?;
    let mut reward_mix = reward_mix(context, assignment, &spec.rewards)?;
    context.phase("reading the prompts")?;
    let examples = data::grpo(spec, &assignment.inputs, &policy.tokenizer)?;
    context.preflight(&examples.reports)?;
    let options = UpdateOptions::new(spec, assignment.runtime.gradient_checkpointing);
    let reference = spec.needs_reference().then(|| Reference::of(&policy.decoder));
    let total_steps = spec.steps;
    let mut optimizer = Optimizer::new(policy.decoder.trainable(), &spec.optimizer);
    let mut progress = training::start(context, &policy.decoder, &mut optimizer, total_steps)?;

    let last_step = training::last_step(assignment, total_steps);
    while progress.step < last_step {
        if assignment.snapshots.contains_key(&progress.step) {
            let (results, pools) = (results(&progress, &reward_mix), progress.pools.as_ref());
            let more = |context: &mut Context<'_>| save_pass_rates(context, &examples.mixture, spec, pools);
            training::snapshot(context, assignment, &policy, (progress.step, &results), more)?;
        }
        // 1. rollout: sample and rate `group_size` completions for each of the step's prompts
        let source = Source::new(&policy, &examples.mixture, assignment.spec.seed, spec);
        let before = progress.clone();
        let from = (progress.prompts, progress.pools.take());
        reward_mix.begin_step(progress.step + 1);
        let Some(mut rollout) = Rollout::draw(context, &source, &mut reward_mix, from, progress.step + 1)? else {
            let write = |dir: &Path| checkpoint::save_resume(dir, &policy.decoder, &optimizer, &before);
            return context.stop_within_step(before.step, write);
        };
        progress.prompts += rollout.prompts();
        progress.pools = rollout.pools.clone();
        let Timing { prefill, decode, sampling, rating, rollout: rollout_s } = rollout.timing;
        let mut metrics = rollout.metrics(spec);

        // 2. advantages of completions and credits of their tokens; discarded groups are recorded without them
        let taking_part = rollout.taking_part();
        let (answers, scores, advantages) = rollout.advantages(spec, &mut progress.running_std);
        let (mixed, crediting) = (mix_metrics(&reward_mix, &progress.running_std), Instant::now());
        let earned =
            Earned { answers: &answers, advantages: &advantages, seed: assignment.spec.seed, step: progress.step + 1 };
        let (reward_mix, policy) = (&mut reward_mix, &mut policy);
        let Some(credits) = credits(spec, policy, reference.as_ref(), reward_mix, options, &earned)? else {
            let write = |dir: &Path| checkpoint::save_resume(dir, &policy.decoder, &optimizer, &before);
            return context.stop_within_step(before.step, write);
        };
        if spec.credit.is_some() {
            metrics.insert("time/credit_s".to_owned(), crediting.elapsed().as_secs_f64());
        }
        metrics.extend(credits.metrics.clone());
        for ((answer, score), advantage) in answers.iter().zip(&scores).zip(&advantages) {
            context.emit(&EventKind::Completion(Box::new(answer.completion(progress.step + 1, score, *advantage))))?;
        }
        check_missing(&scores, &spec.rewards, spec.max_missing_fraction, progress.step + 1)?;
        metrics.extend(reward_metrics(&scores, spec.group_size));
        metrics.extend(mixed);
        let counted: Vec<Counted<'_>> = answers.iter().map(Counted::from).collect();
        metrics.extend(rollout_metrics(&counted, spec.group_size));
        let watched: Vec<Watched<'_>> = answers
            .iter()
            .zip(&scores)
            .map(|(a, score)| Watched { completion: &a.text, tokens: a.sampled.ids.len(), score })
            .collect();
        for warning in progress.watch.observe(progress.step + 1, &watched, spec.group_size) {
            context.emit(&EventKind::Warning(warning))?;
        }

        // 3. updates, each on one mini-batch of whole groups
        let part = spec.group_size * (taking_part / spec.group_size).div_ceil(spec.mini_batches).max(1);
        let mut mini_batches: Vec<Vec<Rated<'_>>> = (answers[..taking_part].chunks(part))
            .zip(advantages[..taking_part].chunks(part))
            .zip((0..taking_part).step_by(part))
            .map(|((answers, advantages), from)| {
                Rated::of(answers, advantages, credits.of(from..from + answers.len()), spec)
            })
            .collect();
        mini_batches.resize_with(spec.mini_batches, Vec::new); // fewer groups than requested may take part
        let tokens: usize = answers.iter().map(|a| a.example.prompt_ids.len() + a.sampled.ids.len()).sum();
        let updates = usize::try_from(spec.updates_per_rollout.min(last_step - progress.step)).unwrap_or(usize::MAX);
        for update in 0..updates {
            let update_started = Instant::now();
            let step = progress.step + 1;
            let reference = reference.as_ref().filter(|_| spec.loss.measures_kl(step));
            let mut sums = Sums::default();
            let rated = &mini_batches[update % spec.mini_batches];
            let micro_batches = rated.chunks(spec.micro_batch_size);
            let parts = micro_batches.len() as f64;
            for (index, micro_batch) in micro_batches.enumerate() {
                let part =
                    StepPart { step, total_steps, share: 0.5 + index as f64 / parts / 2.0, share_of_stage: None };
                if context.should_drop_step(part)? {
                    // a resumed stage repeats the rollout, which needs the weights from before its first update
                    if update > 0 {
                        return Ok(Outcome::Stopped { step: context.resume_point.unwrap_or(0) });
                    }
                    let write = |dir: &Path| checkpoint::save_resume(dir, &policy.decoder, &optimizer, &before);
                    return context.stop_within_step(before.step, write);
                }
                let _deterministic = Deterministic::begin(assignment.runtime.deterministic, context.device);
                accumulate(&mut policy.decoder, reference, micro_batch, options, &mut sums);
            }
            let totals = sums.read();
            if update == 0 {
                check_on_policy(context, &totals, policy.decoder.activations(), step)?;
            }
            // without a loss there is no gradient, and momentum alone must not change the weights
            let done = if rated.is_empty() {
                None
            } else {
                Some(training::update(&mut optimizer, &spec.optimizer, step, total_steps, totals.loss)?)
            };
            let update_s = update_started.elapsed().as_secs_f64();
            metrics.remove(KL); // an earlier update of the same rollout may have measured it
            metrics.extend(totals.metrics(reference.is_some()));
            let generated: usize = answers.iter().map(|a| a.sampled.ids.len()).sum();
            let more = [
                ("optim/lr", done.as_ref().map_or(0.0, |done| done.lr)),
                ("optim/grad_norm", done.as_ref().map_or(0.0, |done| done.grad_norm)),
                ("time/rollout_s", rollout_s),
                ("time/prefill_s", prefill),
                ("time/decode_s", decode),
                ("time/reward_s", rating),
                ("time/update_s", update_s),
                ("perf/rollout_tokens_per_s", generated as f64 / sampling),
                ("perf/tokens_per_s", tokens as f64 / (rollout_s + update_s)),
            ];
            metrics.extend(more.map(|(name, value)| (name.to_owned(), value)));
            progress.step = step;
            progress.tokens += tokens as u64;
            training::report(context, step, total_steps, metrics.clone())?;
        }
        if let Some(&mean) = metrics.get("reward/mean").filter(|mean| mean.is_finite()) {
            progress.remember(mean);
        }
        // only after a rollout's last update, since a resumed stage begins with a new rollout
        if progress.step < last_step && training::resume_point(context, &policy.decoder, &optimizer, &progress)? {
            return Ok(Outcome::Stopped { step: progress.step });
        }
    }
    training::save_output(context, assignment, &policy)?;
    save_completions(context)?;
    save_pass_rates(context, &examples.mixture, spec, progress.pools.as_ref())?;
    Ok(Outcome::Finished(results(&progress, &reward_mix)))
}

/// Returns the measurements of a stage that ends here.
fn results(progress: &TrainingProgress, reward_mix: &RewardMix) -> BTreeMap<String, Measurement> {
    let mut results = progress.result("reward/mean");
    results.extend(judge_expenses(reward_mix));
    results
}
