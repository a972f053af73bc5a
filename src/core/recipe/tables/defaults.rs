//! The lowest layer of a recipe: `defaults.toml`, laid out under the tables that the recipe has.

use crate::rewards::{KINDS, KindEntry};
use std::sync::LazyLock;
use toml::{Table, Value};

static BUILT_IN: LazyLock<Table> = LazyLock::new(|| {
    let mut built_in: Table = include_str!("defaults.toml").parse().expect("defaults.toml is TOML");
    let common = table(built_in.get("rewards")).cloned().expect("`[rewards]` is a table");
    let of_kind = |kind: &KindEntry| {
        let own: Table = kind.defaults.parse().expect("a component's defaults are TOML");
        (kind.name.to_owned(), Value::Table(over(common.clone(), own)))
    };
    built_in.insert("rewards".to_owned(), Value::Table(KINDS.iter().map(of_kind).collect()));
    for (group, kinds) in SHARED {
        let shared = table(built_in.get(*group)).cloned().expect("each group is a table");
        for kind in *kinds {
            let own = built_in["stages"][*kind].as_table_mut().expect("each kind is a table");
            *own = over(shared.clone(), std::mem::take(own));
        }
    }
    built_in
});

/// Groups of keys that kinds of stage share.
const SHARED: &[(&str, &[&str])] =
    &[("optimizer", &["cpt", "sft", "grpo"]), ("sampling", &["grpo", "eval", "generate", "arena"])];

/// Defaults of stages that count only beside another key, and its value, if only one will do.
const CONDITIONAL: &[(&str, &str, Option<&str>)] = &[
    ("momentum", "optimizer", Some("muon")),
    ("adjust_lr", "optimizer", Some("muon")),
    ("overlong_penalty", "overlong_buffer_tokens", None),
    ("easy_share", "sampler", Some("pools")),
    ("hard_share", "sampler", Some("pools")),
    ("easy_threshold", "sampler", Some("pools")),
    ("hard_threshold", "sampler", Some("pools")),
    ("pass_rate_decay", "sampler", Some("pools")),
];

/// `defaults.toml`, with `rewards` by kind of component, and what kinds of stage share with each of them.
pub(in crate::recipe) fn built_in() -> &'static Table {
    &BUILT_IN
}

/// `recipe` over the defaults for the stages, rewards, data sets and adapters it has.
pub(in crate::recipe) fn filled_in(recipe: Table) -> Table {
    let mut lowest = Table::new();
    lowest.insert("seed".to_owned(), BUILT_IN["seed"].clone());
    if let Some(model) = recipe.get("model") {
        lowest.insert("model".to_owned(), with_adapters(BUILT_IN["model"].clone(), Some(model)));
    }
    if let Some(data) = table(recipe.get("data")) {
        let each = data.keys().map(|name| (name.clone(), BUILT_IN["data"].clone()));
        lowest.insert("data".to_owned(), Value::Table(each.collect()));
    }
    if let Some(stages) = table(recipe.get("stages")) {
        let each = stages.iter().map(|(name, stage)| (name.clone(), of_stage(stage)));
        lowest.insert("stages".to_owned(), Value::Table(each.collect()));
    }
    over(lowest, recipe)
}

/// The `seed` of `recipe`, or its default.
pub(in crate::recipe) fn seed(recipe: &Table) -> u64 {
    let seed = recipe.get("seed").unwrap_or(&BUILT_IN["seed"]).as_integer();
    seed.and_then(|seed| u64::try_from(seed).ok()).unwrap_or_default()
}

/// `[runtime]` of `recipe` over its defaults.
pub(in crate::recipe) fn runtime(recipe: &Table) -> Table {
    let runtime = recipe.get("runtime");
    over(of_runtime(runtime), table(runtime).cloned().unwrap_or_default())
}

/// `highest` over `lowest`, table by table. As figment merges the layers; but this is done for each variant of a sweep,
/// and figment would create all values again.
fn over(mut lowest: Table, highest: Table) -> Table {
    for (key, value) in highest {
        let value = match (lowest.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => Value::Table(over(std::mem::take(below), above)),
            (_, value) => value,
        };
        lowest.insert(key, value);
    }
    lowest
}

fn of_runtime(runtime: Option<&Value>) -> Table {
    let mut lowest = table(Some(&BUILT_IN["runtime"])).cloned().expect("`[runtime]` is a table");
    for group in ["judges", "endpoints"] {
        let named = table(runtime.and_then(|runtime| runtime.get(group)));
        let each = named.into_iter().flat_map(Table::keys).map(|name| (name.clone(), BUILT_IN[group].clone()));
        lowest.insert(group.to_owned(), Value::Table(each.collect()));
    }
    lowest
}

fn of_stage(stage: &Value) -> Value {
    let kind = stage.get("kind").and_then(Value::as_str).unwrap_or_default();
    let mut lowest = section("stages", kind);
    if stage.get("steps").is_some() {
        lowest.remove("epochs");
    }
    for (key, beside, value) in CONDITIONAL {
        let there = stage.get(*beside).or_else(|| lowest.get(*beside));
        let counts = there.is_some_and(|there| value.is_none_or(|value| there.as_str() == Some(value)));
        if !counts {
            lowest.remove(*key);
        }
    }
    if let Some(rewards) = table(stage.get("rewards")) {
        let each = rewards.iter().map(|(name, reward)| (name.clone(), of_reward(name, reward)));
        lowest.insert("rewards".to_owned(), Value::Table(each.collect()));
    }
    if let Some(rewards) = table(stage.get("more_rewards")) {
        let of_reward = |(name, reward): (&String, &Value)| {
            let mut lowest = of_reward(name, reward);
            lowest["weight"] = Value::Float(0.0);
            (name.clone(), lowest)
        };
        lowest.insert("more_rewards".to_owned(), Value::Table(rewards.iter().map(of_reward).collect()));
    }
    if let Some(judges) = table(stage.get("judges")) {
        let each = judges.iter().map(|(name, judge)| (name.clone(), of_arena_judge(name, judge)));
        lowest.insert("judges".to_owned(), Value::Table(each.collect()));
    }
    if let Some(model) = stage.get("model") {
        lowest.insert("model".to_owned(), with_adapters(Value::Table(Table::new()), Some(model)));
    }
    Value::Table(lowest)
}

fn of_arena_judge(name: &str, judge: &Value) -> Value {
    let kind = judge.get("kind").and_then(Value::as_str).unwrap_or(name);
    let mut lowest = section("arena_judges", kind);
    lowest.insert("kind".to_owned(), Value::String(kind.to_owned()));
    Value::Table(lowest)
}

fn of_reward(name: &str, reward: &Value) -> Value {
    let kind = reward.get("kind").and_then(Value::as_str).unwrap_or_else(|| kind_of_name(name));
    let mut lowest = section("rewards", kind);
    lowest.insert("kind".to_owned(), Value::String(kind.to_owned()));
    if let (Some(kind), Some(written)) = (KindEntry::named(kind), reward.as_table()) {
        (kind.trim_defaults)(&mut lowest, written);
    }
    Value::Table(lowest)
}

/// Returns the kind of a component that does not name it: `semantic` of `semantic@minilm`.
pub(in crate::recipe) fn kind_of_name(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

fn with_adapters(mut lowest: Value, model: Option<&Value>) -> Value {
    if let (Some(lowest), Some(_)) = (lowest.as_table_mut(), model.and_then(|model| model.get("lora"))) {
        lowest.insert("lora".to_owned(), BUILT_IN["lora"].clone());
    }
    lowest
}

fn section(group: &str, kind: &str) -> Table {
    table(BUILT_IN[group].get(kind)).cloned().unwrap_or_default()
}

fn table(value: Option<&Value>) -> Option<&Table> {
    value.and_then(Value::as_table)
}
