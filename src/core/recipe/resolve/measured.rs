//! Completes the components that an `eval` stage measures.
//!
//! With `rewards = "all"`, a stage measures every component that any stage of any variant of the recipe rewards. Each
//! variant is thus measured by the components it was trained on and by the held-out ones. Components that differ in
//! their encoders are distinguished by the encoder's name: `semantic@minilm`. In addition, every `eval`
//! stage measures correctness and form where the data set allows it. Of control arms, it measures what a component is
//! without shuffled references, and no `random` component. For each component this module records whether the
//! variant was trained on it.

use crate::digest::Digest;
use crate::recipe::resolve::data_sets::missing_template;
use crate::recipe::resolve::files::Files;
use crate::recipe::resolve::resolved::ResolvedStage;
use crate::recipe::resolve::resolved::ResolvedVariant;
use crate::recipe::spec::{
    Component, CorrectnessSpec, EvalSpec, FormatSpec, Grading, Match, RewardSpec, Scope, Total, Work,
};
use crate::recipe::sweep::variant::Variant;
use crate::recipe::text::diagnostic::{Place, Problem, Problems};
use crate::recipe::text::located::KeyPath;
use crate::rewards::RewardTable;
use crate::slice::whole_metric;
use crate::stage::written_name;
use crate::suggestion::did_you_mean;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use toml::Value;

/// The value of `rewards` that selects every component of the recipe.
const ALL: &str = "all";

/// Whether a variant was trained on a measured component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Training {
    /// The component was part of the training reward.
    Trained,
    /// The component was never rewarded.
    HeldOut,
}

impl Training {
    /// Returns the word for this value in results.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Trained => "trained",
            Self::HeldOut => "held_out",
        }
    }
}

/// Whether training rewarded the component that `metric` measures; `None` where the metric is not a reward component.
/// Training on correctness counts as training on the likelihood of correct answers.
pub fn training_of(eval: &EvalSpec, metric: &str) -> Option<Training> {
    let component = match whole_metric(metric) {
        "eval/accuracy" | "eval/loglikelihood_accuracy" | "eval/loglikelihood_accuracy_norm" => EvalSpec::CORRECTNESS,
        "eval/format_valid" => EvalSpec::FORMAT_VALID,
        whole if whole.starts_with("eval/pass_at_") || whole.starts_with("eval/maj_at_") => EvalSpec::CORRECTNESS,
        whole => whole.strip_prefix("eval/reward/")?,
    };
    eval.rewards
        .contains_key(component)
        .then(|| if eval.trained.contains(component) { Training::Trained } else { Training::HeldOut })
}

type Mix = BTreeMap<String, RewardSpec>;

/// Returns the components that the `rewards` at `key` name; none where the value selects those of the whole recipe.
/// Returns `None` if the value is invalid, which has been reported.
pub(in crate::recipe) fn named(
    files: &mut Files<'_>,
    key: &KeyPath,
    rewards: Option<&Value>,
) -> Option<BTreeMap<String, RewardTable>> {
    match rewards {
        None => Some(BTreeMap::new()),
        Some(Value::String(word)) if word == ALL => Some(BTreeMap::new()),
        Some(Value::String(word)) => {
            let problem =
                Problem::at(files.variant.value_place(key), format!("`{key}` cannot be `{word}`"), "no such value");
            let help = did_you_mean(word, "values", &[ALL]);
            files.problems.push(problem.help(format!("{help}; or write a table a component, `[{key}.NAME]`")));
            None
        }
        Some(tables) => match BTreeMap::deserialize(tables.clone()) {
            Ok(tables) => Some(tables),
            Err(error) => {
                // A table without a required key was reported with the shape.
                if files.problems.is_empty() {
                    let problem =
                        Problem::at(files.variant.value_place(key), format!("`{key}` is not valid: {error}"), "here");
                    files.problems.push(problem.help("`orchestrate schema` describes every key"));
                }
                None
            }
        },
    }
}

/// The stages of a variant that measure every component of the recipe, each with the place of its key.
pub(in crate::recipe) type Asking = BTreeMap<String, Place>;

/// Returns the stages of `variant` that measure every component of the recipe.
pub(in crate::recipe) fn asking(variant: &Variant<'_>) -> Asking {
    let asks = |stage: &Value| stage.get("rewards").and_then(Value::as_str) == Some(ALL);
    let stages = variant.value.get("stages").and_then(Value::as_table).into_iter().flatten();
    stages
        .filter(|(_, stage)| asks(stage))
        .map(|(name, _)| (name.clone(), variant.value_place(&rewards_key(name))))
        .collect()
}

fn rewards_key(stage: &str) -> KeyPath {
    KeyPath::dotted("stages").key(stage).key("rewards")
}

/// Completes every `eval` stage of `variants`: the components it measures, and those of them that were rewarded before.
/// `asking` has, for each variant, the stages that measure every component.
pub(in crate::recipe) fn complete(asking: &[Asking], variants: &mut [ResolvedVariant], problems: &mut Problems) {
    let is_asked = asking.iter().any(|stages| !stages.is_empty());
    let all = if is_asked { Pool::of(variants) } else { Pool::default() };
    for (variant, asking) in variants.iter_mut().zip(asking) {
        for place in 0..variant.stages.len() {
            if !matches!(variant.stages[place].spec.work, Work::Eval(_)) {
                continue;
            }
            let mixes = mixes(&variant.stages, place);
            let total = nearest_total(&variant.stages, place);
            let stage = &mut variant.stages[place];
            let Work::Eval(eval) = &mut stage.spec.work else { continue };
            // The evaluation of a snapshot measures what its evaluation does.
            let name = written_name(&stage.name);
            if let Some(place) = asking.get(name) {
                eval.total = total;
                all.check(place, &rewards_key(name), eval, problems);
                let weight = |named: &str, spec: &RewardSpec| {
                    let own = mixes.iter().find_map(|mix| Some(measured_spec(mix.get(named)?, mix)));
                    let own = own.filter(|own| same_settings(own, spec));
                    own.map_or(0.0, |own| own.weight)
                };
                for (name, found) in &all.components {
                    let spec = RewardSpec { weight: weight(&found.named, &found.spec), ..found.spec.clone() };
                    eval.rewards.insert(name.clone(), spec);
                    stage.inputs.extend(found.inputs.clone());
                }
            }
            add_what_the_data_tells(eval);
            let trained = eval.rewards.iter().filter(|(name, spec)| was_rewarded(name, spec, &mixes));
            eval.trained = trained.map(|(name, _)| name.clone()).collect();
        }
    }
}

/// Returns a component of the mix `rewards` as evaluations measure it: with the weight at the end of training, without
/// controls.
fn measured_spec(spec: &RewardSpec, rewards: &Mix) -> RewardSpec {
    let is_measured = |name: &&String| rewards.get(*name).is_some_and(|own| !own.component.measure().is_control());
    let requires = spec.requires.iter().filter(is_measured).cloned().collect();
    RewardSpec { ramp: None, start_step: 1, requires, shuffle_references: false, ..spec.clone() }
}

/// Returns the reward mixes of the stages above the one at `place`, the nearest first.
fn mixes(stages: &[ResolvedStage], place: usize) -> Vec<Mix> {
    let mut found = Vec::new();
    let mut waiting: VecDeque<&String> = stages[place].after.iter().collect();
    while let Some(name) = waiting.pop_front() {
        let Some(stage) = stages.iter().find(|stage| stage.name == *name) else { continue };
        if let Work::Grpo(grpo) = &stage.spec.work {
            found.push(grpo.rewards.clone());
        }
        waiting.extend(&stage.after);
    }
    found
}

/// Returns the rule of the total in the nearest stage above the one at `place` that has a reward.
fn nearest_total(stages: &[ResolvedStage], place: usize) -> Total {
    let mut waiting: VecDeque<&String> = stages[place].after.iter().collect();
    while let Some(name) = waiting.pop_front() {
        let Some(stage) = stages.iter().find(|stage| stage.name == *name) else { continue };
        if let Work::Grpo(grpo) = &stage.spec.work {
            return grpo.total.clone();
        }
        waiting.extend(&stage.after);
    }
    Total::Sum
}

/// Whether training rewarded `spec` under any name. A component counts if it has the same name or computes the same.
/// For correctness and form, any component of that kind counts. A component is held out only if none counts.
fn was_rewarded(name: &str, spec: &RewardSpec, mixes: &[Mix]) -> bool {
    let alike = |theirs: &Component| match (&spec.component, theirs) {
        (Component::Correctness(_), Component::Correctness(_)) | (Component::Format(_), Component::Format(_)) => true,
        (ours, theirs) => ours == theirs,
    };
    let rewarded = mixes.iter().flatten().filter(|(_, theirs)| theirs.counts() && !theirs.is_control());
    rewarded.into_iter().any(|(theirs, component)| theirs == name || alike(&component.component))
}

/// Whether two components differ only in their weights over the steps.
fn same_settings(one: &RewardSpec, other: &RewardSpec) -> bool {
    let plain = |spec: &RewardSpec| RewardSpec { weight: 0.0, ramp: None, start_step: 1, ..spec.clone() };
    plain(one) == plain(other)
}

/// `correctness` where the data set has answers, `format_valid` where its form is known; both count for nothing in the
/// total.
fn add_what_the_data_tells(eval: &mut EvalSpec) {
    if eval.data.templates.answer.is_some() && !eval.rewards.contains_key(EvalSpec::CORRECTNESS) {
        let correctness = CorrectnessSpec { matching: Match::Choice, pattern: None };
        let correctness = RewardSpec::plain(0.0, Scope::Answer, correctness.into());
        eval.rewards.insert(EvalSpec::CORRECTNESS.to_owned(), correctness);
    }
    if let Some((scope, form)) = form(eval) {
        let form = RewardSpec::plain(0.0, scope, Component::Format(form));
        eval.rewards.entry(EvalSpec::FORMAT_VALID.to_owned()).or_insert(form);
    }
}

/// Returns the form that completions should have. This is the form of the component `format`, else that of the first
/// format component, graded as a whole. Without either, it consists of the tags in the data set's own completions.
fn form(eval: &EvalSpec) -> Option<(Scope, FormatSpec)> {
    let whole = |form: &FormatSpec| match form {
        FormatSpec::Tags { tags, answers, .. } => {
            FormatSpec::Tags { tags: tags.clone(), grading: Grading::Binary, answers: answers.clone() }
        }
        other => other.clone(),
    };
    let forms = || eval.rewards.iter().filter(|(_, spec)| matches!(spec.component, Component::Format(_)));
    let spec = forms().find(|(name, _)| *name == "format").or_else(|| forms().next()).map(|(_, spec)| spec);
    if let Some(RewardSpec { scope, component: Component::Format(form), .. }) = spec {
        return Some((scope.clone(), whole(form)));
    }
    let tags = tags(eval.data.templates.completion.as_ref()?)?;
    Some((Scope::Completion, FormatSpec::Tags { tags, grading: Grading::Binary, answers: Vec::new() }))
}

/// Returns the tags in `template`, if it consists only of tags: `<think>...</think> <answer>...</answer>`.
fn tags(template: &str) -> Option<Vec<String>> {
    let mut tags: Vec<String> = Vec::new();
    let mut rest = template.trim();
    while !rest.is_empty() {
        let (tag, inside) = rest.strip_prefix('<')?.split_once('>')?;
        let is_name = tag.starts_with(|first: char| first.is_ascii_alphabetic())
            && tag.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let (_, after) = inside.split_once(&format!("</{tag}>"))?;
        if !is_name || tags.iter().any(|earlier| earlier == tag) {
            return None;
        }
        tags.push(tag.to_owned());
        rest = after.trim_start();
    }
    (!tags.is_empty()).then_some(tags)
}

/// Every component that the recipe rewards, by the name under which it is measured.
#[derive(Default)]
struct Pool {
    components: BTreeMap<String, Found>,
    /// A name that two different components share, with the place of each.
    clash: Option<(String, String, String)>,
}

#[derive(Clone)]
struct Found {
    /// The component's name in the recipe.
    named: String,
    /// The spec without its weight, which differs between variants.
    spec: RewardSpec,
    inputs: BTreeMap<Digest, PathBuf>,
    /// The stage and the variant, for messages.
    place: String,
}

impl Pool {
    fn of(variants: &[ResolvedVariant]) -> Self {
        let mut found: BTreeMap<&String, Vec<Found>> = BTreeMap::new();
        for variant in variants {
            for stage in &variant.stages {
                let Work::Grpo(grpo) = &stage.spec.work else { continue };
                for (name, spec) in &grpo.rewards {
                    if spec.component.measure().is_control() {
                        continue;
                    }
                    let spec = &measured_spec(spec, &grpo.rewards);
                    let known = found.entry(name).or_default();
                    if known.iter().any(|known| same_settings(&known.spec, spec)) {
                        continue;
                    }
                    let needed = spec.component.measure().files();
                    let input = |digest: &Digest| Some((digest.clone(), stage.inputs.get(digest)?.clone()));
                    let inputs = needed.into_iter().filter_map(input).collect();
                    let spec = RewardSpec { weight: 0.0, ..spec.clone() };
                    let place = format!("`stages.{}` of the variant `{}`", stage.name, variant.name);
                    known.push(Found { named: name.clone(), spec, inputs, place });
                }
            }
        }
        let taken: BTreeSet<String> = found.keys().map(|name| (*name).clone()).collect();
        let mut pool = Self::default();
        for (name, found) in found {
            match (found.as_slice(), encoder_names(name, &found, &taken)) {
                ([_], _) => pool.components.extend(found.into_iter().map(|found| (name.clone(), found))),
                (_, Some(names)) => pool.components.extend(names.into_iter().zip(found)),
                (all, None) => {
                    let clash = || (name.clone(), all[0].place.clone(), all[1].place.clone());
                    pool.clash.get_or_insert_with(clash);
                }
            }
        }
        pool
    }

    /// Reports at `place` the components that the `eval` stage whose `rewards` are at `key` cannot measure.
    fn check(&self, place: &Place, key: &KeyPath, eval: &EvalSpec, problems: &mut Problems) {
        let problem =
            |message: String, label: &str, help: String| Problem::at(place.clone(), message, label).help(help);
        if let Some((name, one, other)) = &self.clash {
            let message = format!(
                "two components of the recipe are named `{name}` and have different settings: in {one} and in {other}"
            );
            let help =
                format!("give one of them another name and a `kind`, or list what is measured: `[{key}.{name}]`");
            problems.push(problem(message, "which of them?", help));
            return;
        }
        let is_other = |(name, found): &(&String, &Found)| {
            eval.rewards.get(*name).is_some_and(|own| !same_settings(own, &found.spec))
        };
        if let Some((name, found)) = self.components.iter().find(is_other) {
            let message = format!("the stage measures another component `{name}` than {} rewards", found.place);
            let help = format!("give the one in `more_rewards` another name and `kind = \"{}\"`", found.named);
            problems.push(problem(message, "measures it too", help));
        }
        if self.components.is_empty() {
            let help = format!("list what is measured: `[{key}.NAME]`, for example `[{key}.rouge]`");
            let message = format!("`{key}` is `all`, but no stage of the recipe rewards anything");
            problems.push(problem(message, "nothing to measure", help));
            return;
        }
        for (name, found) in &self.components {
            if let Some(template) = lacking(&found.spec.component, eval) {
                let message = format!(
                    "the reward `{name}` needs the template `{template}`, which `data.{}` lacks",
                    eval.data_set
                );
                let help =
                    format!("add `{template}` to `[data.{}]`, or list what is measured: `[{key}.NAME]`", eval.data_set);
                let cause = missing_template(&eval.data_set, template);
                problems
                    .push(problem(message, "measures it too", help).caused_by(cause, format!("the reward `{name}`")));
            }
            let needed = found.spec.component.measure().fewest_samples();
            if needed > eval.samples_per_question {
                let samples = eval.samples_per_question;
                let message = format!(
                    "the reward `{name}` compares {needed} completions of a question, but `samples_per_question` is {samples}"
                );
                let help = format!(
                    "set `samples_per_question = {needed}` and a `temperature`, or list what is measured: `[{key}.NAME]`"
                );
                problems.push(problem(message, "measures it too", help));
            }
        }
    }
}

/// Returns the names of components that are all called `name` and differ in their encoders: `semantic@minilm`. Returns
/// `None` if two of them have the same encoder. `taken` has the names of all components.
fn encoder_names(name: &str, found: &[Found], taken: &BTreeSet<String>) -> Option<Vec<String>> {
    let encoder = |found: &Found| match (&found.spec.component, found.spec.component.measure().files().as_slice()) {
        (Component::Command(_), _) => None,
        (_, [encoder]) => Some((*encoder).clone()),
        _ => None,
    };
    let encoders: Vec<Digest> = found.iter().map(encoder).collect::<Option<_>>()?;
    if encoders.iter().collect::<BTreeSet<_>>().len() < encoders.len() {
        return None;
    }
    let labels: Vec<String> =
        found.iter().zip(&encoders).map(|(found, encoder)| label(found.inputs.get(encoder)?)).collect::<Option<_>>()?;
    let named = |(label, encoder): (&String, &Digest)| {
        let plain = format!("{name}@{label}");
        let is_unique = labels.iter().filter(|other| *other == label).count() == 1 && !taken.contains(&plain);
        if is_unique { plain } else { format!("{plain}-{}", encoder.short()) }
    };
    Some(labels.iter().zip(&encoders).map(named).collect())
}

/// Returns the name of a Hugging Face directory in lower case, for the name of a metric: `all-minilm-l6-v2`.
fn label(directory: &Path) -> Option<String> {
    // the hub's cache: `models--sentence-transformers--all-MiniLM-L6-v2/snapshots/COMMIT`
    let parts = || directory.components().rev().filter_map(|part| part.as_os_str().to_str());
    let of_hub = parts().find_map(|part| part.strip_prefix("models--")?.rsplit("--").next());
    let name = of_hub.or_else(|| parts().next())?.to_lowercase();
    let legal = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' };
    Some(name.chars().map(legal).collect())
}

/// Returns the template that a component needs and the data set of `eval` lacks.
fn lacking(component: &Component, eval: &EvalSpec) -> Option<&'static str> {
    let templates = &eval.data.templates;
    let needed = component.measure().needs()?;
    let is_there = match needed {
        "reference" => templates.reference.is_some(),
        _ => templates.answer.is_some(),
    };
    (!is_there).then_some(needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoder_is_named_after_its_directory() {
        let named = |path: &str| label(Path::new(path)).unwrap();
        assert_eq!(named("models/MiniLM"), "minilm");
        let hub = "/home/me/.cache/huggingface/hub/models--Qwen--Qwen3-Embedding-0.6B/snapshots/c54f2e6e80b2d7b7";
        assert_eq!(named(hub), "qwen3-embedding-0-6b");
        assert_eq!(named("models/größe v2"), "gr--e-v2");
    }

    #[test]
    fn the_form_of_a_data_set_is_reported_by_a_template_that_is_made_of_tags() {
        let found = |template: &str| tags(template).map(|tags| tags.join(" "));
        assert_eq!(found("<think>{{ why }}</think><answer>{{ letter }}</answer>").as_deref(), Some("think answer"));
        assert_eq!(found(" <think>{{ a }}</think>\n<answer>{{ b }}</answer>\n").as_deref(), Some("think answer"));
        assert_eq!(found("<work><step>{{ a }}</step></work>").as_deref(), Some("work"));
        for other in [
            "{{ answer }}",
            "<think>{{ a }}</think> so <answer>{{ b }}</answer>",
            "<think>{{ a }}<answer>{{ b }}</answer>",
            "<a>1</a><a>2</a>",
            "<{{ tag }}>x</{{ tag }}>",
            "",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
    }
}
