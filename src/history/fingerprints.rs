//! Fingerprints of stages from their `key.json`, without their seeds.

use crate::digest::{Digest, canonical_json};
use crate::evidence::MixPart;
use crate::history::checkpoints::checkpoint_dir;
use crate::recipe::spec::{RewardSpec, Total, total_range};
use crate::workspace::Workspace;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// The `key.json` of stages, and their fingerprints without seeds.
pub(super) struct Fingerprints<'a> {
    workspace: &'a Workspace,
    documents: HashMap<Digest, Option<Rc<Value>>>,
    prints: HashMap<Digest, Digest>,
}

impl<'a> Fingerprints<'a> {
    pub(super) fn new(workspace: &'a Workspace) -> Self {
        Self { workspace, documents: HashMap::new(), prints: HashMap::new() }
    }

    /// Returns the stage's fingerprint. It is equal for stages that differ only in their seeds and in their parents'
    /// seeds.
    pub(super) fn of(&mut self, key: &Digest) -> Digest {
        if let Some(known) = self.prints.get(key) {
            return known.clone();
        }
        let print = match self.document(key) {
            None => key.clone(), // unknown stages equal no other
            Some(document) => {
                let mut document = Value::clone(&document);
                let parents = parents(&document);
                if let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut) {
                    spec.remove("seed");
                }
                let parents: Vec<Digest> = parents.iter().map(|parent| self.of(parent)).collect();
                document["parents"] = serde_json::json!(parents);
                Digest::of(canonical_json(&document).as_bytes())
            }
        };
        self.prints.insert(key.clone(), print.clone());
        print
    }

    /// Returns the seed of the stage with this key, or 0 if it is unknown.
    pub(super) fn seed(&mut self, key: &Digest) -> u64 {
        self.document(key).and_then(|document| document["spec"]["seed"].as_u64()).unwrap_or(0)
    }

    /// Returns the reward components, with their weights, that the stages with these keys and all their ancestors
    /// trained on.
    pub(super) fn rewards<'k>(&mut self, keys: impl Iterator<Item = &'k Digest>) -> BTreeMap<String, f64> {
        let mut found = BTreeMap::new();
        self.for_each_reward(keys, |name, reward| {
            let last = reward["weight"].as_f64().unwrap_or(0.0);
            let weight = if last == 0.0 { reward["ramp"]["from"].as_f64().unwrap_or(0.0) } else { last };
            found.insert(name.to_owned() + shuffled(reward), weight);
        });
        found
    }

    /// Returns the components without information on which the stages with these keys and all their ancestors trained.
    pub(super) fn controls<'k>(&mut self, keys: impl Iterator<Item = &'k Digest>) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.for_each_reward(keys, |name, reward| {
            let spec: Option<RewardSpec> = serde_json::from_value(reward.clone()).ok();
            if spec.is_some_and(|spec| spec.is_control() && spec.counts()) {
                found.insert(name.to_owned() + shuffled(reward));
            }
        });
        found
    }

    /// Calls `take` with every component, by its name, on which the stages with these keys and all their ancestors
    /// trained.
    fn for_each_reward<'k>(&mut self, keys: impl Iterator<Item = &'k Digest>, mut take: impl FnMut(&str, &Value)) {
        let mut open: Vec<Digest> = keys.cloned().collect();
        let mut seen = BTreeSet::new();
        while let Some(key) = open.pop() {
            if !seen.insert(key.clone()) {
                continue;
            }
            let Some(document) = self.document(&key) else { continue };
            let rewards = document["spec"]["work"]["grpo"]["rewards"].as_object();
            for (name, reward) in rewards.into_iter().flatten() {
                take(name, reward);
            }
            open.extend(parents(&document));
        }
    }

    /// Returns the weight and settings of each reward component of the evaluation with this key.
    pub(super) fn mix(&mut self, key: &Digest) -> BTreeMap<String, MixPart> {
        let part = |(name, spec): (String, RewardSpec)| {
            let (weight, plain) = (spec.weight, RewardSpec { weight: 0.0, ..spec });
            let settings = serde_json::to_value(&plain).expect("a spec has string keys and finite numbers");
            (name, MixPart { weight, settings: Digest::of(canonical_json(&settings).as_bytes()) })
        };
        self.components(key).into_iter().map(part).collect()
    }

    /// Returns the least and the greatest value of each reward component of the evaluation with this key. `total` is
    /// their weighted sum. Unbounded components are left out.
    pub(super) fn ranges(&mut self, key: &Digest) -> Vec<(String, (f64, f64))> {
        let components = self.components(key);
        let mut found: Vec<(String, (f64, f64))> =
            components.iter().filter_map(|(name, spec)| Some((name.clone(), spec.range()?))).collect();
        found.extend(total_range(&components, &self.total(key)).map(|range| ("total".to_owned(), range)));
        found
    }

    /// Returns the rule of the total of the evaluation with this key.
    fn total(&mut self, key: &Digest) -> Total {
        let total = self.document(key).map(|document| document["spec"]["work"]["eval"]["total"].clone());
        total.and_then(|total| serde_json::from_value(total).ok()).unwrap_or_default()
    }

    /// Returns the reward components of the evaluation with this key.
    /// Returns the measured components with a label, `semantic@minilm`, that the evaluation's model was trained on.
    pub(super) fn labelled_rewards(&mut self, key: &Digest) -> Vec<String> {
        let trained = self.document(key).map(|document| document["spec"]["work"]["eval"]["trained"].clone());
        let names = trained.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        names.filter(|name| name.contains('@')).map(str::to_owned).collect()
    }

    fn components(&mut self, key: &Digest) -> BTreeMap<String, RewardSpec> {
        let rewards = self.document(key).map(|document| document["spec"]["work"]["eval"]["rewards"].clone());
        rewards.and_then(|rewards| serde_json::from_value(rewards).ok()).unwrap_or_default()
    }

    fn document(&mut self, key: &Digest) -> Option<Rc<Value>> {
        let workspace = self.workspace;
        let read = || {
            let committed = checkpoint_dir(workspace, key).join("key.json");
            let attempt = workspace.attempt_dir(key).join("key.json");
            let bytes = fs_err::read(committed).or_else(|_| fs_err::read(attempt)).ok()?;
            serde_json::from_slice(&bytes).ok().map(Rc::new)
        };
        self.documents.entry(key.clone()).or_insert_with(read).clone()
    }
}

/// The mark of a component that compared with other rows' references.
fn shuffled(reward: &Value) -> &'static str {
    if reward["shuffle_references"] == true { " (shuffled)" } else { "" }
}

fn parents(document: &Value) -> Vec<Digest> {
    let listed = document["parents"].as_array().into_iter().flatten();
    listed.filter_map(|parent| Digest::parse(parent.as_str()?)).collect()
}
