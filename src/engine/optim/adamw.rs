//! AdamW (arXiv:1711.05101), in `PyTorch`'s order of operations, with an explicit state.

use super::parameter::{Parameter, find};
use crate::error::StageResult;
use std::collections::BTreeMap;
use tch::Tensor;

const UPDATES: &str = "updates";

/// AdamW over a fixed list of parameters. Moments are 32-bit. A parameter in another format has a 32-bit master copy.
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<Moments>,
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
    updates: i64,
}

#[derive(Debug)]
struct Moments {
    parameter: Parameter,
    first: Tensor,
    second: Tensor,
}

impl AdamW {
    /// Creates an optimizer before its first update. Weight decay applies to matrices only.
    pub fn new(parameters: Vec<(String, Tensor)>, betas: (f64, f64), eps: f64, weight_decay: f64) -> Self {
        let parameters = parameters
            .into_iter()
            .map(|(name, value)| {
                let parameter = Parameter::new(name, value);
                Moments { first: parameter.zeros(), second: parameter.zeros(), parameter }
            })
            .collect();
        Self { parameters, betas, eps, weight_decay, updates: 0 }
    }

    /// Updates every parameter by its gradient with learning rate `lr`, and clears the gradients.
    pub fn step(&mut self, lr: f64) {
        self.updates += 1;
        let updates = i32::try_from(self.updates).expect("fewer than 2^31 updates");
        let (beta1, beta2) = self.betas;
        let step_size = lr / (1.0 - beta1.powi(updates));
        let bias_correction2 = (1.0 - beta2.powi(updates)).sqrt();
        tch::no_grad(|| {
            for Moments { parameter, first, second } in &mut self.parameters {
                let Some(grad) = parameter.grad() else { continue };
                let mut target = parameter.target();
                if self.weight_decay != 0.0 && target.dim() >= 2 {
                    let _ = target.g_mul_scalar_(1.0 - lr * self.weight_decay);
                }
                let _ = first.lerp_(&grad, 1.0 - beta1);
                let _ = second.g_mul_scalar_(beta2);
                let _ = second.g_add_(&(&grad * &grad).g_mul_scalar_(1.0 - beta2));
                drop(grad);
                let denominator = second.sqrt().g_div_scalar_(bias_correction2).g_add_scalar_(self.eps);
                let _ = target.g_sub_(&(&*first / denominator).g_mul_scalar_(step_size));
                parameter.finish();
            }
        });
    }

    /// The parameters, in the order of construction.
    pub fn values(&self) -> impl Iterator<Item = &Tensor> {
        self.parameters.iter().map(|p| &p.parameter.value)
    }

    /// Returns the state on which the next update depends, beside the parameters' values and gradients. It holds the
    /// moments, the master copies and the number of updates.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![(UPDATES.to_owned(), Tensor::from_slice(&[self.updates]))];
        for Moments { parameter, first, second } in &self.parameters {
            state.extend(parameter.state(&[("first_moment", first), ("second_moment", second)]));
        }
        state
    }

    /// Restores a saved [`AdamW::state`].
    ///
    /// # Errors
    /// Returns an error that names a part which is missing or has another shape.
    pub fn load_state(&mut self, saved: &BTreeMap<String, Tensor>) -> StageResult<()> {
        self.updates = find(saved, UPDATES)?.int64_value(&[0]);
        for Moments { parameter, first, second } in &mut self.parameters {
            parameter.load_state(saved, &mut [("first_moment", first), ("second_moment", second)])?;
        }
        Ok(())
    }
}
