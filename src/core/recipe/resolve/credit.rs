//! `[stages.NAME.credit]` of a `grpo` stage.

use crate::recipe::resolve::resolver::Resolver;
use crate::recipe::spec::{CreditSpec, LossType, RewardSpec, ScaleRewards, SoftReturnSpec};
use crate::recipe::tables::credit::{CreditName, CreditTable};
use crate::recipe::tables::stage::GrpoTable;
use crate::recipe::text::located::KeyPath;
use crate::rewards::credit::{CoalitionRule, OwenSpec, Segmentation, Sign, unfit};
use crate::suggestion::did_you_mean;
use std::collections::BTreeMap;

/// The default of `max_coalitions`, that of the paper's code.
const MAX_COALITIONS: usize = 64;
/// The default of `floor`, that of the paper's code.
const FLOOR: f64 = 0.3;

impl Resolver<'_> {
    /// Returns the credit of the stage, whose reward mix is `rewards`.
    pub(in crate::recipe) fn credit(
        &mut self,
        key: &KeyPath,
        table: &GrpoTable,
        rewards: &BTreeMap<String, RewardSpec>,
    ) -> Option<CreditSpec> {
        let credit = table.credit.as_ref()?;
        let key = key.key("credit");
        if credit.kind != CreditName::Uniform && table.loss_type == LossType::Gspo {
            let message = format!("`{key}` has no effect under `loss_type = \"gspo\"`");
            let help = "the ratio of a whole completion multiplies the sum of its tokens' advantages, whatever each of \
                        them is; choose another `loss_type`";
            self.problem(&key.key("kind"), message, "no effect", help);
        }
        self.check_credit_keys(&key, credit);
        match credit.kind {
            CreditName::Uniform => None,
            CreditName::Owen => self.owen(&key, credit, rewards).map(CreditSpec::Owen),
            CreditName::SoftReturn => self.soft_return(&key, credit, table).map(CreditSpec::SoftReturn),
        }
    }

    /// Reports keys of another kind of credit.
    fn check_credit_keys(&mut self, key: &KeyPath, table: &CreditTable) {
        let of_owen = [
            ("of", table.of.is_some()),
            ("segments", table.segments.is_some()),
            ("coalitions", table.coalitions.is_some()),
            ("max_coalitions", table.max_coalitions.is_some()),
            ("floor", table.floor.is_some()),
            ("sign", table.sign.is_some()),
        ];
        let of_soft_return = [("beta", table.beta.is_some())];
        for (kind, word, keys) in
            [(CreditName::Owen, "owen", &of_owen[..]), (CreditName::SoftReturn, "soft_return", &of_soft_return[..])]
        {
            for (name, _) in keys.iter().filter(|(_, is_set)| *is_set && table.kind != kind) {
                self.no_effect(&key.key(name), &format!("kind = \"{word}\""));
            }
        }
    }

    fn owen(&mut self, key: &KeyPath, table: &CreditTable, rewards: &BTreeMap<String, RewardSpec>) -> Option<OwenSpec> {
        let known: Vec<&str> = rewards.keys().map(String::as_str).collect();
        let Some(of) = &table.of else {
            let help = format!("name one of the components that are rewarded: {}", known.join(", "));
            self.problem(&key.key("kind"), format!("`{key}` needs `of`"), "which component?", help);
            return None;
        };
        let at = key.key("of");
        let Some(reward) = rewards.get(of) else {
            let message = format!("`{at}` names `{of}`, which the stage does not reward");
            self.problem(&at, message, "no such component", did_you_mean(of, "components", &known));
            return None;
        };
        if let Some(why) = unfit(reward.component.measure()) {
            let message = format!("`{at}` names `{of}`, which {why}");
            self.problem(&at, message, "cannot value coalitions", "name a component that reads one text");
            return None;
        }
        let written = table.segments.as_deref().unwrap_or("sentences");
        let Some(segments) = Segmentation::read(written) else {
            let at = key.key("segments");
            let help = "write `sentences`, `clauses` or `words:N`, for example `words:4`";
            self.problem(&at, format!("`{at}` cannot be `{written}`"), "no such segments", help);
            return None;
        };
        Some(OwenSpec {
            of: of.clone(),
            segments,
            coalitions: table.coalitions.unwrap_or(CoalitionRule::Windows),
            max_coalitions: table.max_coalitions.unwrap_or(MAX_COALITIONS),
            floor: table.floor.unwrap_or(FLOOR),
            sign: table.sign.unwrap_or(Sign::Signed),
        })
    }

    fn soft_return(&mut self, key: &KeyPath, table: &CreditTable, stage: &GrpoTable) -> Option<SoftReturnSpec> {
        let Some(beta) = table.beta else {
            let help = "it is the weight of the divergence beside the reward, 0.05 for example";
            self.problem(&key.key("kind"), format!("`{key}` needs `beta`"), "how much?", help);
            return None;
        };
        if stage.scale_rewards != ScaleRewards::None {
            let message = format!("`{key}` adds a divergence to the reward, so the reward must not be scaled");
            let help = "set `scale_rewards = \"none\"`, so that `beta` has the same weight in every group";
            self.problem(&key.key("beta"), message, "beside what?", help);
        }
        Some(SoftReturnSpec { beta })
    }
}
