//! The loop of an evaluation.

use super::batches::{Batch, Shares, batches, options_share};
use super::best::{Chosen, choose};
use super::kept::{KeptBatch, KeptFiles};
use super::measured::{Measured, metrics_json};
use super::probes::Probes;
use crate::choice::{loglikelihoods, verdict};
use crate::data::{self, Sequence};
use crate::error::{StageError, StageResult};
use crate::generation::{Request, Sampled, Stop, sample_while};
use crate::head;
use crate::models::{Group, Packed};
use crate::policy::{self, Policy};
use crate::seed;
use crate::stages::scoring::{
    RatingMetrics, SampledCompletion, check_measured, draws, judge_expenses, reward_mix_without, save_completions,
    score_with,
};
use crate::stages::supervised::loss_positions;
use crate::stages::training;
use crate::stages::{Context, Outcome, cache_error};
use crate::tokenizer::Tokenizer;
use orchestrate_core::event::{Choice, Completion, EvalRecord, EventKind, StepPart};
use orchestrate_core::recipe::spec::{EvalSpec, Role};
use orchestrate_core::rewards::RewardMix;
use orchestrate_core::workspace::{ANSWERS_KEPT, Assignment, NO_MODEL, fault_point};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch::Kind;

#[expect(clippy::too_many_lines, reason = "the loop reads from top to bottom in one place")]
pub(in crate::stages) fn run(
    context: &mut Context<'_>,
    assignment: &Assignment,
    spec: &EvalSpec,
) -> StageResult<Outcome> {
    context.phase("reading the questions")?;
    let (assignment, chosen) = choose(assignment, spec.best.as_ref())?;
    let assignment = assignment.as_ref();
    let tokenizer = policy::tokenizer(assignment)?;
    let limit = spec.sampling.max_prompt_tokens;
    let mut questions = data::prompts(&spec.data, &assignment.inputs, &tokenizer, limit)?;
    for (question, slices) in questions.iter_mut().zip(data::slices(&spec.data, &spec.by, &assignment.inputs)?) {
        question.slices = slices;
    }
    let questions = questions;
    let slices: BTreeMap<&str, &BTreeMap<String, String>> =
        questions.iter().map(|question| (question.location.as_str(), &question.slices)).collect();
    context.preflight(&[data::of_prompts(&spec.data, &assignment.inputs, &questions, &tokenizer)])?;
    let context_length = policy::context_length(assignment)?;
    let options = match &spec.options {
        Some(options) => data::options(&spec.data, options, &assignment.inputs, &tokenizer)?,
        None => Vec::new(),
    };
    check_fits(&questions, &options, context_length)?;
    let has_completions = spec.data.templates.completion.is_some() || spec.data.messages.is_some();
    let completions: Vec<Sequence> = if has_completions {
        let measured = BTreeSet::from([Role::Assistant]);
        data::conversations(&spec.data, &assignment.inputs, &tokenizer, context_length, &measured)?
    } else {
        Vec::new()
    };
    let documents = documents(assignment, spec, &tokenizer, context_length)?;
    let batches = batches(spec, &questions, &options, &completions, &documents);
    let total_steps = batches.len() as u64;
    let shares = Shares::of(&batches, spec);

    let from = context.attempt.latest_resume_point().map_err(cache_error)?;
    let mut measured = resume(from.as_ref())?;
    let rest = usize::try_from(measured.step).ok().and_then(|step| batches.get(step..)).unwrap_or_default();
    let mut files = KeptFiles::of(context.attempt, assignment, spec, context.device);
    let mut kept: VecDeque<KeptBatch> = files.read(rest, &spec.rewards).into();
    tell_damage(context, &files)?;
    let policy = if kept.iter().zip(rest).all(|(kept, batch)| kept.needs_no_model(batch)) {
        context.phase(NO_MODEL)?;
        None
    } else {
        context.phase("loading the model")?;
        Some(Policy::load(assignment, context.device)?)
    };
    let known = known_components(context, spec, rest, &kept)?;
    let mut reward_mix = reward_mix_without(&known, context, assignment, &spec.rewards)?;
    let probes = Probes::of(spec, &mut reward_mix, &questions, assignment.spec.seed)?;
    context.started(from.map(|(step, _)| step), total_steps)?;
    while let Some(batch) = usize::try_from(measured.step).ok().and_then(|step| batches.get(step)) {
        let started = Instant::now();
        let mut metrics = BTreeMap::new();
        let step = measured.step;
        let part = |share: f64| StepPart {
            step: step + 1,
            total_steps,
            share,
            share_of_stage: Some(shares.of_stage(step, share)),
        };
        if context.should_drop_step(part(0.0))? {
            return context.stop_within_step(step, |dir| write(dir, &measured));
        }
        let mut known = kept.pop_front().expect("what is kept was read for every batch");
        let is_kept = known.needs_no_model(batch);
        let model = || policy.as_ref().expect("the model is loaded unless every batch is kept");
        let tokens = match batch {
            Batch::Questions(questions, options) => {
                let of_options = options_share(questions, options, spec);
                if known.options.is_none() && !options.is_empty() {
                    let part = |share: f64| part(of_options * share);
                    known.options = option_likelihoods(context, model(), questions, options, spec.batch_size, part)?;
                    let Some(sums) = &known.options else {
                        return context.stop_within_step(measured.step, |dir| write(dir, &measured));
                    };
                    files.keep_options(questions, options, sums)?;
                }
                let choices = choices(known.options.unwrap_or_default(), options);
                if known.answers.is_none() {
                    let part = |share: f64| part(of_options + (1.0 - of_options) * share);
                    known.answers = answer(context, model(), questions, spec, assignment.spec.seed, part)?;
                    let Some(answers) = &known.answers else {
                        return context.stop_within_step(measured.step, |dir| write(dir, &measured));
                    };
                    files.keep_answers(questions, answers)?;
                    fault_point(ANSWERS_KEPT);
                }
                let answers = decoded(questions, known.answers.unwrap_or_default(), spec, &tokenizer);
                let before: BTreeSet<String> = known.columns.keys().cloned().collect();
                let (scores, warnings) = score_with(&mut reward_mix, &mut known.columns, &answers);
                for warning in warnings {
                    context.emit(&EventKind::Warning(warning))?;
                }
                let Some(scores) = scores? else {
                    return context.stop_within_step(measured.step, |dir| write(dir, &measured));
                };
                files.keep_columns(questions, &spec.rewards, &before, &known.columns)?;
                check_measured(&scores, &spec.rewards, spec.max_missing_fraction, measured.step + 1)?;
                let mut rating = RatingMetrics::default();
                rating.add(&reward_mix);
                let mut numbers = reward_mix.sample_metrics();
                // a component whose values were kept has not answered
                numbers
                    .retain(|name, _| name.split_once('/').is_some_and(|(component, _)| !before.contains(component)));
                if let Some(probes) = &probes {
                    let Some(found) = probes.rate(spec, &mut reward_mix, &answers, &scores)? else {
                        return context.stop_within_step(measured.step, |dir| write(dir, &measured));
                    };
                    measured.probes.get_or_insert_default().merge(found);
                }
                let samples = spec.samples_per_question;
                for (question, (answers, scores)) in answers.chunks(samples).zip(scores.chunks(samples)).enumerate() {
                    let choice = choices.get(question);
                    let votes = votes(&reward_mix, spec, answers);
                    for ((answer, score), vote) in answers.iter().zip(scores).zip(&votes) {
                        let eval = Some(EvalRecord { vote: vote.clone(), ..record(spec, answer, choice) });
                        let completion = Completion { eval, ..answer.completion(measured.step + 1, score, None) };
                        context.emit(&EventKind::Completion(Box::new(completion)))?;
                    }
                    measured.record(spec, answers, scores, &votes, choice);
                }
                measured.record_numbers(&numbers, samples);
                metrics.extend(rating.finish());
                answers.iter().map(|a| a.sampled.ids.len()).sum::<usize>()
            }
            Batch::Likelihood(sequences, documents) => {
                let nll = if let Some(nll) = known.likelihoods {
                    nll
                } else {
                    let nll = negative_log_likelihood(model(), sequences);
                    files.keep_likelihoods(sequences, &nll)?;
                    nll
                };
                if *documents {
                    measured.text_nll.extend(nll);
                } else {
                    let trained = sequences.iter().filter(|sequence| sequence.trained_tokens() > 0);
                    let of_rows = trained.map(|sequence| slices.get(sequence.location.as_str()).copied());
                    measured.record_completions(nll.into_iter().zip(of_rows));
                }
                sequences.iter().map(|s| s.ids.len()).sum()
            }
        };
        measured.step += 1;
        if !is_kept {
            let speed = tokens as f64 / started.elapsed().as_secs_f64();
            metrics.insert("perf/tokens_per_s".to_owned(), speed);
        }
        training::report(context, measured.step, total_steps, metrics)?;
        if measured.step < total_steps && resume_point(context, &measured)? {
            return Ok(Outcome::Stopped { step: measured.step });
        }
    }
    for warning in measured.probes.iter().flat_map(|probes| probes.warnings(spec)) {
        context.emit(&EventKind::Warning(warning))?;
    }
    let mut results = measured.results(spec, seed::derive(assignment.spec.seed, &["bootstrap"]));
    results.extend(chosen.iter().flat_map(Chosen::results));
    let path = context.attempt.out_dir().map_err(cache_error)?.join("metrics.json");
    fs_err::write(path, metrics_json(spec, &results))?;
    save_completions(context)?;
    results.extend(judge_expenses(&reward_mix));
    Ok(Outcome::Finished(results))
}

/// Returns the documents of `text`, each truncated to the model's context length.
pub(super) fn documents(
    assignment: &Assignment,
    spec: &EvalSpec,
    tokenizer: &Tokenizer,
    context_length: usize,
) -> StageResult<Vec<Sequence>> {
    let Some(text) = &spec.text else { return Ok(Vec::new()) };
    let documents = data::documents(text, &assignment.inputs, tokenizer)?;
    let cut = |mut document: Sequence| {
        document.ids.truncate(context_length);
        Sequence::document(document.location, document.ids)
    };
    Ok(documents.into_iter().map(cut).collect())
}

/// Returns an error for a question that exceeds the model's context length with one of its options.
pub(super) fn check_fits(
    questions: &[data::Example],
    options: &[data::Options],
    context_length: usize,
) -> StageResult<()> {
    for (question, options) in questions.iter().zip(options) {
        let longest = options.ids.iter().map(Vec::len).max().unwrap_or(0);
        let tokens = question.prompt_ids.len() + longest;
        if tokens > context_length {
            let at = &options.location;
            let message = format!(
                "{at}: the prompt and its longest option have {tokens} tokens, the model reads {context_length}"
            );
            return Err(StageError::input(message).hinted("shorten the row, or the template `prompt`"));
        }
    }
    Ok(())
}

/// Warns of kept files that are damaged.
fn tell_damage(context: &mut Context<'_>, files: &KeptFiles) -> StageResult<()> {
    match files.damaged() {
        0 => Ok(()),
        1 => {
            context.emit(&EventKind::Warning("a kept file of answers is damaged: its content is computed again".into()))
        }
        count => context.emit(&EventKind::Warning(format!(
            "{count} kept files of answers are damaged: their content is computed again"
        ))),
    }
}

/// Returns the components whose values are known for all answers of `batches`, and reports them.
fn known_components(
    context: &mut Context<'_>,
    spec: &EvalSpec,
    batches: &[Batch<'_>],
    kept: &VecDeque<KeptBatch>,
) -> StageResult<BTreeSet<String>> {
    let asked = kept.iter().zip(batches).filter(|(_, batch)| matches!(batch, Batch::Questions(..)));
    let asked: Vec<&KeptBatch> = asked.map(|(kept, _)| kept).collect();
    // probes rate other texts, and votes are read by the component
    let is_needed = |name: &str| spec.probes || (name == EvalSpec::CORRECTNESS && !spec.maj_at.is_empty());
    let is_known = |name: &&String| !is_needed(name) && asked.iter().all(|kept| kept.columns.contains_key(*name));
    let known: BTreeSet<String> = spec.rewards.keys().filter(is_known).cloned().collect();
    if !known.is_empty() && !asked.is_empty() {
        let names = |wanted: bool| {
            let names = spec.rewards.keys().filter(|name| known.contains(*name) == wanted);
            names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        };
        let computed = if known.len() == spec.rewards.len() { "none".to_owned() } else { names(false) };
        context.phase(&format!("kept values: {}; computed: {computed}", names(true)))?;
    }
    Ok(known)
}

/// Computes the log-likelihoods of the options of each question, `batch_size` questions at a time. Returns `None` if
/// the stage should stop.
pub(super) fn option_likelihoods(
    context: &mut Context<'_>,
    policy: &Policy<'_>,
    questions: &[data::Example],
    options: &[data::Options],
    batch_size: usize,
    part: impl Fn(f64) -> StepPart,
) -> StageResult<Option<Vec<Vec<f64>>>> {
    let groups: Vec<Group<'_>> = questions
        .iter()
        .zip(options)
        .map(|(question, options)| Group {
            prompt: &question.prompt_ids,
            completions: options.ids.iter().map(Vec::as_slice).collect(),
        })
        .collect();
    let mut sums = Vec::with_capacity(groups.len());
    for groups in groups.chunks(batch_size) {
        if context.should_drop_step(part(sums.len() as f64 / questions.len() as f64))? {
            return Ok(None);
        }
        sums.extend(loglikelihoods(&policy.decoder, groups));
    }
    Ok(Some(sums))
}

/// Returns the verdicts of the options of each question, whose log-likelihoods are `sums`.
pub(super) fn choices(sums: Vec<Vec<f64>>, options: &[data::Options]) -> Vec<Choice> {
    sums.into_iter().zip(options).map(|(sums, options)| verdict(sums, &options.texts, options.right)).collect()
}

/// Samples `samples_per_question` answers to each question, adjacent in the result. Returns `None` if the stage should
/// stop.
pub(super) fn answer(
    context: &mut Context<'_>,
    policy: &Policy<'_>,
    questions: &[data::Example],
    spec: &EvalSpec,
    seed: u64,
    part: impl Fn(f64) -> StepPart,
) -> StageResult<Option<Vec<Sampled>>> {
    let samples = spec.samples_per_question;
    let requests: Vec<Request<'_>> = questions
        .iter()
        .map(|question| {
            let seeds = (0..samples).map(|sample| sample_seed(seed, question.row, sample)).collect();
            Request { prompt_ids: &question.prompt_ids, seeds }
        })
        .collect();
    let stop = Stop::new(&policy.tokenizer, &spec.sampling);
    context.until_stopped(part, |go_on| {
        let draws = draws(&spec.sampling, &spec.rewards);
        sample_while(&policy.decoder, &requests, draws, &stop, spec.batch_size, go_on)
    })
}

/// Returns the texts of the `sampled` answers.
pub(super) fn decoded<'a>(
    questions: &'a [data::Example],
    sampled: Vec<Sampled>,
    spec: &EvalSpec,
    tokenizer: &Tokenizer,
) -> Vec<SampledCompletion<'a>> {
    let samples = spec.samples_per_question;
    let stop_ids = tokenizer.stop_ids();
    let asked = questions.iter().flat_map(|question| (0..samples).map(move |sample| (question, sample)));
    let answer = |((q, sample), s)| SampledCompletion::new(q, sample, s, tokenizer, stop_ids);
    asked.zip(sampled).map(answer).collect()
}

/// Returns the seed of a question's answer. The first answer's seed does not depend on the number of samples, so more
/// samples change no earlier answer.
pub(in crate::stages) fn sample_seed(seed: u64, row: usize, sample: usize) -> u64 {
    let row = row.to_string();
    match sample {
        0 => seed::derive(seed, &["eval", &row]),
        _ => seed::derive(seed, &["eval", &row, &sample.to_string()]),
    }
}

/// Returns the fields that pair `answer` with those of another evaluation.
pub(super) fn record(spec: &EvalSpec, answer: &SampledCompletion<'_>, choice: Option<&Choice>) -> EvalRecord {
    EvalRecord {
        question_id: answer.example.id.clone(),
        data_set: spec.data_set.clone(),
        out_of_domain: spec.out_of_domain,
        words: answer.words(),
        vote: None,
        choice: choice.cloned(),
        slices: answer.example.slices.clone(),
    }
}

/// Returns the answer for which each completion votes; nothing without maj@k.
pub(super) fn votes(reward_mix: &RewardMix, spec: &EvalSpec, answers: &[SampledCompletion<'_>]) -> Vec<Option<String>> {
    let vote = |answer: &SampledCompletion<'_>| {
        let is_wanted = !spec.maj_at.is_empty();
        is_wanted.then(|| reward_mix.vote(EvalSpec::CORRECTNESS, &answer.sample())).flatten()
    };
    answers.iter().map(vote).collect()
}

/// Returns the negative log-likelihood and count of the trained tokens of each sequence that has any.
pub(super) fn negative_log_likelihood(policy: &Policy<'_>, sequences: &[Sequence]) -> Vec<(f64, u64)> {
    let sequences: Vec<&Sequence> = sequences.iter().filter(|s| s.trained_tokens() > 0).collect();
    if sequences.is_empty() {
        return Vec::new();
    }
    let ids: Vec<&[i64]> = sequences.iter().map(|s| s.ids.as_slice()).collect();
    tch::no_grad(|| {
        let packed = Packed::new(&ids, policy.decoder.device());
        let (positions, targets) = loss_positions(&sequences, &packed);
        let hidden = policy.decoder.hidden(&packed).index_select(0, &positions);
        let logprobs = head::logprobs(&policy.decoder, &hidden, &targets, 1.0).logprobs;
        let counts: Vec<i64> =
            sequences.iter().map(|s| i64::try_from(s.trained_tokens()).expect("counts fit i64")).collect();
        logprobs
            .split_with_sizes(&counts, 0)
            .iter()
            .zip(&counts)
            .map(|(part, &count)| (-part.sum(Kind::Double).double_value(&[]), count.unsigned_abs()))
            .collect()
    })
}

/// Returns the measurements of a resume point, or none.
pub(super) fn resume(point: Option<&(u64, PathBuf)>) -> StageResult<Measured> {
    let Some((_, dir)) = point else { return Ok(Measured::default()) };
    let path = dir.join("measured.json");
    serde_json::from_str(&fs_err::read_to_string(&path)?)
        .map_err(|e| StageError::input(format!("`{}`: {e}", path.display())))
}

pub(super) fn resume_point(context: &mut Context<'_>, measured: &Measured) -> StageResult<bool> {
    let stop = context.supervisor.should_stop();
    if stop || context.supervisor.resume_point_due() {
        context.write_resume_point(measured.step, |dir| write(dir, measured))?;
    }
    Ok(stop)
}

pub(super) fn write(dir: &Path, measured: &Measured) -> std::io::Result<()> {
    fs_err::write(dir.join("measured.json"), serde_json::to_string(measured).expect("measurements serialize"))
}
