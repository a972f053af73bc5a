//! The loop of a stage that generates answers: of its model, or of a judge on a server.

use super::eval::{QUESTIONS_PER_ROW, sample_seed};
use super::scoring::{
    RatingMetrics, SampledCompletion, check_measured, draws, expenses, judge_access, or_stopped, policy_stats,
    reward_mix, save_completions, unrated,
};
use super::training;
use super::{Context, Outcome, cache_error};
use crate::data::{self, Asked, Example};
use crate::error::{StageError, StageResult};
use crate::generation::{Request, Stop, sample_while};
use crate::policy::Policy;
use orchestrate_core::data::selection::{HELD_OUT, INDEX, QUESTION_ID, REWARD};
use orchestrate_core::event::{Completion, EvalRecord, EventKind, FailureClass, Measurement, StepPart, StopReason};
use orchestrate_core::recipe::spec::GenerateSpec;
use orchestrate_core::rewards::{
    JudgeWriter, PolicyStats, RewardMix, RewardScore, Sample, WriterQuestion, WriterSampling,
};
use orchestrate_core::workspace::{Assignment, EventLog};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Instant;

/// The author of the answers.
enum Author<'a> {
    Policy(Box<Policy<'a>>),
    Judge(JudgeWriter),
}

/// An answer to a question.
struct Written<'a> {
    example: &'a Example,
    /// Index among the answers to the question.
    index: usize,
    text: String,
    tokens: usize,
    stop_reason: StopReason,
    /// The statistics of the distributions from which the policy drew it, if a component reads them.
    policy: Option<PolicyStats>,
}

/// The answers to a batch of questions, and the reasons of those that are missing.
#[derive(Default)]
struct Batch<'a> {
    written: Vec<Written<'a>>,
    missing: Vec<String>,
}

pub(super) fn run(context: &mut Context<'_>, assignment: &Assignment, spec: &GenerateSpec) -> StageResult<Outcome> {
    let mut author = author(context, assignment, spec)?;
    let mut reward_mix =
        if spec.rewards.is_empty() { None } else { Some(reward_mix(context, assignment, &spec.rewards)?) };
    context.phase("reading the questions")?;
    let has_chat_template = match &author {
        Author::Policy(policy) => policy.tokenizer.has_chat_template(),
        Author::Judge(_) => true,
    };
    let asked = data::asked(&spec.data, &assignment.inputs, has_chat_template)?;
    let fields = Rows::of(&asked);
    let messages: Vec<Value> = asked.iter().map(Asked::messages).collect();
    let questions = match &author {
        Author::Policy(policy) => {
            let questions = data::tokenized(asked, &policy.tokenizer, spec.sampling.max_prompt_tokens)?;
            let report = data::of_prompts(&spec.data, &assignment.inputs, &questions, &policy.tokenizer);
            context.preflight(&[report])?;
            questions
        }
        Author::Judge(_) => asked.into_iter().map(|asked| asked.example).collect(),
    };
    let batch_size = (QUESTIONS_PER_ROW * spec.batch_size / spec.samples_per_question).max(1);
    let total_steps = questions.len().div_ceil(batch_size) as u64;

    let mut step = resume(context, total_steps)?;
    for (questions, messages) in questions.chunks(batch_size).zip(messages.chunks(batch_size)).skip(as_count(step)) {
        let started = Instant::now();
        let part = |share: f64| StepPart { step: step + 1, total_steps, share, share_of_stage: None };
        if context.should_drop_step(part(0.0))? {
            return context.stop_within_step(step, |_| Ok::<_, std::io::Error>(()));
        }
        let answered = answer(context, &mut author, (questions, messages), spec, assignment.spec.seed, part)?;
        let Some(Batch { written, missing }) = answered else {
            return context.stop_within_step(step, |_| Ok::<_, std::io::Error>(()));
        };
        check_answered(written.len(), &missing, spec, step + 1)?;
        if let Some(reason) = missing.last() {
            let warning = format!("step {}: {} answers are missing: {reason}", step + 1, missing.len());
            context.emit(&EventKind::Warning(warning))?;
        }
        let Some(scores) = rate(context, reward_mix.as_mut(), &written, spec, step + 1)? else {
            return context.stop_within_step(step, |_| Ok::<_, std::io::Error>(()));
        };
        for (answer, score) in written.iter().zip(&scores) {
            context.emit(&EventKind::Completion(Box::new(answer.completion(spec, step + 1, score))))?;
        }
        step += 1;
        let tokens = written.iter().map(|answer| answer.tokens).sum::<usize>() as f64;
        let speed = ("perf/tokens_per_s".to_owned(), tokens / started.elapsed().as_secs_f64());
        let mut rating = RatingMetrics::default();
        if let Some(reward_mix) = &reward_mix {
            rating.add(reward_mix);
        }
        let mut metrics = rating.finish();
        metrics.extend([speed]);
        training::report(context, step, total_steps, metrics)?;
        let stop = context.supervisor.should_stop();
        if step < total_steps && (stop || context.supervisor.resume_point_due()) {
            context.write_resume_point(step, |_| Ok::<_, std::io::Error>(()))?;
            if stop {
                return Ok(Outcome::Stopped { step });
            }
        }
    }
    let mut results = save_answers(context, spec, &fields, questions.len() * spec.samples_per_question)?;
    save_completions(context)?;
    results.extend(reward_mix.iter().flat_map(|reward_mix| expenses(reward_mix.expenses())));
    if let Author::Judge(judge) = &author {
        results.extend(expenses(judge.expenses()));
    }
    Ok(Outcome::Finished(results))
}

fn author<'a>(context: &mut Context<'_>, assignment: &'a Assignment, spec: &GenerateSpec) -> StageResult<Author<'a>> {
    let Some(judge) = &spec.judge else {
        context.phase("loading the model")?;
        return Ok(Author::Policy(Box::new(Policy::load(assignment, context.device)?)));
    };
    let (cache, stop) = (context.attempt.judge_cache_dir(), context.supervisor.stop_check());
    let access = judge_access(assignment, &cache, context.attempt.dir(), &stop);
    let sampling = WriterSampling {
        temperature: spec.sampling.temperature,
        top_p: spec.sampling.top_p,
        max_tokens: spec.sampling.max_new_tokens,
        stop: spec.sampling.stop_strings.clone(),
    };
    let writer = JudgeWriter::new(judge, sampling, access)
        .map_err(|error| StageError::input(format!("the judge `{judge}` cannot be asked: {error}")))?;
    Ok(Author::Judge(writer))
}

/// Returns the answers to `questions`, those to one question adjacent. Returns `None` if the stage should stop.
fn answer<'q>(
    context: &mut Context<'_>,
    author: &mut Author<'_>,
    (questions, messages): (&'q [Example], &[Value]),
    spec: &GenerateSpec,
    seed: u64,
    part: impl Fn(f64) -> StepPart,
) -> StageResult<Option<Batch<'q>>> {
    let samples = spec.samples_per_question;
    let places = questions.iter().flat_map(|question| (0..samples).map(move |index| (question, index)));
    match author {
        Author::Policy(policy) => {
            let request = |question: &'q Example| Request {
                prompt_ids: &question.prompt_ids,
                seeds: (0..samples).map(|sample| sample_seed(seed, question.row, sample)).collect(),
            };
            let requests: Vec<Request<'_>> = questions.iter().map(request).collect();
            let stop = Stop::new(&policy.tokenizer, &spec.sampling);
            let sampled = context.until_stopped(part, |go_on| {
                let draws = draws(&spec.sampling, &spec.rewards);
                sample_while(&policy.decoder, &requests, draws, &stop, spec.batch_size, go_on)
            })?;
            let Some(sampled) = sampled else { return Ok(None) };
            let stop_ids = policy.tokenizer.stop_ids();
            let written = places.zip(sampled).map(|((example, index), sampled)| {
                let answer = SampledCompletion::new(example, index, sampled, &policy.tokenizer, stop_ids);
                let (tokens, stop_reason) = (answer.sampled.ids.len(), answer.sampled.stop_reason);
                let policy = policy_stats(&answer.sampled);
                Written { example, index, text: answer.text, tokens, stop_reason, policy }
            });
            Ok(Some(Batch { written: written.collect(), missing: Vec::new() }))
        }
        Author::Judge(judge) => {
            let asked = questions.iter().zip(messages).flat_map(|(question, messages)| {
                (0..samples).map(move |sample| WriterQuestion {
                    messages: messages.clone(),
                    seed: judge_seed(sample_seed(seed, question.row, sample)),
                })
            });
            let answers = judge.answers(&asked.collect::<Vec<_>>()).map_err(unrated);
            for warning in judge.warnings() {
                context.emit(&EventKind::Warning(warning))?;
            }
            let Some(answers) = or_stopped(answers)? else { return Ok(None) };
            let mut batch = Batch::default();
            for ((example, index), answer) in places.zip(answers) {
                match answer {
                    Ok(answer) => batch.written.push(Written {
                        example,
                        index,
                        text: answer.text,
                        tokens: usize::try_from(answer.tokens).unwrap_or(usize::MAX),
                        stop_reason: if answer.is_cut { StopReason::Length } else { StopReason::StopToken },
                        policy: None,
                    }),
                    Err(reason) => batch.missing.push(reason),
                }
            }
            Ok(Some(batch))
        }
    }
}

/// Returns a seed that every server accepts: some read it as a signed number of 32 bits.
fn judge_seed(seed: u64) -> u32 {
    (seed & 0x7fff_ffff).try_into().expect("it has 31 bits")
}

/// Rates the answers, and reports the warnings of the components. Without components, no answer has a reward. Returns
/// `None` if the stage should stop.
fn rate(
    context: &mut Context<'_>,
    reward_mix: Option<&mut RewardMix>,
    written: &[Written<'_>],
    spec: &GenerateSpec,
    step: u64,
) -> StageResult<Option<Vec<RewardScore>>> {
    let Some(reward_mix) = reward_mix else {
        let unrated = || RewardScore { total: None, parts: BTreeMap::new() };
        return Ok(Some(written.iter().map(|_| unrated()).collect()));
    };
    let samples: Vec<Sample<'_>> = written.iter().map(Written::sample).collect();
    let scores = or_stopped(reward_mix.score(&samples).map_err(unrated));
    for warning in reward_mix.warnings() {
        context.emit(&EventKind::Warning(warning))?;
    }
    let Some(scores) = scores? else { return Ok(None) };
    check_measured(&scores, &spec.rewards, spec.max_missing_fraction, step)?;
    Ok(Some(scores))
}

/// Returns an error if too many answers are missing. The rest would not be representative.
fn check_answered(written: usize, missing: &[String], spec: &GenerateSpec, step: u64) -> StageResult<()> {
    let count = written + missing.len();
    if missing.len() as f64 <= spec.max_missing_fraction * count as f64 {
        return Ok(());
    }
    let reason = missing.last().map(String::as_str).unwrap_or_default();
    let hint =
        "`max_missing_fraction` sets the share that may be missing; fix the cause, then run `orchestrate resume`";
    Err(StageError {
        class: FailureClass::JudgeUnavailable,
        message: format!("step {step}: {} of {count} answers are missing: {reason}", missing.len()),
        hint: Some(hint.to_owned()),
    })
}

impl Written<'_> {
    fn sample(&self) -> Sample<'_> {
        Sample {
            prompt: &self.example.prompt,
            completion: &self.text,
            reference: self.example.reference.as_deref(),
            answer: self.example.answer.as_deref(),
            index: self.index,
            policy: self.policy,
            row: Some(&self.example.id),
        }
    }

    fn completion(&self, spec: &GenerateSpec, step: u64, score: &RewardScore) -> Completion {
        let record = EvalRecord {
            question_id: self.example.id.clone(),
            data_set: spec.data_set.clone(),
            out_of_domain: false,
            words: self.text.split_whitespace().count(),
            choice: None,
            vote: None,
            slices: BTreeMap::new(),
        };
        Completion {
            step,
            row: self.example.row,
            index: self.index,
            prompt: self.example.prompt.clone(),
            completion: self.text.clone(),
            reference: self.example.reference.clone(),
            answer: self.example.answer.clone(),
            tokens: self.tokens,
            stop_reason: self.stop_reason,
            player: None,
            reward: score.total,
            advantage: None,
            parts: score.parts.clone(),
            eval: Some(record),
        }
    }
}

/// The fields of each row, by its position.
struct Rows(BTreeMap<usize, (Map<String, Value>, bool)>);

impl Rows {
    fn of(asked: &[Asked]) -> Self {
        Self(asked.iter().map(|asked| (asked.example.row, (asked.fields.clone(), asked.is_held_out))).collect())
    }

    /// Returns the row of the result for `answer`: the fields of its question, and over them those of the answer.
    fn answered(&self, answer: &Completion) -> Map<String, Value> {
        let (mut fields, is_held_out) = self.0.get(&answer.row).cloned().unwrap_or_default();
        let record = answer.eval.as_ref();
        let of_answer = [
            ("data_set", json!(record.map(|record| &record.data_set))),
            (QUESTION_ID, json!(record.map(|record| &record.question_id))),
            (INDEX, json!(answer.index)),
            ("prompt", json!(answer.prompt)),
            ("completion", json!(answer.completion)),
            ("tokens", json!(answer.tokens)),
            ("stop_reason", json!(answer.stop_reason)),
            (HELD_OUT, json!(is_held_out)),
        ];
        fields.extend(of_answer.map(|(name, value)| (name.to_owned(), value)));
        if !answer.parts.is_empty() {
            let values: BTreeMap<&String, Option<f64>> =
                answer.parts.iter().map(|(name, part)| (name, part.value)).collect();
            fields.insert(REWARD.to_owned(), json!(answer.reward));
            fields.insert("rewards".to_owned(), json!(values));
        }
        fields
    }
}

/// Writes the answers in the stage's events as JSON, one a line, and returns their measurements.
fn save_answers(
    context: &mut Context<'_>,
    spec: &GenerateSpec,
    rows: &Rows,
    asked: usize,
) -> StageResult<BTreeMap<String, Measurement>> {
    let log = EventLog::open(context.attempt.dir()).map_err(cache_error)?;
    let path = context.attempt.out_dir().map_err(cache_error)?.join(GenerateSpec::ANSWERS);
    let mut file = std::io::BufWriter::new(fs_err::File::create(path)?);
    let (mut count, mut words, mut rewards) = (0_usize, 0_usize, Vec::new());
    for answer in log.completions(..).map_err(cache_error)? {
        let answer = answer.map_err(cache_error)?;
        count += 1;
        words += answer.eval.as_ref().map_or(0, |record| record.words);
        rewards.extend(answer.reward);
        serde_json::to_writer(&mut file, &rows.answered(&answer)).map_err(std::io::Error::from)?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    if count == 0 {
        return Err(StageError::input("no question has an answer".to_owned()));
    }
    let value = |value: f64, count: usize| Measurement { value, interval: None, count: Some(count as u64) };
    let mut results = BTreeMap::from([
        ("generate/answers".to_owned(), value(count as f64, asked)),
        ("generate/missing".to_owned(), value((asked - count) as f64, asked)),
        ("generate/words".to_owned(), value(words as f64 / count as f64, count)),
    ]);
    if !spec.rewards.is_empty() && !rewards.is_empty() {
        let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
        results.insert("generate/reward".to_owned(), value(mean, rewards.len()));
    }
    Ok(results)
}

/// Returns the number of steps that are done. The answers of these steps are in the stage's events.
fn resume(context: &mut Context<'_>, total_steps: u64) -> StageResult<u64> {
    let point = context.attempt.latest_resume_point().map_err(cache_error)?;
    let step = point.map(|(step, _)| step);
    context.started(step, total_steps)?;
    Ok(step.unwrap_or(0))
}

fn as_count(step: u64) -> usize {
    usize::try_from(step).unwrap_or(usize::MAX)
}
