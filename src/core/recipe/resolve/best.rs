//! `at = "best"` of an evaluation: the metric by which it chooses a snapshot.

use crate::metric::{ACCURACY, Direction, TOTAL, short_name};
use crate::recipe::CompareSettings;
use crate::recipe::resolve::resolved::{ResolvedStage, ResolvedVariant};
use crate::recipe::resolve::resolver::Resolver;
use crate::recipe::resolve::snapshots;
use crate::recipe::spec::{BestSpec, EvalSpec, RewardSpec, Split, Work};
use crate::recipe::sweep::variant::Variant;
use crate::recipe::tables::stage::EvalTable;
use crate::recipe::text::diagnostic::{Place, Problem, Problems};
use crate::recipe::text::located::KeyPath;
use crate::suggestion::did_you_mean;
use std::collections::BTreeMap;

/// The places of `best_by` in a variant, or of `at` without it, by stage.
pub(in crate::recipe) type Choosing = BTreeMap<String, Place>;

impl Resolver<'_> {
    /// Returns the choice of the evaluation of `table`, whose metric [`complete`] checks once all of its components are
    /// known.
    pub(in crate::recipe) fn best(&mut self, key: &KeyPath, table: &EvalTable, split: Split) -> Option<BestSpec> {
        if table.candidates.is_empty() {
            if table.best_by.is_some() && !snapshots::chooses(table) {
                self.no_effect(&key.key("best_by"), "at = \"best\"");
            }
            return None;
        }
        if split != Split::Eval {
            let message = format!(
                "`{key}` would measure the snapshot on the rows by which it is chosen: it reads the split `{}`",
                split.word()
            );
            let help = format!("set `split = \"eval\"`, and `eval_fraction` in `[data.{}]`", table.data);
            self.problem(&key.key("at"), message, "needs rows apart from those", help);
        }
        Some(BestSpec {
            metric: table.best_by.clone().unwrap_or_default(),
            direction: Direction::Higher,
            steps: table.candidates.iter().map(|candidate| candidate.step).collect(),
        })
    }
}

/// Returns the stages of a variant that choose a snapshot, each with the place of the key that says how.
pub(in crate::recipe) fn choosing(variant: &Variant<'_>, stages: &[ResolvedStage]) -> Choosing {
    let place = |stage: &ResolvedStage| {
        let best = best_of(stage)?;
        let key = if best.metric.is_empty() { "at" } else { "best_by" };
        let place = variant.value_place(&KeyPath::dotted("stages").key(&stage.name).key(key));
        Some((stage.name.clone(), place))
    };
    stages.iter().filter_map(place).collect()
}

fn best_of(stage: &ResolvedStage) -> Option<&BestSpec> {
    match &stage.spec.work {
        Work::Eval(eval) => eval.best.as_ref(),
        _ => None,
    }
}

/// Completes the choices of `variants`: the metric and its direction. `choosing` has the places of each variant.
pub(in crate::recipe) fn complete(
    choosing: &[Choosing],
    compare: &CompareSettings,
    variants: &mut [ResolvedVariant],
    problems: &mut Problems,
) {
    for (variant, choosing) in variants.iter_mut().zip(choosing) {
        for stage in &mut variant.stages {
            let Work::Eval(eval) = &mut stage.spec.work else { continue };
            let known = metrics(eval);
            let (Some(best), Some(place)) = (&mut eval.best, choosing.get(&stage.name)) else { continue };
            let named = |wanted: &str| known.iter().find(|name| *name == wanted || short_name(name) == wanted);
            let found = if best.metric.is_empty() {
                compare.metric.as_deref().and_then(named).or_else(|| named(ACCURACY))
            } else {
                named(&best.metric)
            };
            let Some((metric, direction)) = found.and_then(|name| Some((name.clone(), Direction::of(name)?))) else {
                let names: Vec<&str> = known.iter().map(|name| short_name(name)).collect();
                problems.push(unknown(place, &best.metric, &names));
                continue;
            };
            (best.metric, best.direction) = (metric, direction);
        }
    }
}

fn unknown(place: &Place, written: &str, names: &[&str]) -> Problem {
    if written.is_empty() {
        let message = "nothing says by which metric the best snapshot is chosen".to_owned();
        let help = format!("set `best_by` to one of {}", names.join(", "));
        return Problem::at(place.clone(), message, "by which metric?").help(help);
    }
    let message = format!("the stage does not measure `{written}` on development rows");
    Problem::at(place.clone(), message, "not measured").help(did_you_mean(written, "metrics", names))
}

/// Returns the metrics that `eval` measures on development rows and whose direction is known.
fn metrics(eval: &EvalSpec) -> Vec<String> {
    let mut found = Vec::new();
    if eval.rewards.contains_key(EvalSpec::CORRECTNESS) {
        found.push(ACCURACY.to_owned());
        found.extend(eval.pass_at.iter().map(|k| format!("eval/pass_at_{k}")));
        found.extend(eval.maj_at.iter().map(|k| format!("eval/maj_at_{k}")));
    }
    if eval.options.is_some() {
        found.extend(["eval/loglikelihood_accuracy", "eval/loglikelihood_accuracy_norm"].map(str::to_owned));
    }
    if eval.rewards.contains_key(EvalSpec::FORMAT_VALID) {
        found.push("eval/format_valid".to_owned());
    }
    if eval.rewards.values().any(RewardSpec::counts) {
        found.push(TOTAL.to_owned());
    }
    let own = |name: &&String| ![EvalSpec::CORRECTNESS, EvalSpec::FORMAT_VALID].contains(&name.as_str());
    found.extend(eval.rewards.keys().filter(own).map(|name| format!("eval/reward/{name}")));
    if eval.data.templates.completion.is_some() || eval.data.messages.is_some() {
        found.push("eval/perplexity".to_owned());
    }
    found.push("eval/truncated_frac".to_owned());
    found
}
