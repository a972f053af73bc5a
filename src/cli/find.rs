//! Finds runs and stages by the user's arguments.

use super::context::Context;
use super::error::{CliError, Kind};
use super::plan::count;
use crate::history::{LogDamage, LoggedPlan, LoggedStage, PastRun, PastRuns};
use crate::recipe::VariantPattern;
use crate::suggestion::did_you_mean;
use std::collections::BTreeSet;
use std::io::Write as _;

/// Returns the past runs, newest first. Reports unreadable logs on stderr.
///
/// # Errors
/// Every log is damaged.
pub(super) fn past_runs(context: &Context) -> Result<Vec<PastRun>, CliError> {
    let PastRuns { runs, damage } = PastRuns::all(context.runs())?;
    if let ([], [damage, ..]) = (&runs[..], &damage[..]) {
        return Err(damage.clone().into());
    }
    for damage in &damage {
        warn_of(damage);
    }
    for past in runs.iter().filter(|past| past.unreadable_lines > 0) {
        let path = past.log_dir.join("run.jsonl");
        let _ = writeln!(
            std::io::stderr(),
            "warning: {} of `{}` cannot be read and are left out",
            count(past.unreadable_lines, "line"),
            path.display()
        );
    }
    Ok(runs)
}

/// Reports that a damaged log is left out.
pub(super) fn warn_of(damage: &LogDamage) {
    // A failed write to stderr cannot be reported.
    let _ = writeln!(std::io::stderr(), "warning: a run is left out: {damage}\nhint: {}", damage.hint());
}

/// Returns the run called `wanted`: `latest`, an id, or a unique beginning or end of one.
pub(super) fn find_run<'a>(runs: &'a [PastRun], wanted: &str) -> Result<&'a PastRun, CliError> {
    if runs.is_empty() {
        return Err(CliError::nothing("nothing has been run here yet").hint("`orchestrate run RECIPE` runs a recipe"));
    }
    if wanted == "latest" {
        return Ok(&runs[0]);
    }
    let wanted = wanted.to_ascii_uppercase();
    let found: Vec<&PastRun> =
        runs.iter().filter(|past| past.run.starts_with(&wanted) || past.run.ends_with(&wanted)).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(CliError::nothing(format!("no run is called `{wanted}`"))
            .hint("`orchestrate history` lists the runs; `latest` is the newest")),
        several => {
            let ids: Vec<&str> = several.iter().take(5).map(|past| past.run.as_str()).collect();
            Err(CliError::new(Kind::Usage, format!("`{wanted}` matches {} runs", several.len()))
                .hint(format!("type more characters of it: {}", ids.join(", "))))
        }
    }
}

/// Returns the runs called `wanted`, each once, in the order of the arguments.
pub(super) fn find_runs<'a>(runs: &'a [PastRun], wanted: &[String]) -> Result<Vec<&'a PastRun>, CliError> {
    let mut found: Vec<&PastRun> = Vec::new();
    for wanted in wanted {
        let past = find_run(runs, wanted)?;
        if !found.iter().any(|known| known.run == past.run) {
            found.push(past);
        }
    }
    Ok(found)
}

/// Returns the stages of a run that are called `name` and belong to a variant that one of `patterns` matches. Without
/// a name, any stage matches; without patterns, any variant.
pub(super) fn find_stages<'a>(
    plan: &'a LoggedPlan,
    name: Option<&str>,
    patterns: &[String],
) -> Result<Vec<&'a LoggedStage>, CliError> {
    let mut found = match name {
        None => plan.stages.iter().collect(),
        Some(name) => plan.stages_named(name),
    };
    if let (Some(name), true) = (name, found.is_empty()) {
        let mut known: Vec<&str> = plan.stages.iter().map(|stage| stage.stage.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        return Err(
            CliError::nothing(format!("the run has no stage `{name}`")).hint(did_you_mean(name, "stages", &known))
        );
    }
    if patterns.is_empty() {
        return Ok(found);
    }
    let labels = matching_labels(plan, patterns)?;
    found.retain(|stage| stage.variants.iter().any(|label| labels.contains(label)));
    Ok(found)
}

/// Returns the labels of the variants that one of `patterns` matches.
fn matching_labels(plan: &LoggedPlan, patterns: &[String]) -> Result<BTreeSet<String>, CliError> {
    let mut labels = BTreeSet::new();
    for text in patterns {
        let pattern = VariantFilter::new(text)?;
        let before = labels.len();
        let matching = plan.variants.iter().filter(|variant| pattern.matches(&variant.recipe, &variant.name));
        labels.extend(matching.map(|variant| variant.label.clone()));
        if labels.len() == before {
            return Err(pattern.matches_none(plan.variants.iter().map(|variant| variant.name.as_str())));
        }
    }
    Ok(labels)
}

/// The argument of `--variant`.
pub(super) struct VariantFilter<'t> {
    text: &'t str,
    pattern: VariantPattern,
}

impl<'t> VariantFilter<'t> {
    /// The maximum number of variants in a message.
    const MOST_NAMED: usize = 20;

    pub(super) fn new(text: &'t str) -> Result<Self, CliError> {
        match VariantPattern::new(text) {
            Ok(pattern) => Ok(Self { text, pattern }),
            Err(reason) => {
                Err(CliError::new(Kind::Usage, format!("`--variant {text}` is not a valid pattern: {reason}"))
                    .hint("for example `--variant rouge`, `--variant seed=1` or `--variant 'rouge,seed=*'`"))
            }
        }
    }

    /// Whether the pattern matches the variant `name` of `recipe`. A label `recipe/name`, as in tables, selects the
    /// recipe too.
    pub(super) fn matches(&self, recipe: &str, name: &str) -> bool {
        let of_recipe = self.text.strip_prefix(recipe).and_then(|rest| rest.strip_prefix('/'));
        match of_recipe.map(VariantPattern::new) {
            Some(Ok(pattern)) => pattern.matches(name),
            _ => self.pattern.matches(name),
        }
    }

    /// Returns the error of a pattern that matches none of the variants with these names.
    pub(super) fn matches_none<'n>(&self, names: impl Iterator<Item = &'n str>) -> CliError {
        let mut known: Vec<&str> = Vec::new();
        for name in names.filter(|name| !name.is_empty()) {
            if !known.contains(&name) && known.len() < Self::MOST_NAMED {
                known.push(name);
            }
        }
        CliError::nothing(format!("no variant matches `{}`", self.text))
            .hint(did_you_mean(self.text, "variants", &known))
            .hint("a pattern names parts of a variant's name, separated by commas; `*` is any text")
    }
}

/// Returns a stage's name, with its variants unless all share it.
pub(super) fn stage_title(plan: &LoggedPlan, stage: &LoggedStage) -> String {
    if stage.variants.len() >= plan.variants.len() {
        return stage.stage.clone();
    }
    format!("{} [{}]", stage.stage, stage.variants.join(" "))
}
