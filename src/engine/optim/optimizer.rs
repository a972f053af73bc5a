//! The optimizer that a recipe asks for: Muon for the hidden matrices when it says so, AdamW for everything else.

use super::{AdamW, Muon};
use crate::error::StageResult;
use orchestrate_core::recipe::spec::{self, OptimizerSpec};
use std::collections::BTreeMap;
use tch::Tensor;

/// Update rules over all that a stage trains.
#[derive(Debug)]
pub struct Optimizer {
    muon: Option<Muon>,
    adamw: AdamW,
}

impl Optimizer {
    /// An optimizer over `parameters` that has made no update. With Muon, embeddings, head, norms and biases stay with AdamW.
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

    /// Everything the next update depends on beside the parameters' values and gradients.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.muon.iter().flat_map(Muon::state).chain(self.adamw.state()).collect()
    }

    /// Takes up a saved [`Optimizer::state`].
    ///
    /// # Errors
    /// A part that is missing or has another shape, by name.
    pub fn load_state(&mut self, saved: &BTreeMap<String, Tensor>) -> StageResult<()> {
        if let Some(muon) = &mut self.muon {
            muon.load_state(saved)?;
        }
        self.adamw.load_state(saved)
    }
}

/// A matrix between hidden states; adapters' are too.
fn is_hidden_matrix(name: &str, value: &Tensor) -> bool {
    value.dim() == 2 && !name.ends_with("embed_tokens.weight") && !name.ends_with("lm_head.weight")
}
