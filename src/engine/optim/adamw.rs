//! AdamW (arXiv:1711.05101), in `PyTorch`'s order of operations, with its state in the open.

use crate::error::{StageError, StageResult};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// AdamW over a fixed list of parameters. Moments are 32-bit; a parameter in another format has a 32-bit master copy.
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<Parameter>,
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
    updates: i64,
}

#[derive(Debug)]
struct Parameter {
    name: String,
    value: Tensor,
    /// 32-bit copy of a `value` that is not 32-bit itself.
    master: Option<Tensor>,
    first_moment: Tensor,
    second_moment: Tensor,
}

impl AdamW {
    /// An optimizer that has made no update. Weight decay acts on matrices only.
    pub fn new(parameters: Vec<(String, Tensor)>, betas: (f64, f64), eps: f64, weight_decay: f64) -> Self {
        let parameters = parameters
            .into_iter()
            .map(|(name, value)| {
                let zeros = || Tensor::zeros(value.size(), (Kind::Float, value.device()));
                Parameter {
                    name,
                    master: (value.kind() != Kind::Float).then(|| value.detach().to_kind(Kind::Float)),
                    first_moment: zeros(),
                    second_moment: zeros(),
                    value,
                }
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
            for p in &mut self.parameters {
                let grad = p.value.grad();
                if !grad.defined() {
                    continue;
                }
                let grad = grad.to_kind(Kind::Float);
                let mut target = p.master.as_ref().unwrap_or(&p.value).shallow_clone();
                if self.weight_decay != 0.0 && target.dim() >= 2 {
                    let _ = target.g_mul_scalar_(1.0 - lr * self.weight_decay);
                }
                let _ = p.first_moment.lerp_(&grad, 1.0 - beta1);
                let _ = p.second_moment.g_mul_scalar_(beta2);
                let _ = p.second_moment.g_add_(&(&grad * &grad).g_mul_scalar_(1.0 - beta2));
                let denominator = p.second_moment.sqrt().g_div_scalar_(bias_correction2).g_add_scalar_(self.eps);
                let _ = target.g_sub_(&(&p.first_moment / denominator).g_mul_scalar_(step_size));
                if p.master.is_some() {
                    p.value.copy_(&target);
                }
                p.value.zero_grad();
            }
        });
    }

    /// The parameters, in the order of construction.
    pub fn values(&self) -> impl Iterator<Item = &Tensor> {
        self.parameters.iter().map(|p| &p.value)
    }

    /// Everything the next update depends on beside the parameters' values and gradients: the moments, the master
    /// copies, and the number of updates so far.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![("updates".to_owned(), Tensor::from_slice(&[self.updates]))];
        for p in &self.parameters {
            state.push((format!("{}.first_moment", p.name), p.first_moment.shallow_clone()));
            state.push((format!("{}.second_moment", p.name), p.second_moment.shallow_clone()));
            if let Some(master) = &p.master {
                state.push((format!("{}.master", p.name), master.shallow_clone()));
            }
        }
        state
    }

    /// Takes up a saved [`AdamW::state`].
    ///
    /// # Errors
    /// A part that is missing or has another shape, by name.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> StageResult<()> {
        let find = |name: &str| {
            state.get(name).ok_or_else(|| StageError::input(format!("the optimizer state lacks `{name}`")))
        };
        self.updates = find("updates")?.int64_value(&[0]);
        tch::no_grad(|| {
            for p in &mut self.parameters {
                let mut parts = vec![("first_moment", &mut p.first_moment), ("second_moment", &mut p.second_moment)];
                parts.extend(p.master.as_mut().map(|master| ("master", master)));
                for (part, target) in parts {
                    let name = format!("{}.{part}", p.name);
                    let saved = find(&name)?;
                    if saved.size() != target.size() {
                        let sizes = format!("{:?}, expected {:?}", saved.size(), target.size());
                        return Err(StageError::input(format!("optimizer state `{name}` has shape {sizes}")));
                    }
                    target.copy_(saved);
                }
            }
            Ok(())
        })
    }
}
