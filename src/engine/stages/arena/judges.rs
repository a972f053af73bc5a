//! The judges of an arena.

use super::super::Context;
use super::super::scoring::{SampledCompletion, judge_access, load_reward_mix, unrated};
use super::answers::{Answered, Questions};
use crate::error::{StageError, StageResult};
use orchestrate_core::arena::{Comparison, ComparisonVerdict, Match};
use orchestrate_core::event::FailureClass;
use orchestrate_core::recipe::spec::{
    ArenaJudge, ArenaSpec, CompareWith, JudgeSampling, RewardSpec, Scope, SemanticSpec,
};
use orchestrate_core::rewards::{Expenses, Pair, PairJudges, PairVerdict, RewardMix, RewardScore, Sample, span};
use orchestrate_core::workspace::Assignment;
use std::borrow::Cow;
use std::collections::BTreeMap;

pub(super) struct Judges {
    tables: Vec<Table>,
}

/// A table in the recipe's `judges`.
struct Table {
    name: String,
    scope: Scope,
    asking: Asking,
}

enum Asking {
    /// An encoder, as the only component of a reward mix.
    Similarity { reward_mix: RewardMix, compare_with: CompareWith, tie_margin: f64 },
    /// Language models that compare pairs of texts.
    Models(Box<PairJudges>),
}

impl Judges {
    pub(super) fn load(context: &Context<'_>, assignment: &Assignment, spec: &ArenaSpec) -> StageResult<Self> {
        let (cache, ledgers) = (context.attempt.judge_cache_dir(), context.attempt.dir());
        let asked: Vec<(&str, JudgeSampling, &[String])> = spec
            .judges
            .values()
            .filter_map(|judge| match judge {
                ArenaJudge::Models { judges, prompt, sampling, .. } => Some((prompt.as_str(), *sampling, &judges[..])),
                ArenaJudge::Similarity { .. } => None,
            })
            .collect();
        let stop = context.supervisor.stop_check();
        let access = judge_access(assignment, &cache, ledgers, &stop);
        let models = PairJudges::sharing(&asked, access)
            .map_err(|error| StageError::input(format!("the arena's judges cannot be asked: {error}")))?;
        let mut models = models.into_iter();
        let mut tables = Vec::new();
        for (name, judge) in &spec.judges {
            let (scope, asking) = match judge {
                ArenaJudge::Similarity { encoder, dtype, prompt, scope, compare_with, tie_margin } => {
                    let component = SemanticSpec {
                        encoder: encoder.clone(),
                        dtype: *dtype,
                        baseline: None,
                        prompt: prompt.clone(),
                        references: None,
                        window_sentences: None,
                    };
                    let mix = BTreeMap::from([(name.clone(), RewardSpec::plain(1.0, scope.clone(), component.into()))]);
                    let reward_mix = load_reward_mix(assignment, &mix, context.device, access)?;
                    (scope, Asking::Similarity { reward_mix, compare_with: *compare_with, tie_margin: *tie_margin })
                }
                ArenaJudge::Models { scope, .. } => {
                    (scope, Asking::Models(Box::new(models.next().expect("one for each table of models"))))
                }
            };
            tables.push(Table { name: name.clone(), scope: scope.clone(), asking });
        }
        Ok(Self { tables })
    }

    /// Computes the similarity of each answer by every encoder, as parts of its score with weight 0. All answers of a
    /// call are embedded together, so the same answers must be passed on every run of the stage.
    pub(super) fn measure(&mut self, answers: &[SampledCompletion<'_>]) -> StageResult<Vec<RewardScore>> {
        let mut scores: Vec<RewardScore> =
            answers.iter().map(|_| RewardScore { total: None, parts: BTreeMap::new() }).collect();
        for table in &mut self.tables {
            let Asking::Similarity { reward_mix, compare_with, .. } = &mut table.asking else { continue };
            let sample = |answer| {
                let sample: Sample<'_> = SampledCompletion::sample(answer);
                match compare_with {
                    CompareWith::Reference => sample,
                    CompareWith::Prompt => Sample { reference: Some(sample.prompt), ..sample },
                }
            };
            let samples: Vec<Sample<'_>> = answers.iter().map(sample).collect();
            for (score, own) in scores.iter_mut().zip(reward_mix.score(&samples).map_err(unrated)?) {
                for (name, mut part) in own.parts {
                    part.weight = 0.0;
                    score.parts.insert(name, part);
                }
            }
        }
        Ok(scores)
    }

    /// Returns the verdicts of all judges on `matches`, given the `answers` of each model, and warnings for the user.
    pub(super) fn compare(
        &mut self,
        matches: &[Match],
        questions: &Questions,
        answers: &[Vec<Answered>],
    ) -> (StageResult<Vec<Comparison>>, Vec<String>) {
        let mut warnings = Vec::new();
        let compared = self.verdicts(matches, questions, answers, &mut warnings).map(|verdicts| {
            let comparison = |(played, verdicts): (&Match, Vec<ComparisonVerdict>)| {
                let Match { question, a, b } = *played;
                Comparison { question, a, b, verdicts }
            };
            matches.iter().zip(verdicts).map(comparison).collect()
        });
        (compared, warnings)
    }

    fn verdicts(
        &mut self,
        matches: &[Match],
        questions: &Questions,
        answers: &[Vec<Answered>],
        warnings: &mut Vec<String>,
    ) -> StageResult<Vec<Vec<ComparisonVerdict>>> {
        let mut verdicts: Vec<Vec<ComparisonVerdict>> = vec![Vec::new(); matches.len()];
        let mut encoders = 0;
        for Table { scope, asking, .. } in &mut self.tables {
            let text = |model: usize, question: usize| -> Cow<'_, str> {
                span(&answers[model][question].text, scope).unwrap_or_default()
            };
            let texts: Vec<(Cow<'_, str>, Cow<'_, str>)> =
                matches.iter().map(|m| (text(m.a, m.question), text(m.b, m.question))).collect();
            let pairs: Vec<Pair<'_>> = matches
                .iter()
                .zip(&texts)
                .map(|(played, (a, b))| {
                    let example = questions.example(played.question);
                    let (reference, answer) = (example.reference.as_deref(), example.answer.as_deref());
                    Pair { prompt: &example.prompt, a, b, reference, answer }
                })
                .collect();
            match asking {
                Asking::Similarity { tie_margin, .. } => {
                    for ((played, pair), verdicts) in matches.iter().zip(&pairs).zip(&mut verdicts) {
                        let measure = |model: usize| &answers[model][played.question].measures[encoders];
                        verdicts.push(match pair.trivial() {
                            Some(win) => ComparisonVerdict::read(&PairVerdict::Trivial(win)),
                            None => ComparisonVerdict::scored(measure(played.a), measure(played.b), *tie_margin),
                        });
                    }
                    encoders += 1;
                }
                Asking::Models(judges) => {
                    let said = judges.compare(&pairs).map_err(unrated);
                    warnings.extend(judges.warnings());
                    for (verdicts, of_pair) in verdicts.iter_mut().zip(said?) {
                        verdicts.extend(of_pair.iter().map(ComparisonVerdict::read));
                    }
                }
            }
        }
        Ok(verdicts)
    }

    /// Returns an error if a judge lacks a verdict on more than the recipe's fraction of `comparisons`, which would
    /// make the rest unrepresentative.
    pub(super) fn check(&self, comparisons: &[Comparison], spec: &ArenaSpec) -> StageResult<()> {
        for (judge, name) in spec.judge_names().into_iter().enumerate() {
            let missing = |comparison: &Comparison| match &comparison.verdicts[judge] {
                ComparisonVerdict::Missing(reason) => Some(reason.clone()),
                _ => None,
            };
            let reasons: Vec<String> = comparisons.iter().filter_map(missing).collect();
            let (count, all) = (reasons.len(), comparisons.len());
            if count as f64 <= spec.max_missing_fraction * all as f64 {
                continue;
            }
            let is_encoder =
                self.tables.iter().any(|table| table.name == name && matches!(table.asking, Asking::Similarity { .. }));
            let last = reasons.last().map(String::as_str).unwrap_or_default();
            return Err(StageError {
                class: if is_encoder { FailureClass::Input } else { FailureClass::JudgeUnavailable },
                message: format!("the judge `{name}` has no verdict on {count} of the last {all} comparisons: {last}"),
                hint: Some(
                    "`max_missing_fraction` sets the share that may be missing; fix the cause, then run `orchestrate \
                     resume`"
                        .to_owned(),
                ),
            });
        }
        Ok(())
    }

    /// Returns the expenses of the language models, by name.
    pub(super) fn expenses(&self) -> BTreeMap<String, Expenses> {
        let of_table = |table: &Table| match &table.asking {
            Asking::Models(judges) => judges.expenses(),
            Asking::Similarity { .. } => BTreeMap::new(),
        };
        self.tables.iter().flat_map(of_table).collect()
    }
}
