//! `[stages.NAME]` of the kind `generate`, and the questions to which generated answers are not trained on.

use crate::recipe::resolve::component_table::ComponentTable;
use crate::recipe::resolve::resolver::{Resolver, stage_need};
use crate::recipe::resolve::{data_sets, reward_mix, stage_data};
use crate::recipe::spec::{GenerateSpec, HeldOut, RewardSpec, Split};
use crate::recipe::tables::generate::GenerateTable;
use crate::recipe::tables::recipe::DataTable;
use crate::recipe::tables::sampling::SamplingTable;
use crate::recipe::tables::stage::StageTable;
use crate::recipe::text::located::KeyPath;
use crate::rewards::{At, check_served_as};
use std::collections::BTreeMap;

impl Resolver<'_> {
    /// Resolves the `generate` stage of `table`.
    pub(in crate::recipe) fn generate(&mut self, key: &KeyPath, table: &GenerateTable) -> Option<GenerateSpec> {
        let rewards_key = key.key("rewards");
        let mut needs = vec![stage_need(key, "prompt")];
        needs.extend(reward_mix::needs(&rewards_key, &table.rewards));
        if table.samples_per_question > 1 && table.temperature == 0.0 {
            let at = key.key("samples_per_question");
            let message =
                format!("`{at}` is {}, but at `temperature = 0` they are all the same", table.samples_per_question);
            self.problem(&at, message, "all the same", "set a `temperature`, 0.8 for instance, or sample once");
        }
        let data = if table.split == Split::Train {
            self.data(&key.key("data"), &table.data, &needs, table.split)
        } else {
            let split = self.held_out(key, ("data", &table.data), ("split", Some(table.split)));
            self.data(&key.key("data"), &table.data, &needs, split)
        };
        let samples = table.samples_per_question;
        reward_mix::check_group(&mut self.files, &rewards_key, &table.rewards, samples, &mut self.found);
        let rewards = reward_mix::resolve(&mut self.files, &rewards_key, &table.rewards, &mut self.found);
        if let Some(judge) = &table.judge {
            self.check_judge(key, judge, table, rewards.as_ref().unwrap_or(&BTreeMap::new()));
        }
        Some(GenerateSpec {
            data_set: table.data.clone(),
            data: data?,
            judge: table.judge.clone(),
            sampling: table.sampling.resolve(self, key, table.temperature),
            samples_per_question: samples,
            batch_size: table.batch_size,
            rewards: rewards?,
            max_missing_fraction: table.max_missing_fraction,
        })
    }

    /// Checks that the judge that answers has a server, and that it is not told what only a model of the recipe
    /// understands.
    fn check_judge(
        &mut self,
        key: &KeyPath,
        judge: &str,
        table: &GenerateTable,
        rewards: &BTreeMap<String, RewardSpec>,
    ) {
        let mut recipe = ComponentTable { files: &mut self.files, key, found: &mut self.found };
        check_served_as(At::Key("judge"), judge, &mut recipe);
        let SamplingTable { min_new_tokens, top_k, min_p, repetition_penalty, .. } = table.sampling;
        let others = [
            ("after", table.after.is_some()),
            ("model", table.model.is_some()),
            ("min_new_tokens", min_new_tokens != 0),
            ("top_k", top_k != 0),
            ("min_p", min_p != 0.0),
            ("repetition_penalty", (repetition_penalty - 1.0).abs() > 0.0),
        ];
        for (name, _) in others.into_iter().filter(|(_, is_set)| *is_set) {
            let at = key.key(name);
            let message = format!("`{at}` has no effect: a judge answers");
            let help = "remove it; a judge takes `temperature`, `top_p`, `max_new_tokens` and `stop_strings`";
            self.problem(&at, message, "no effect", help);
        }
        for (name, _) in rewards.iter().filter(|(_, reward)| reward.component.measure().reads_the_policy()) {
            let at = key.key("rewards").key(name);
            let message = format!("`{at}` measures the policy's distributions, but a judge answers");
            self.problem(&at, message, "has no value", "remove it, or let a model of the recipe answer");
        }
    }

    /// Returns the questions that the evaluations and arenas of the recipe ask.
    pub(in crate::recipe) fn held_out_questions(&mut self) -> Vec<HeldOut> {
        let stages = self.sources.stages;
        let measured = stages.values().flatten().filter_map(|stage| match stage {
            StageTable::Eval(table) => Some((&table.data, table.split)),
            StageTable::Arena(table) => Some((&table.data, table.split)),
            _ => None,
        });
        let mut found: BTreeMap<String, HeldOut> = BTreeMap::new();
        for (name, split) in measured {
            let Some(table) = self.data_table(name).filter(|table| !stage_data::is_generated(table)) else { continue };
            let table = DataTable { join: None, ..table.clone() };
            let split = split.unwrap_or(if table.out_of_domain { Split::All } else { Split::Eval });
            // Rows that a stage also trains on are no secret.
            if split == Split::Train {
                continue;
            }
            let data = data_sets::resolve(&mut self.files, name, &table, split, &mut self.found, &mut self.sources);
            let Some(data) = data else { continue };
            let held_out = HeldOut {
                files: data.files,
                eval_fraction: data.eval_fraction,
                dev_fraction: data.dev_fraction,
                split,
            };
            found.insert(serde_json::to_string(&held_out).expect("it has string keys"), held_out);
        }
        found.into_values().collect()
    }
}
