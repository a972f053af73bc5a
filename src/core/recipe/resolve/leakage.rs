//! The data sets that are compared for leakage: those that a variant trains on and those that it measures on.

use crate::digest::{Digest, canonical_json};
use crate::recipe::resolve::data_sets::by_content;
use crate::recipe::resolve::resolved::{NamedData, OverlapLimit, ResolvedStage, ResolvedVariant};
use crate::recipe::spec::{DataSpec, Evaluated, TextUse, Work};
use crate::recipe::sweep::variant::Variant;
use crate::recipe::text::diagnostic::{Problem, Problems};
use crate::recipe::text::located::KeyPath;
use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::{Table, Value};

/// A data set that a stage names: the name, the resolved set, and the limit of its overlap.
pub(in crate::recipe) type Met = (String, DataSpec, Option<OverlapLimit>);

/// Returns the data sets of `work`. `met` are those that its stage named.
pub(in crate::recipe) fn named(work: &Work, met: Vec<Met>) -> Vec<NamedData> {
    let used = |data: &DataSpec| {
        let trained = |sets: &[crate::recipe::spec::WeightedData]| sets.iter().any(|set| set.data == *data);
        Some(match work {
            Work::Cpt(spec) if trained(&spec.data) => (TextUse::Documents, true),
            Work::Sft(spec) if trained(&spec.data) => (TextUse::Conversations, true),
            Work::Grpo(spec) if trained(&spec.data) => (TextUse::Questions, true),
            Work::Eval(spec) if spec.data == *data => (TextUse::Questions, false),
            Work::Eval(spec) if spec.text.as_ref() == Some(data) => (TextUse::Documents, false),
            Work::Arena(spec) if spec.data == *data => (TextUse::Questions, false),
            _ => return None,
        })
    };
    let of_set = |(name, data, max_overlap): Met| {
        let (used, is_trained) = used(&data)?;
        Some(NamedData { name, data, used, is_trained, max_overlap })
    };
    met.into_iter().filter_map(of_set).collect()
}

/// Fills in the evaluation sets of a variant, with which data sets that are to be decontaminated are compared.
pub(in crate::recipe) fn complete(stages: &mut [ResolvedStage]) {
    let mut sets: Vec<(String, Evaluated)> = Vec::new();
    let mut inputs: BTreeMap<Digest, PathBuf> = BTreeMap::new();
    for stage in stages.iter() {
        for set in stage.data_sets.iter().filter(|set| !set.is_trained && !set.data.is_generated()) {
            let evaluated = Evaluated { data: set.data.clone(), used: set.used };
            let content = canonical_json(&serde_json::to_value(&evaluated).expect("a spec serializes"));
            if !sets.iter().any(|(known, _)| *known == content) {
                sets.push((content, evaluated));
            }
            let files = set.data.files.iter().filter_map(|file| stage.inputs.get_key_value(&file.id()));
            inputs.extend(files.map(|(digest, path)| (digest.clone(), path.clone())));
        }
    }
    sets.sort_by(|(one, _), (other, _)| one.cmp(other));
    let evaluated: Vec<Evaluated> = sets.into_iter().map(|(_, set)| set).collect();
    // without an evaluation no row is dropped, as without the key
    let filled = (!evaluated.is_empty()).then_some(evaluated);
    for stage in stages.iter_mut().filter(|stage| stage.data_sets.iter().any(|set| set.data.decontaminate.is_some())) {
        let fill = |data: &mut DataSpec| {
            if data.decontaminate.is_some() {
                data.decontaminate.clone_from(&filled);
            }
        };
        stage.data_sets.iter_mut().for_each(|set| fill(&mut set.data));
        if let Some(sets) = stage.spec.work.mixture_mut() {
            for set in sets.iter_mut() {
                fill(&mut set.data);
            }
            by_content(sets);
        }
        stage.inputs.extend(inputs.clone());
    }
}

/// The keys `decontaminate` and `max_overlap` of a recipe, each with its data set.
pub(in crate::recipe) type Marks = Vec<(String, &'static str)>;

/// Returns the keys for leakage that `recipe` sets.
pub(in crate::recipe) fn marks(recipe: &Table) -> Marks {
    let tables = recipe.get("data").and_then(Value::as_table).into_iter().flatten();
    let of_table = |(name, table): (&String, &Value)| {
        let is_set = |key: &&str| match table.get(*key) {
            Some(Value::Boolean(value)) => *value,
            value => value.is_some(),
        };
        ["decontaminate", "max_overlap"].into_iter().filter(is_set).map(|key| (name.clone(), key)).collect::<Marks>()
    };
    tables.flat_map(of_table).collect()
}

/// Reports those of `marks` on whose data set no variant trains, or beside which none measures.
pub(in crate::recipe) fn check(
    base: &Variant<'_>,
    marks: &[(String, &'static str)],
    variants: &[ResolvedVariant],
    problems: &mut Problems,
) {
    for (name, key) in marks {
        let trains = |stage: &ResolvedStage| stage.data_sets.iter().any(|set| set.is_trained && set.name == *name);
        let measures = |stage: &ResolvedStage| stage.data_sets.iter().any(|set| !set.is_trained);
        let training: Vec<&ResolvedVariant> =
            variants.iter().filter(|variant| variant.stages.iter().any(trains)).collect();
        let why = if training.is_empty() {
            "no stage trains on it"
        } else if !training.iter().any(|variant| variant.stages.iter().any(measures)) {
            "no stage of the kind `eval` or `arena` measures anything"
        } else {
            continue;
        };
        let path = KeyPath::dotted("data").key(name).key(key);
        let problem = Problem::at(base.value_place(&path), format!("`{path}` has no effect: {why}"), "no effect");
        problems.push(problem.help("write it in the data set that is trained on, in a recipe that evaluates too"));
    }
}
