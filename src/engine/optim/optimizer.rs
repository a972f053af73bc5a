//! The optimizer that a recipe asks for: Muon for the hidden matrices when it says so, AdamW for everything else.

use super::{AdamW, Muon};
use crate::error::StageResult;
use orchestrate::recipe::spec::{self, AdjustLr, OptimizerSpec};
use std::collections::BTreeMap;
use tch::Tensor;

/// Update rules over all that a stage trains.
#[derive(Debug)]
pub struct Optimizer {
    muon: Muon,
    adamw: AdamW,
}

impl Optimizer {
    /// An optimizer over `parameters` that has made no update. With Muon, embeddings, head, norms and biases stay with AdamW.
    pub fn new(parameters: Vec<(String, Tensor)>, spec: &OptimizerSpec) -> Self {
        let (matrices, rest, muon, betas, eps) = match spec.optimizer {
            spec::Optimizer::Adamw { betas, eps } => (Vec::new(), parameters, (0.0, AdjustLr::Original), betas, eps),
            spec::Optimizer::Muon { momentum, adjust_lr, betas, eps } => {
                let (matrices, rest) = parameters.into_iter().partition(|(name, value)| is_hidden_matrix(name, value));
                (matrices, rest, (momentum, adjust_lr), betas, eps)
            }
        };
        Self {
            muon: Muon::new(matrices, muon.0, spec.weight_decay, muon.1),
            adamw: AdamW::new(rest, betas, eps, spec.weight_decay),
        }
    }

    /// Updates every parameter by its gradient with learning rate `lr`, and clears the gradients.
    pub fn step(&mut self, lr: f64) {
        self.muon.step(lr);
        self.adamw.step(lr);
    }

    /// The parameters, in a fixed order.
    pub fn values(&self) -> impl Iterator<Item = &Tensor> {
        self.muon.values().chain(self.adamw.values())
    }

    /// Everything the next update depends on beside the parameters' values and gradients.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.muon.state().into_iter().chain(self.adamw.state()).collect()
    }

    /// Takes up a saved [`Optimizer::state`].
    ///
    /// # Errors
    /// A part that is missing or has another shape, by name.
    pub fn load_state(&mut self, saved: &BTreeMap<String, Tensor>) -> StageResult<()> {
        self.muon.load_state(saved)?;
        self.adamw.load_state(saved)
    }
}

/// A matrix between hidden states; adapters' are too.
fn is_hidden_matrix(name: &str, value: &Tensor) -> bool {
    value.dim() == 2 && !name.ends_with("embed_tokens.weight") && !name.ends_with("lm_head.weight")
}
