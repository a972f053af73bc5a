//! How a training stage updates its parameters: keys that belong together, and those that would have no effect.

use super::located::KeyPath;
use super::resolve::Resolver;
use super::spec::{AdjustLr, Optimizer, Schedule};
use super::stage_file::{OptimizerName, ScheduleName};

/// The keys that say how parameters are updated.
pub(super) struct OptimizerKeys {
    pub(super) betas: (f64, f64),
    pub(super) eps: f64,
    pub(super) momentum: Option<f64>,
    pub(super) adjust_lr: Option<AdjustLr>,
}

impl Resolver<'_> {
    pub(super) fn no_effect(&mut self, key: &KeyPath, without: &str) {
        let message = format!("`{key}` has no effect without `{without}`");
        self.problem(key, message, "no effect", format!("remove it, or set `{without}`"));
    }

    pub(super) fn update_rule(&mut self, key: &KeyPath, name: OptimizerName, keys: &OptimizerKeys) -> Optimizer {
        let OptimizerKeys { betas, eps, momentum, adjust_lr } = *keys;
        if let OptimizerName::Muon = name {
            let (momentum, adjust_lr) = (momentum.unwrap_or(0.95), adjust_lr.unwrap_or(AdjustLr::MatchRmsAdamw));
            return Optimizer::Muon { momentum, adjust_lr, betas, eps };
        }
        for (name, given) in [("momentum", momentum.is_some()), ("adjust_lr", adjust_lr.is_some())] {
            if given {
                self.no_effect(&key.key(name), "optimizer = \"muon\"");
            }
        }
        Optimizer::Adamw { betas, eps }
    }

    pub(super) fn schedule(&mut self, key: &KeyPath, name: ScheduleName, decay_steps: Option<u64>) -> Schedule {
        if let (Some(_), ScheduleName::Constant | ScheduleName::Linear | ScheduleName::Cosine) = (decay_steps, name) {
            self.no_effect(&key.key("decay_steps"), "schedule = \"wsd\"");
        }
        match name {
            ScheduleName::Constant => Schedule::Constant,
            ScheduleName::Linear => Schedule::Linear,
            ScheduleName::Cosine => Schedule::Cosine,
            ScheduleName::Wsd => {
                if decay_steps.is_none() {
                    let message = format!("`{key}.schedule` is `wsd`, which needs `decay_steps`");
                    let help = "a tenth to a fifth of the stage's steps is usual";
                    self.problem(&key.key("schedule"), message, "how long is the decay?", help);
                }
                Schedule::Wsd { decay_steps: decay_steps.unwrap_or_default() }
            }
        }
    }
}
