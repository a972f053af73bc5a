//! The overlap of training data with evaluation questions, for `check`, `plan` and `run`.

use super::context::Context;
use super::error::CliError;
use super::output::Output;
use crate::digest::{Digest, canonical_json};
use crate::leakage::{Index, Location, Overlap, VERSION, overlaps};
use crate::plan::{Plan, PlannedStage};
use crate::printable::harmless;
use crate::recipe::spec::{DataSpec, Evaluated, Split};
use crate::recipe::{NamedData, OverlapLimit, Problem, RecipeError};
use crate::report::filled;
use crate::workspace::{Overlaps, Workspace};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;

/// The largest size of a training set's files, in bytes, that `plan` compares. `check` compares all, and `plan` shows
/// what it found.
const MOST_BYTES: u64 = 64 << 20;

/// The pairs to compare.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All pairs.
    All,
    /// Those of small training sets, those that are known, and those with a limit.
    Quick,
    /// Those with a limit.
    Limited,
}

/// A training set and an evaluation set that a recipe uses together, with what they have in common.
pub(super) struct Pair<'a> {
    trained: &'a NamedData,
    evaluated: &'a NamedData,
    /// The labels of the variants.
    variants: BTreeSet<&'a str>,
    /// The names of the stages that train.
    stages: BTreeSet<&'a str>,
    key: Digest,
    /// Absent: not compared.
    found: Option<Overlap>,
}

/// The pairs of a plan, and the paths of their files.
pub(super) struct Pairs<'a> {
    pub(super) pairs: Vec<Pair<'a>>,
    inputs: BTreeMap<Digest, PathBuf>,
}

/// Compares every training set of `plan` with every evaluation set of the same variants. Earlier results are used
/// again. Data that cannot be read is a warning here, because the stage's own check names the row and the remedy.
pub(super) fn compared<'a>(context: &Context, plan: &'a Plan, wanted: Wanted) -> Result<Pairs<'a>, CliError> {
    let mut memo = Workspace::open(context.runs())?.overlaps();
    let mut pairs = all_pairs(plan);
    pairs.pairs.iter_mut().for_each(|pair| pair.found = memo.get(&pair.key));
    let is_small = |pair: &Pair<'_>| pairs.bytes(&pair.trained.data) <= MOST_BYTES;
    let is_wanted = |pair: &Pair<'_>| {
        pair.found.is_none()
            && match wanted {
                Wanted::All => true,
                Wanted::Quick => is_small(pair) || pair.trained.max_overlap.is_some(),
                Wanted::Limited => pair.trained.max_overlap.is_some(),
            }
    };
    let open: Vec<usize> = (0..pairs.pairs.len()).filter(|at| is_wanted(&pairs.pairs[*at])).collect();
    if let Err(message) = compare(&mut pairs, &open, &mut memo) {
        // A failed write to stderr cannot be reported.
        let _ = writeln!(std::io::stderr(), "warning: training and evaluation data were not compared: {message}");
    }
    memo.save();
    Ok(pairs)
}

/// Compares the pairs at `open`. Each training set is read once.
fn compare(pairs: &mut Pairs<'_>, open: &[usize], memo: &mut Overlaps) -> Result<(), String> {
    let mut by_training: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for &at in open {
        let NamedData { data, used, .. } = pairs.pairs[at].trained;
        by_training.entry(content(&json!([data, used]))).or_default().push(at);
    }
    let mut index: Option<(Vec<Digest>, Index)> = None;
    for of_set in by_training.into_values() {
        let sets: Vec<Evaluated> = of_set.iter().map(|at| evaluated(pairs.pairs[*at].evaluated)).collect();
        let keys: Vec<Digest> = sets.iter().map(|set| Digest::of(content(&json!(set)).as_bytes())).collect();
        if index.as_ref().is_none_or(|(known, _)| *known != keys) {
            let built = Index::of(&sets.iter().collect::<Vec<_>>(), &pairs.inputs).map_err(|e| e.message)?;
            index = Some((keys, built));
        }
        let Some((_, index)) = &index else { continue };
        let trained = pairs.pairs[of_set[0]].trained;
        let found = overlaps(index, &trained.data, trained.used, &pairs.inputs).map_err(|e| e.message)?;
        for (at, overlap) in of_set.into_iter().zip(found) {
            memo.insert(pairs.pairs[at].key.clone(), &overlap);
            pairs.pairs[at].found = Some(overlap);
        }
    }
    Ok(())
}

/// Returns the pairs of `plan`, not compared yet.
fn all_pairs(plan: &Plan) -> Pairs<'_> {
    let mut inputs = BTreeMap::new();
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    let mut known: BTreeMap<(Digest, &str, &str), usize> = BTreeMap::new();
    for variant in &plan.variants {
        let stages: Vec<&PlannedStage> = variant.stages.iter().map(|(_, at)| &plan.stages[*at]).collect();
        for stage in stages.iter().filter(|stage| !stage.data_sets.is_empty()) {
            inputs.extend(stage.inputs.iter().map(|(digest, path)| (digest.clone(), path.clone())));
        }
        // What another stage has not written yet cannot be compared.
        let named = || {
            let sets = stages.iter().flat_map(|stage| stage.data_sets.iter().map(move |set| (stage, set)));
            sets.filter(|(_, set)| !set.data.is_generated())
        };
        for (stage, trained) in named().filter(|(_, set)| set.is_trained) {
            for (_, measured) in named().filter(|(_, set)| !set.is_trained) {
                let reads = json!([VERSION, trained.data, trained.used, evaluated(measured)]);
                let key = Digest::of(content(&reads).as_bytes());
                let at = *known.entry((key.clone(), &trained.name, &measured.name)).or_insert_with(|| {
                    let (variants, stages) = (BTreeSet::new(), BTreeSet::new());
                    pairs.push(Pair { trained, evaluated: measured, variants, stages, key, found: None });
                    pairs.len() - 1
                });
                pairs[at].variants.insert(&variant.label);
                pairs[at].stages.insert(&stage.name);
            }
        }
    }
    Pairs { pairs, inputs }
}

fn evaluated(set: &NamedData) -> Evaluated {
    Evaluated { data: set.data.clone(), used: set.used }
}

fn content(value: &Value) -> String {
    canonical_json(value)
}

impl Pairs<'_> {
    fn bytes(&self, data: &DataSpec) -> u64 {
        let paths = data.files.iter().filter_map(|file| self.inputs.get(&file.id()));
        paths.filter_map(|path| fs_err::metadata(path).ok()).map(|file| file.len()).sum()
    }

    fn place(&self, context: &Context, location: &Location) -> String {
        let path = self.inputs.get(&location.file).map(|path| context.shown(path).to_string());
        format!("{}:{}", path.unwrap_or_else(|| location.file.short().to_owned()), location.place)
    }

    /// Fails if a training set has more in common with an evaluation set than its `max_overlap` allows.
    ///
    /// # Errors
    /// Every such pair.
    pub(super) fn refuse(&self, context: &Context) -> Result<(), CliError> {
        let problems: Vec<Problem> = self.pairs.iter().filter_map(|pair| self.problem(context, pair)).collect();
        if problems.is_empty() { Ok(()) } else { Err(RecipeError::of(problems).into()) }
    }

    fn problem(&self, context: &Context, pair: &Pair<'_>) -> Option<Problem> {
        let (found, limit) = (pair.found.as_ref()?, pair.trained.max_overlap.as_ref()?);
        let OverlapLimit { fraction, place } = limit;
        if pair.drops() || found.fraction() <= *fraction {
            return None;
        }
        let message = format!("{}; `max_overlap` allows {}", pair.sentence(found), percent(*fraction));
        let worst = found.worst.first().map(|worst| {
            let (question, row) = (self.place(context, &worst.question), self.place(context, &worst.row));
            format!("the worst: {question} in {row}. ")
        });
        let name = &pair.trained.name;
        let help = format!(
            "{}`decontaminate = true` in `[data.{name}]` drops the {} of {} rows; `orchestrate check` shows more",
            worst.unwrap_or_default(),
            found.overlapping_rows,
            found.rows
        );
        Some(Problem::at(place.clone(), message, "exceeded").help(help))
    }

    /// Prints the pairs that have something in common, or with `all` every pair, each with its worst examples.
    pub(super) fn print(
        &self,
        context: &Context,
        out: &mut Output,
        (all, examples): (bool, bool),
    ) -> Result<(), CliError> {
        // two uses of a data set by different stages may have the same words
        let mut said = BTreeSet::new();
        for pair in &self.pairs {
            let Some(found) = &pair.found else {
                let name = &pair.trained.name;
                out.line(format!(
                    "`{name}` is large and was not compared with `{}`; `orchestrate check` does",
                    pair.evaluated.name
                ))?;
                continue;
            };
            if (found.overlapping_questions == 0 && !all) || !said.insert(pair.sentence(found)) {
                continue;
            }
            out.line(filled(&harmless(&pair.sentence(found)), "  "))?;
            if all {
                out.line(filled(&format!("  {}", notes(found)), "  "))?;
            }
            for worst in found.worst.iter().filter(|_| examples) {
                let (question, row) = (self.place(context, &worst.question), self.place(context, &worst.row));
                let line = format!("  {question} in {row}, {} of {} runs: {}", worst.shared, worst.of, worst.passage);
                out.line(filled(&harmless(&line), "    "))?;
            }
        }
        Ok(())
    }

    /// Returns the pairs as JSON that `is_of` selects by their variants and training stages.
    pub(super) fn json(
        &self,
        context: &Context,
        is_of: impl Fn(&BTreeSet<&str>, &BTreeSet<&str>) -> bool,
    ) -> Vec<Value> {
        let pairs = self.pairs.iter().filter(|pair| is_of(&pair.variants, &pair.stages));
        pairs
            .map(|pair| {
                let mut object = json!({
                    "trained": pair.trained.name, "evaluated": pair.evaluated.name, "dropped": pair.drops(),
                    "max_overlap": pair.trained.max_overlap.as_ref().map(|limit| limit.fraction),
                });
                if let (Some(found), Some(fields)) = (&pair.found, object.as_object_mut()) {
                    let place = |location: &Location| self.place(context, location);
                    let worst = found.worst.iter().map(|worst| {
                        json!({
                            "question": place(&worst.question), "row": place(&worst.row), "shared": worst.shared,
                            "of": worst.of, "passage": worst.passage,
                        })
                    });
                    let worst = Value::Array(worst.collect());
                    let mut counts = json!(found);
                    counts["worst"] = worst;
                    counts["fraction"] = json!(found.fraction());
                    fields.extend(counts.as_object().cloned().unwrap_or_default());
                }
                object
            })
            .collect()
    }
}

impl Pair<'_> {
    /// Whether the overlapping rows are dropped.
    fn drops(&self) -> bool {
        self.trained.data.decontaminate.is_some()
    }

    fn sentence(&self, found: &Overlap) -> String {
        let Overlap { rows, overlapping_rows, questions, overlapping_questions, .. } = found;
        let dropped = if self.drops() { ", which `decontaminate` drops" } else { "" };
        let kind = if self.evaluated.data.split == Split::Dev { "development questions" } else { "questions" };
        format!(
            "{overlapping_questions} of {questions} {kind} of `{}` ({}) have eight words in a row in common with \
             {overlapping_rows} of {rows} training rows of `{}`{dropped}",
            self.evaluated.name,
            percent(found.fraction()),
            self.trained.name
        )
    }
}

fn notes(found: &Overlap) -> String {
    format!(
        "{} questions are too short to be compared; {} runs are common to many questions and do not count",
        found.short_questions, found.common_runs
    )
}

fn percent(fraction: f64) -> String {
    format!("{:.1}%", 100.0 * fraction)
}

/// Refuses a run whose training data has more in common with evaluation sets than its limits allow.
///
/// # Errors
/// As for [`Pairs::refuse`].
pub(super) fn refuse_overlap(context: &Context, plan: &Plan) -> Result<(), CliError> {
    let has_limit = |stage: &PlannedStage| stage.data_sets.iter().any(|set| set.max_overlap.is_some());
    if !plan.stages.iter().any(has_limit) {
        return Ok(());
    }
    compared(context, plan, Wanted::Limited)?.refuse(context)
}

/// Returns whether any of `labels` is of the recipe `name`.
pub(super) fn is_of_recipe(labels: &BTreeSet<&str>, name: &str) -> bool {
    labels.iter().any(|label| label.split_once('/').is_some_and(|(recipe, _)| recipe == name))
}
