//! Gathers [`Evidence`] from the files of past runs.

use crate::digest::Digest;
use crate::event::{Completion, Measurement};
use crate::evidence::{
    Arm, Curves, Evidence, MissingTrial, MixPart, Problem, ProblemKind, Question, QuestionCompletions, Score,
    SourceRun, Trial, scores_of,
};
use crate::history::arm_names::{ArmNames, without_seed};
use crate::history::checkpoints::{checkpoint_dir, results};
use crate::history::fingerprints::Fingerprints;
use crate::history::past_runs::PastRun;
use crate::history::run_log::{LoggedPlan, LoggedVariant};
use crate::history::stage_rows::stage_metrics;
use crate::metric::CHOSEN_STEP;
use crate::run_event::StageProgress;
use crate::stage::{StageKind, StageStatus, snapshot_of};
use crate::workspace::{EventLog, Workspace, WorkspaceError};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Gathers the measurements of `runs`, arm by arm.
///
/// Results are taken from the cache, whichever run made them. An absent result becomes a [`MissingTrial`] or a
/// [`Problem`].
///
/// # Errors
/// The plan of a run cannot be read.
pub fn gather_evidence(workspace: &Workspace, runs: &[&PastRun]) -> Result<Evidence, WorkspaceError> {
    gather(workspace, runs, true)
}

/// Gathers the same as [`gather_evidence`], without the metrics of training steps, which may be long.
///
/// # Errors
/// The plan of a run cannot be read.
pub fn gather_answers(workspace: &Workspace, runs: &[&PastRun]) -> Result<Evidence, WorkspaceError> {
    gather(workspace, runs, false)
}

/// Returns the reward components, with their weights, that each variant of `plan` is trained on.
pub fn reward_mixes(workspace: &Workspace, plan: &LoggedPlan) -> Vec<BTreeMap<String, f64>> {
    let mut fingerprints = Fingerprints::new(workspace);
    plan.variants.iter().map(|variant| fingerprints.rewards(variant.stages.values())).collect()
}

fn gather(workspace: &Workspace, runs: &[&PastRun], with_training: bool) -> Result<Evidence, WorkspaceError> {
    let mut gathering = Gathering { workspace, evidence: Evidence::default(), by_id: HashMap::new() };
    let mut fingerprints = Fingerprints::new(workspace);
    let mut names = ArmNames::default();
    // Arm, stage and key of the trials so far.
    let mut met: HashSet<(usize, String, Digest)> = HashSet::new();
    for past in runs {
        let plan = LoggedPlan::load(&past.log_dir)?;
        let mut recipes: Vec<String> = plan.variants.iter().map(|variant| variant.recipe.clone()).collect();
        recipes.dedup();
        gathering.evidence.runs.push(SourceRun { run: past.run.clone(), status: past.status, recipes });
        for settings in plan.compare.values() {
            // The newest run with settings decides.
            gathering.evidence.settings = settings.clone();
        }
        if past.invocation.seed_search.as_ref().is_some_and(|round| round.round > 1) {
            let message = format!(
                "run {} chose its seeds by their results (`--until-separable`), and p here is that of a single look; \
                 the verdicts of that search account for all of them",
                past.run
            );
            gathering.evidence.problems.push(Problem::new(ProblemKind::AdaptiveSeeds, message));
        }
        let reasons = reasons(past)?;
        let places: Places<'_> =
            plan.stages.iter().enumerate().map(|(place, stage)| (&stage.key, (place, stage.kind))).collect();
        for variant in &plan.variants {
            let stages = measuring(&places, variant);
            let prints: Vec<(String, u64, Digest, Digest)> = stages
                .iter()
                .map(|(name, _, key)| {
                    let seed = without_seed(&variant.name).1.unwrap_or_else(|| fingerprints.seed(key));
                    // Within one run an arm's name has one meaning, so fingerprints are not needed.
                    let print = if runs.len() > 1 { fingerprints.of(key) } else { (*key).clone() };
                    ((*name).to_owned(), seed, (*key).clone(), print)
                })
                .collect();
            let position = names.arm(&past.run, variant, &prints);
            if position == gathering.evidence.arms.len() {
                let arm = Arm { recipe: variant.recipe.clone(), ..Arm::default() };
                gathering.evidence.arms.push(arm);
            }
            for ((name, kind, key), (_, seed, _, _)) in stages.iter().zip(&prints) {
                if !met.insert((position, (*name).to_owned(), (*key).clone())) {
                    continue;
                }
                let mix = fingerprints.mix(key);
                let place = Place { run: &past.run, variant, stage: name, kind: *kind, seed: *seed, key, mix };
                for (component, (low, high)) in fingerprints.ranges(key) {
                    let known =
                        gathering.evidence.ranges.entry(format!("eval/reward/{component}")).or_insert((low, high));
                    *known = (known.0.min(low), known.1.max(high));
                }
                gathering.add(position, &place, reasons.get(*key).map(String::as_str))?;
                gathering.add_last_snapshot(position, &place)?;
            }
            let trained_on = fingerprints.rewards(stages.iter().map(|(_, _, key)| *key));
            let controls = fingerprints.controls(stages.iter().map(|(_, _, key)| *key));
            let arm = &mut gathering.evidence.arms[position];
            arm.trained_on.extend(trained_on);
            arm.controls.extend(controls);
            for name in stages.iter().flat_map(|(_, _, key)| fingerprints.labelled_rewards(key)) {
                let weight = name.split('@').next().and_then(|component| arm.trained_on.get(component));
                let weight = weight.copied().unwrap_or(1.0);
                arm.trained_on.entry(name).or_insert(weight);
            }
            if with_training {
                gathering.add_held_out_curves(position, variant, &places, |key| fingerprints.seed(key))?;
            }
            for (name, key) in variant.stages.iter().filter(|(name, _)| snapshot_of(name).is_none()) {
                let kind = places.get(key).map(|(_, kind)| *kind);
                if let Some(kind) = kind.filter(|kind| with_training && kind.is_training()) {
                    let seed = fingerprints.seed(key);
                    gathering.add_curves(position, name, kind, key, seed);
                }
            }
        }
    }
    let mut evidence = gathering.evidence;
    let found = names.finish(&mut evidence);
    evidence.problems.extend(found);
    for arm in &mut evidence.arms {
        // An earlier run's failure is not a gap if a later run has the result.
        let trials = &arm.trials;
        arm.missing.retain(|gap| !trials.iter().any(|trial| trial.stage == gap.stage && Some(trial.seed) == gap.seed));
    }
    evidence.report_gaps();
    evidence.add_common_score();
    Ok(evidence)
}

/// The position in the plan, and the kind, of each stage by its key.
type Places<'a> = HashMap<&'a Digest, (usize, StageKind)>;

/// Returns the name, kind and key of the stages of `variant` that measure, parents first.
fn measuring<'a>(places: &Places<'_>, variant: &'a LoggedVariant) -> Vec<(&'a str, StageKind, &'a Digest)> {
    let placed = |(name, key): (&'a String, &'a Digest)| {
        let (place, kind) = *places.get(key)?;
        (kind.measures() && snapshot_of(name).is_none()).then_some((place, (name.as_str(), kind, key)))
    };
    let mut found: Vec<_> = variant.stages.iter().filter_map(placed).collect();
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().map(|(_, stage)| stage).collect()
}

/// Returns the reasons why stages of a run have no result, by their keys.
fn reasons(past: &PastRun) -> Result<HashMap<Digest, String>, WorkspaceError> {
    let reason = |progress: StageProgress| match (progress.status, progress.message) {
        (StageStatus::Pending, _) => None,
        (StageStatus::Running, _) => Some("still running".to_owned()),
        (StageStatus::Cached | StageStatus::Ok, _) => Some("its result is gone from the cache".to_owned()),
        (status, Some(message)) => Some(format!("{status}: {message}")),
        (status, None) => Some(status.to_string()),
    };
    let progress = past.stage_progress()?;
    Ok(progress.into_iter().filter_map(|(key, progress)| Some((key, reason(progress)?))).collect())
}

/// The scores of answers, by metric.
type Scores = BTreeMap<String, Vec<Score>>;

/// The origin of a trial.
struct Place<'a> {
    run: &'a str,
    variant: &'a LoggedVariant,
    stage: &'a str,
    kind: StageKind,
    seed: u64,
    key: &'a Digest,
    mix: BTreeMap<String, MixPart>,
}

/// The contents of a stage's record.
#[derive(Default)]
struct Found {
    measurements: BTreeMap<String, Measurement>,
    answers: Vec<QuestionCompletions>,
    scores: Scores,
}

struct Gathering<'a> {
    workspace: &'a Workspace,
    evidence: Evidence,
    /// Positions of questions by their ids.
    by_id: HashMap<String, usize>,
}

impl Gathering<'_> {
    /// Adds the trial, or a [`MissingTrial`] without a result.
    fn add(&mut self, arm: usize, place: &Place<'_>, reason: Option<&str>) -> Result<(), WorkspaceError> {
        let Place { run, variant, stage, kind, seed, key, ref mix } = *place;
        if !checkpoint_dir(self.workspace, key).is_dir() {
            self.evidence.arms[arm].missing.push(MissingTrial {
                seed: Some(seed),
                run: run.to_owned(),
                variant: variant.label.clone(),
                stage: stage.to_owned(),
                reason: reason.unwrap_or("not run yet").to_owned(),
            });
            return Ok(());
        }
        let Found { measurements, answers, scores } = match self.read(key) {
            Ok(found) => found,
            Err(error) => {
                let message = format!("the answers of {} (stage `{stage}`) cannot be read: {error}", variant.label);
                self.evidence.problems.push(Problem::new(ProblemKind::Unreadable, message));
                Found { measurements: results(self.workspace, key)?, ..Found::default() }
            }
        };
        if measurements.is_empty() && answers.is_empty() {
            return Ok(()); // a program that measures nothing
        }
        self.evidence.arms[arm].trials.push(Trial {
            seed,
            run: run.to_owned(),
            variant: variant.label.clone(),
            stage: stage.to_owned(),
            kind,
            evaluation: stage.to_owned(),
            key: key.clone(),
            answers,
            scores,
            mix: mix.clone(),
            measurements,
        });
        Ok(())
    }

    /// Adds the evaluation of the last snapshot where the evaluation at `place` chose among several.
    fn add_last_snapshot(&mut self, arm: usize, place: &Place<'_>) -> Result<(), WorkspaceError> {
        let chose = |trial: &&Trial| trial.key == *place.key && trial.measurements.contains_key(CHOSEN_STEP);
        let Some(trial) = self.evidence.arms[arm].trials.last().filter(chose).cloned() else { return Ok(()) };
        let of_last = |(name, key): (&String, &Digest)| {
            let (evaluation, step) = snapshot_of(name)?;
            (evaluation == place.stage).then(|| (step, key.clone()))
        };
        let Some((_, key)) = place.variant.stages.iter().filter_map(of_last).max() else { return Ok(()) };
        if checkpoint_dir(self.workspace, &key).is_dir() {
            let Found { measurements, answers, scores } = self.read(&key)?;
            self.evidence.arms[arm].last.push(Trial { key, answers, scores, measurements, ..trial });
        }
        Ok(())
    }

    /// Returns the measurements of the stage with this key, its answers, and their scores by metric.
    fn read(&mut self, key: &Digest) -> Result<Found, WorkspaceError> {
        let log = EventLog::open(&checkpoint_dir(self.workspace, key))?;
        let measurements = log.results().clone();
        let pass_at = estimated(&measurements, "eval/pass_at_");
        let maj_at = estimated(&measurements, "eval/maj_at_");
        let mut by_row: BTreeMap<usize, Vec<Completion>> = BTreeMap::new();
        for completion in log.completions(..)? {
            let completion = completion?;
            by_row.entry(completion.row).or_default().push(completion);
        }
        let mut asked: HashMap<String, usize> = HashMap::new();
        let mut answers = Vec::new();
        let mut scores = Scores::new();
        for (position, completions) in by_row.into_values().enumerate() {
            for (metric, score) in scores_of(&completions, &pass_at, &maj_at) {
                let column = scores.entry(metric).or_default();
                column.resize_with(position, || Score::missing("not measured on this question"));
                column.push(score);
            }
            let question = self.question(&completions[0], &mut asked);
            let completions = completions.into_iter().map(|completion| completion.completion).collect();
            answers.push(QuestionCompletions { question, completions });
        }
        for column in scores.values_mut() {
            column.resize_with(answers.len(), || Score::missing("not measured on this question"));
        }
        Ok(Found { measurements, answers, scores })
    }

    /// Returns the position of the question that `completion` answers. `asked` counts equal questions within the
    /// stage.
    fn question(&mut self, completion: &Completion, asked: &mut HashMap<String, usize>) -> usize {
        let Completion { prompt, reference, answer, eval, .. } = completion;
        let id = eval.as_ref().map_or_else(
            || {
                let content = serde_json::to_vec(&(prompt, reference, answer)).expect("texts serialize");
                let id = Digest::of(&content).as_str()[..16].to_owned();
                let times = asked.entry(id.clone()).or_default();
                *times += 1;
                if *times > 1 { format!("{id}#{times}") } else { id }
            },
            |eval| eval.question_id.clone(),
        );
        let position = *self.by_id.entry(id.clone()).or_insert_with(|| {
            self.evidence.questions.push(Question {
                id,
                data_set: eval.as_ref().map(|eval| eval.data_set.clone()).unwrap_or_default(),
                out_of_domain: eval.as_ref().is_some_and(|eval| eval.out_of_domain),
                row: completion.row,
                prompt: prompt.clone(),
                reference: reference.clone(),
                answer: answer.clone(),
                slices: BTreeMap::new(),
            });
            self.evidence.questions.len() - 1
        });
        if let Some(eval) = eval {
            self.evidence.questions[position].slices.extend(eval.slices.clone());
        }
        position
    }

    /// Adds the curve of each evaluation of `variant` that measures snapshots: its metrics over the steps of training.
    fn add_held_out_curves(
        &mut self,
        arm: usize,
        variant: &LoggedVariant,
        places: &Places<'_>,
        mut seed: impl FnMut(&Digest) -> u64,
    ) -> Result<(), WorkspaceError> {
        let mut found: BTreeMap<&str, BTreeMap<u64, &Digest>> = BTreeMap::new();
        for (name, key) in &variant.stages {
            let is_eval = places.get(key).is_some_and(|(_, kind)| *kind == StageKind::Eval);
            if let Some((evaluation, step)) = snapshot_of(name).filter(|_| is_eval) {
                found.entry(evaluation).or_default().insert(step, key);
            }
        }
        for (evaluation, steps) in found {
            let mut series: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
            for (step, key) in &steps {
                if !checkpoint_dir(self.workspace, key).is_dir() {
                    continue;
                }
                for (metric, measured) in results(self.workspace, key)? {
                    series.entry(metric).or_default().push((*step, measured.value));
                }
            }
            // one evaluation alone is no line over steps
            let Some((_, last)) = steps.last_key_value().filter(|_| steps.len() > 1 && !series.is_empty()) else {
                continue;
            };
            let arm = arm.to_string();
            if let Some(known) =
                self.evidence.training.iter_mut().find(|curves| curves.key == **last && curves.stage == evaluation)
            {
                if !known.arms.contains(&arm) {
                    known.arms.push(arm);
                }
                continue;
            }
            self.evidence.training.push(Curves {
                arms: vec![arm],
                seed: seed(last),
                stage: evaluation.to_owned(),
                kind: StageKind::Eval,
                key: (*last).clone(),
                series,
            });
        }
        Ok(())
    }

    /// Adds the training curves of a stage. Curves that cannot be read are a problem; a stage without curves is none.
    fn add_curves(&mut self, arm: usize, stage: &str, kind: StageKind, key: &Digest, seed: u64) {
        // Arms get their names at the end.
        let arm = arm.to_string();
        if let Some(known) = self.evidence.training.iter_mut().find(|curves| curves.key == *key) {
            if !known.arms.contains(&arm) {
                known.arms.push(arm);
            }
            return;
        }
        match stage_metrics(self.workspace, key) {
            Ok(series) if series.is_empty() => {}
            Ok(series) => self.evidence.training.push(Curves {
                arms: vec![arm],
                seed,
                stage: stage.to_owned(),
                kind,
                key: key.clone(),
                series,
            }),
            Err(error) => {
                let message = format!("the curves of the stage `{stage}` cannot be read: {error}");
                self.evidence.problems.push(Problem::new(ProblemKind::Unreadable, message));
            }
        }
    }
}

/// Returns each k for which an evaluation estimated a metric whose name begins with `prefix`, such as pass@k.
fn estimated(measurements: &BTreeMap<String, Measurement>, prefix: &str) -> Vec<usize> {
    measurements.keys().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect()
}
