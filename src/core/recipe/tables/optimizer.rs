//! How a training stage updates its parameters: the keys of every training stage, and those that would have no effect.

use crate::recipe::resolve::resolver::Resolver;
use crate::recipe::spec::{AdjustLr, Optimizer, OptimizerSpec, Schedule};
use crate::recipe::text::located::KeyPath;
use schemars::JsonSchema;
use serde::Deserialize;

/// Update rules.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// `AdamW` (arXiv:1711.05101).
    Adamw,
    /// Muon (arXiv:2502.16982) for hidden matrices, `AdamW` for the rest.
    Muon,
}

/// Learning-rate schedules, as in transformers' `get_scheduler`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleName {
    /// Stays at `lr`.
    Constant,
    /// Falls linearly to 0 at the last step.
    Linear,
    /// Falls along half a cosine to 0 at the last step.
    Cosine,
    /// Stays at `lr`, then falls linearly to 0 over the last `decay_steps` (arXiv:2404.06395).
    Wsd,
}

/// The keys of a training stage that say how its parameters are updated.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub struct OptimizerTable {
    /// Update rule.
    pub optimizer: OptimizerName,
    /// Peak learning rate.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub lr: f64,
    /// Decoupled weight decay; matrices only.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// Shape of the learning rate after warm-up.
    pub schedule: ScheduleName,
    /// Steps of the final decay of the schedule `wsd`.
    #[schemars(range(min = 1))]
    pub decay_steps: Option<u64>,
    /// Linear warm-up from 0 to `lr` over this many steps.
    pub warmup_steps: u64,
    /// Gradients are scaled down to this norm.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub max_grad_norm: f64,
    /// Decay rates of `AdamW`'s two moments, each at least 0 and below 1.
    pub betas: [f64; 2],
    /// Added to `AdamW`'s denominator.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub eps: f64,
    /// Decay rate of Muon's momentum.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub momentum: Option<f64>,
    /// How Muon's learning rate depends on a matrix's shape.
    pub adjust_lr: Option<AdjustLr>,
}

impl OptimizerTable {
    /// What it says, for the stage at `key`.
    pub(in crate::recipe) fn resolve(&self, resolver: &mut Resolver<'_>, key: &KeyPath) -> OptimizerSpec {
        OptimizerSpec {
            optimizer: self.update_rule(resolver, key),
            lr: self.lr,
            weight_decay: self.weight_decay,
            schedule: self.schedule(resolver, key),
            warmup_steps: self.warmup_steps,
            max_grad_norm: self.max_grad_norm,
        }
    }

    fn update_rule(&self, resolver: &mut Resolver<'_>, key: &KeyPath) -> Optimizer {
        for (index, beta) in self.betas.into_iter().enumerate() {
            if !(0.0..1.0).contains(&beta) {
                let at = key.key("betas").index(index);
                let message = format!("`{at}` must be at least 0 and less than 1, but is {beta}");
                resolver.problem(&at, message, "out of range", "AdamW's usual betas are [0.9, 0.999]");
            }
        }
        let (betas, eps) = ((self.betas[0], self.betas[1]), self.eps);
        match self.optimizer {
            OptimizerName::Muon => {
                // a default that is not there was replaced by something that does not fit, which was reported
                let adjust_lr = self.adjust_lr.unwrap_or(AdjustLr::MatchRmsAdamw);
                Optimizer::Muon { momentum: self.momentum.unwrap_or_default(), adjust_lr, betas, eps }
            }
            OptimizerName::Adamw => {
                for (name, given) in [("momentum", self.momentum.is_some()), ("adjust_lr", self.adjust_lr.is_some())] {
                    if given {
                        resolver.no_effect(&key.key(name), "optimizer = \"muon\"");
                    }
                }
                Optimizer::Adamw { betas, eps }
            }
        }
    }

    fn schedule(&self, resolver: &mut Resolver<'_>, key: &KeyPath) -> Schedule {
        let schedule = match self.schedule {
            ScheduleName::Wsd => {
                if self.decay_steps.is_none() {
                    let message = format!("`{key}.schedule` is `wsd`, which needs `decay_steps`");
                    let help = "a tenth to a fifth of the stage's steps is usual";
                    resolver.problem(&key.key("schedule"), message, "how long is the decay?", help);
                }
                return Schedule::Wsd { decay_steps: self.decay_steps.unwrap_or_default() };
            }
            ScheduleName::Constant => Schedule::Constant,
            ScheduleName::Linear => Schedule::Linear,
            ScheduleName::Cosine => Schedule::Cosine,
        };
        if self.decay_steps.is_some() {
            resolver.no_effect(&key.key("decay_steps"), "schedule = \"wsd\"");
        }
        schedule
    }
}
