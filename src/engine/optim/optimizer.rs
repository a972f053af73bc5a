//! The optimizer of a recipe: AdamW, or Muon for hidden matrices with AdamW for all other parameters.

use super::{AdamW, Muon};
use crate::error::StageResult;
use orchestrate_core::recipe::spec::{self, OptimizerSpec};
use std::collections::BTreeMap;
use tch::Tensor;

/// The update rules for all parameters that a stage trains.
#[derive(Debug)]
pub struct Optimizer {
    muon: Option<Muon>,
    adamw: AdamW,
}

impl Optimizer {
    /// Creates an optimizer over `parameters` before its first update. With Muon, AdamW still updates embeddings, head,
    /// norms and biases.
    pub fn new(parameters: Vec<(String, Tensor)>, spec: &OptimizerSpec) -> Self {
        let adamw = |parameters, betas, eps| AdamW::new(parameters, betas, eps, spec.weight_decay);
        match spec.optimizer {
            spec::Optimizer::Adamw { betas, eps } => Self { muon: None, adamw: adamw(parameters, betas, eps) },
            spec::Optimizer::Muon { momentum, adjust_lr, betas, eps } => {
                let (matrices, rest) = parameters.into_iter().partition(|(name, value)| is_hidden_matrix(name, value));
                let muon = Muon::new(matrices, momentum, spec.weight_decay, adjust_lr);
                Self { muon: Some(muon), adamw: adamw(rest, betas, eps) }
            }
        }
    }

    /// Updates every parameter by its gradient with learning rate `lr`, and clears the gradients.
    pub fn step(&mut self, lr: f64) {
        if let Some(muon) = &mut self.muon {
            muon.step(lr);
        }
        self.adamw.step(lr);
    }

    /// The parameters, in a fixed order.
    pub fn values(&self) -> impl Iterator<Item = &Tensor> {
        self.muon.iter().flat_map(Muon::values).chain(self.adamw.values())
    }

    /// Returns the state on which the next update depends, beside the parameters' values and gradients.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.muon.iter().flat_map(Muon::state).chain(self.adamw.state()).collect()
    }

    /// Restores a saved [`Optimizer::state`].
    ///
    /// # Errors
    /// Returns an error that names a part which is missing or has another shape.
    pub fn load_state(&mut self, saved: &BTreeMap<String, Tensor>) -> StageResult<()> {
        if let Some(muon) = &mut self.muon {
            muon.load_state(saved)?;
        }
        self.adamw.load_state(saved)
    }
}

/// Returns whether a parameter is a matrix between hidden states. Adapters' matrices are.
fn is_hidden_matrix(name: &str, value: &Tensor) -> bool {
    value.dim() == 2 && !name.ends_with("embed_tokens.weight") && !name.ends_with("lm_head.weight")
}
