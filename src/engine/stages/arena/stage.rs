//! The loop of an arena.

use super::answers::{Answered, Cut, Questions};
use super::judges::Judges;
use super::kept::KeptAnswers;
use crate::error::{StageError, StageResult};
use crate::policy::{self, Policy};
use crate::seed;
use crate::stages::eval::QUESTIONS_PER_ROW;
use crate::stages::scoring::{SampledCompletion, expenses, or_stopped, save_completions};
use crate::stages::{Context, Outcome, cache_error, training};
use orchestrate_core::arena::{ARENA, ArenaResult, COMPARISONS, Comparison, Schedule, rate};
use orchestrate_core::event::{EventKind, Measurement, StepPart};
use orchestrate_core::recipe::spec::{ArenaSpec, PlayerModel};
use orchestrate_core::workspace::Assignment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

/// Number of last comparisons over which the missing verdicts of a judge are checked.
pub(super) const WINDOW: usize = 32;

/// The progress of an arena, which a resume point holds.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct ArenaProgress {
    /// Number of batches of questions and comparisons done.
    step: u64,
    /// Answers of each model, in the order of the questions. The last model's may be incomplete.
    answers: Vec<Vec<Answered>>,
    comparisons: Vec<Comparison>,
}

pub(in crate::stages) fn run(
    context: &mut Context<'_>,
    assignment: &Assignment,
    spec: &ArenaSpec,
) -> StageResult<Outcome> {
    if spec.players.len() < 2 {
        let message =
            format!("the arena `{}` has {} player: nothing can be compared", assignment.stage, spec.players.len());
        return Err(StageError::input(message).hinted(
            "select more variants, set `base = true`, or let seeds play against each other: `pool_seeds = false`",
        ));
    }
    let models: Vec<(String, &PlayerModel)> = labels(spec).into_iter().zip(spec.models()).collect();
    context.phase("loading the judges")?;
    let mut judges = Judges::load(context, assignment, spec)?;
    context.phase("reading the questions")?;
    let questions = Questions::read(assignment, spec)?;
    context.preflight(std::slice::from_ref(&questions.report))?;
    let schedule = Schedule::new(spec, questions.count(), seed::derive(assignment.spec.seed, &["pairs"]));
    let batch = QUESTIONS_PER_ROW * spec.batch_size;
    let total_steps = (models.len() * questions.count().div_ceil(batch) + schedule.batches()) as u64;

    let mut progress = resume(context, total_steps)?;
    for (number, (label, model)) in models.iter().enumerate() {
        if progress.answers.get(number).is_some_and(|answers| answers.len() == questions.count()) {
            continue;
        }
        let own = policy::of_player(assignment, model)?;
        let kept = KeptAnswers::of(context.attempt, &own, spec, context.device);
        let mut policy: Option<Policy<'_>> = None;
        let Cut { tokenizer, questions: asked, .. } = questions.of(model);
        progress.answers.resize_with(number + 1, Vec::new);
        while progress.answers[number].len() < asked.len() {
            let started = Instant::now();
            let done = progress.answers[number].len();
            let next = &asked[done..asked.len().min(done + batch)];
            let part = |share: f64| StepPart { step: progress.step + 1, total_steps, share, share_of_stage: None };
            let asked_model = kept.or_ask(next, || {
                if policy.is_none() {
                    context.phase(&format!("loading `{label}`"))?;
                    policy = Some(Policy::load(&own, context.device)?);
                    context.inputs.unchanged_of([&model.model.files]).map_err(crate::stages::changed)?;
                }
                let policy = policy.as_ref().expect("it was loaded above");
                super::answers::answer(context, policy, next, spec, assignment.spec.seed, part)
            })?;
            let Some((sampled, is_kept)) = asked_model else {
                return context.stop_within_step(progress.step, |dir| write(dir, &progress));
            };
            let answer = |(q, s)| SampledCompletion::new(q, 0, s, tokenizer, tokenizer.stop_ids());
            let answers: Vec<SampledCompletion<'_>> = next.iter().zip(sampled).map(answer).collect();
            let scores = judges.measure(&answers)?;
            for (answer, score) in answers.iter().zip(&scores) {
                let mut completion = answer.completion(progress.step + 1, score, None);
                completion.player = Some(label.clone());
                context.emit(&EventKind::Completion(Box::new(completion)))?;
                progress.answers[number].push(Answered::new(answer, score));
            }
            let tokens: usize = answers.iter().map(|answer| answer.sampled.ids.len()).sum();
            let speed = if is_kept {
                ("arena/kept_answers".to_owned(), answers.len() as f64)
            } else {
                ("perf/tokens_per_s".to_owned(), tokens as f64 / started.elapsed().as_secs_f64())
            };
            let is_whole = progress.answers[number].len() == asked.len();
            if end_step(context, &mut progress, total_steps, speed, is_whole)? {
                return Ok(Outcome::Stopped { step: progress.step });
            }
        }
    }
    context.phase("comparing the answers")?;
    loop {
        let next = schedule.next(&progress.comparisons);
        if next.is_empty() {
            break;
        }
        let started = Instant::now();
        let (compared, warnings) = judges.compare(&next, &questions, &progress.answers);
        for warning in warnings {
            context.emit(&EventKind::Warning(warning))?;
        }
        let Some(compared) = or_stopped(compared)? else {
            return context.stop_within_step(progress.step, |dir| write(dir, &progress));
        };
        progress.comparisons.extend(compared);
        judges.check(&progress.comparisons[progress.comparisons.len().saturating_sub(WINDOW)..], spec)?;
        let speed = next.len() as f64 / started.elapsed().as_secs_f64();
        if end_step(context, &mut progress, total_steps, ("perf/comparisons_per_s".to_owned(), speed), false)? {
            return Ok(Outcome::Stopped { step: progress.step });
        }
    }
    context.phase("rating the players")?;
    let answers: Vec<_> = progress.answers.iter().map(|answers| super::answers::counted(answers)).collect();
    let bootstrap = seed::derive(assignment.spec.seed, &["bootstrap"]);
    let result = rate(spec, &answers, &questions.named, &progress.comparisons, bootstrap);
    for note in &result.notes {
        context.emit(&EventKind::Warning(note.clone()))?;
    }
    let mut results = measurements(&result);
    save(context, spec, &questions, &progress.comparisons, &result, &results)?;
    save_completions(context)?;
    results.extend(expenses(judges.expenses()));
    Ok(Outcome::Finished(results))
}

/// Records the end of a step, with a resume point if one is due. Returns whether the stage should stop.
pub(super) fn end_step(
    context: &mut Context<'_>,
    progress: &mut ArenaProgress,
    total_steps: u64,
    speed: (String, f64),
    is_player_done: bool,
) -> StageResult<bool> {
    progress.step += 1;
    training::report(context, progress.step, total_steps, [speed])?;
    let stop = context.supervisor.should_stop();
    if progress.step < total_steps && (stop || is_player_done || context.supervisor.resume_point_due()) {
        context.write_resume_point(progress.step, |dir| write(dir, progress))?;
    }
    Ok(stop && progress.step < total_steps)
}

pub(super) fn write(dir: &Path, progress: &ArenaProgress) -> std::io::Result<()> {
    fs_err::write(dir.join("progress.json"), serde_json::to_string(progress).expect("answers and verdicts serialize"))
}

pub(super) fn resume(context: &mut Context<'_>, total_steps: u64) -> StageResult<ArenaProgress> {
    let point = context.attempt.latest_resume_point().map_err(cache_error)?;
    let progress = match &point {
        Some((_, dir)) => {
            let path = dir.join("progress.json");
            serde_json::from_str(&fs_err::read_to_string(&path)?)
                .map_err(|e| StageError::input(format!("`{}`: {e}", path.display())))?
        }
        None => ArenaProgress::default(),
    };
    context.started(point.map(|(step, _)| step), total_steps)?;
    Ok(progress)
}

/// Returns the label of each model: its player's name, with its seed if the player has several models.
pub(super) fn labels(spec: &ArenaSpec) -> Vec<String> {
    let of_player = |player: &orchestrate_core::recipe::spec::PlayerSpec| -> Vec<String> {
        let label = |model: &PlayerModel| match model.seed {
            Some(seed) if player.models.len() > 1 => format!("{} seed {seed}", player.name),
            _ => player.name.clone(),
        };
        player.models.iter().map(label).collect()
    };
    spec.players.iter().flat_map(of_player).collect()
}

/// Returns the ratings as measurements: `arena/elo/PLAYER`, `arena/win_rate/PLAYER`, and `arena/JUDGE/elo/PLAYER` if
/// there are several judges. Position bias, missing verdicts and the agreement of judges are included. Ratings and win
/// rates of slices have the slice in their name, `arena/elo/PLAYER{BY=VALUE}`.
pub(super) fn measurements(result: &ArenaResult) -> BTreeMap<String, Measurement> {
    let mut all = BTreeMap::new();
    let mut add = |name: String, value: f64, interval: Option<(f64, f64)>, count: usize| {
        all.insert(name, Measurement { value, interval, count: Some(count as u64) });
    };
    let of_slices = result.slices.iter().filter_map(|found| Some((Some(&found.slice), found.ratings.as_ref()?)));
    for (slice, ratings) in std::iter::once((None, &result.pooled)).chain(of_slices) {
        let named = |whole: String| slice.map_or_else(|| whole.clone(), |slice| slice.metric(&whole));
        for standing in &ratings.standings {
            let games = standing.record.games;
            add(named(format!("arena/elo/{}", standing.player)), standing.elo, standing.interval, games);
            if let Some(rate) = standing.win_rate {
                add(named(format!("arena/win_rate/{}", standing.player)), rate, None, games);
            }
        }
    }
    for judge in result.judges.iter().filter(|_| result.judges.len() > 1) {
        for standing in &judge.ratings.standings {
            let name = format!("arena/{}/elo/{}", judge.name, standing.player);
            add(name, standing.elo, standing.interval, standing.record.games);
        }
    }
    for judge in &result.judges {
        if let Some(bias) = &judge.position {
            add(format!("arena/{}/position_bias", judge.name), bias.share, Some((bias.low, bias.high)), bias.pairs);
        }
        let missing: usize = judge.missing.values().sum();
        if missing > 0 {
            add(format!("arena/{}/missing", judge.name), missing as f64, None, result.comparisons);
        }
    }
    if let Some((value, agreement)) = result.agreement.as_ref().and_then(|found| Some((found.value?, found))) {
        add(format!("arena/{}", agreement.measure), value, None, agreement.items);
    }
    all
}

pub(super) fn save(
    context: &mut Context<'_>,
    spec: &ArenaSpec,
    questions: &Questions,
    comparisons: &[Comparison],
    result: &ArenaResult,
    results: &BTreeMap<String, Measurement>,
) -> StageResult<()> {
    let out = context.attempt.out_dir().map_err(cache_error)?;
    let whole = serde_json::to_string_pretty(result).expect("ratings serialize");
    fs_err::write(out.join(ARENA), whole + "\n")?;
    let measured = serde_json::to_string_pretty(results).expect("measurements serialize");
    fs_err::write(out.join("metrics.json"), measured + "\n")?;
    let mut file = std::io::BufWriter::new(fs_err::File::create(out.join(COMPARISONS))?);
    for comparison in comparisons {
        for line in comparison.lines(spec, &questions.named[comparison.question]) {
            writeln!(file, "{line}")?;
        }
    }
    file.flush()?;
    Ok(())
}
