//! AdamW (arXiv:1711.05101), in `PyTorch`'s order of operations, with an explicit state.

use super::parameter::{Parameter, find};
use crate::error::StageResult;
use crate::torch::{self, AdamwInput};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

const UPDATES: &str = "updates";
/// Number of weights that are updated at a time on a GPU. Their gradients exist in 32 bits meanwhile.
const TOGETHER: usize = 1 << 26;

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
        if self.parameters.first().is_some_and(|moments| moments.first.device().is_cuda()) {
            self.step_together(lr);
        } else {
            self.step_one_by_one(lr);
        }
    }

    pub(crate) fn step_one_by_one(&mut self, lr: f64) {
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

    /// Updates like [`AdamW::step_one_by_one`], but with libtorch's own update of many tensors at a time, which a GPU
    /// computes in one pass. Its results differ in the last bits.
    pub(crate) fn step_together(&mut self, lr: f64) {
        self.updates += 1;
        let Some(device) = self.parameters.first().map(|moments| moments.first.device()) else { return };
        let update = Tensor::full([0; 0], self.updates, (Kind::Float, device));
        let has_grad = |moments: &&Moments| moments.parameter.value.grad().defined();
        let (matrices, others): (Vec<&Moments>, Vec<&Moments>) =
            self.parameters.iter().filter(has_grad).partition(|moments| moments.parameter.value.dim() >= 2);
        tch::no_grad(|| {
            for (all, weight_decay) in [(matrices, self.weight_decay), (others, 0.0)] {
                for some in batches(&all) {
                    let all =
                        |tensor: fn(&Moments) -> Tensor| -> Vec<Tensor> { some.iter().map(|m| tensor(m)).collect() };
                    let parameters = all(|moments| moments.parameter.target());
                    let gradients = all(|moments| moments.parameter.value.grad());
                    torch::adamw(AdamwInput {
                        parameters: &parameters,
                        gradients: &in_32_bits(&gradients),
                        first: &all(|moments| moments.first.shallow_clone()),
                        second: &all(|moments| moments.second.shallow_clone()),
                        update: &update,
                        lr,
                        betas: self.betas,
                        weight_decay,
                        eps: self.eps,
                    });
                    let (values, masters): (Vec<Tensor>, Vec<Tensor>) = some
                        .iter()
                        .filter_map(|moments| Some((&moments.parameter.value, moments.parameter.master.as_ref()?)))
                        .map(|(value, master)| (value.shallow_clone(), master.shallow_clone()))
                        .unzip();
                    torch::copy_all(&values, &masters);
                    torch::zero_all(&gradients);
                }
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

/// Splits parameters into batches of at most [`TOGETHER`] weights, or one parameter.
fn batches<'a>(all: &'a [&'a Moments]) -> impl Iterator<Item = &'a [&'a Moments]> {
    let mut sum = 0;
    all.chunk_by(move |one, next| {
        sum += one.first.numel();
        let fits = sum + next.first.numel() <= TOGETHER;
        if !fits {
            sum = 0;
        }
        fits
    })
}

/// Returns the gradients as 32-bit tensors, converted together where they are not.
fn in_32_bits(gradients: &[Tensor]) -> Vec<Tensor> {
    let wide = |grad: &Tensor| match grad.kind() {
        Kind::Float => grad.shallow_clone(),
        _ => Tensor::empty(grad.size(), (Kind::Float, grad.device())),
    };
    let wide: Vec<Tensor> = gradients.iter().map(wide).collect();
    let is_narrow = |(grad, _): &(&Tensor, &Tensor)| grad.kind() != Kind::Float;
    let (targets, sources): (Vec<Tensor>, Vec<Tensor>) = gradients
        .iter()
        .zip(&wide)
        .filter(is_narrow)
        .map(|(grad, wide)| (wide.shallow_clone(), grad.shallow_clone()))
        .unzip();
    torch::copy_all(&targets, &sources);
    wide
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// Covers both number formats, weights with and without decay, a parameter without a gradient, and batches.
    #[test]
    fn updates_together_are_those_one_by_one() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let options = (Kind::Float, Device::Cpu);
            let starts: Vec<Tensor> = [[5i64, 4], [3, 7], [1, 1]]
                .iter()
                .map(|size| Tensor::randn(size, options))
                .chain([Tensor::randn([6], options), Tensor::randn([2, 2], options)])
                .map(|t| t.to_kind(kind))
                .collect();
            let grads: Vec<Vec<Tensor>> =
                (0..4).map(|_| starts.iter().map(|t| t.randn_like().to_kind(kind)).collect()).collect();
            let run = |step: fn(&mut AdamW, f64)| {
                let values: Vec<(String, Tensor)> = (0..)
                    .zip(&starts)
                    .map(|(index, t)| (format!("p{index}"), t.copy().set_requires_grad(true)))
                    .collect();
                let tensors: Vec<Tensor> = values.iter().map(|(_, t)| t.shallow_clone()).collect();
                let mut optimizer = AdamW::new(values, (0.9, 0.98), 1e-8, 0.1);
                for grads in &grads {
                    // the last parameter never has a gradient
                    for (tensor, grad) in tensors.iter().zip(grads).take(4) {
                        (tensor * grad).sum(Kind::Float).backward();
                    }
                    step(&mut optimizer, 1e-2);
                    assert!(tensors[..4].iter().all(|t| t.grad().count_nonzero(None).int64_value(&[]) == 0));
                }
                optimizer.state()
            };
            let (together, one_by_one) = (run(AdamW::step_together), run(AdamW::step_one_by_one));
            assert_eq!(together.len(), one_by_one.len());
            for ((name, ours), (_, theirs)) in together.iter().zip(&one_by_one) {
                let difference = (ours - theirs).abs().max().double_value(&[]);
                assert!(difference < 1e-6, "{kind:?}: {name} differs by {difference}");
            }
        }
    }

    #[test]
    fn batches_hold_all_parameters_in_order() {
        let moments = |count: usize| {
            let values = (0..count).map(|index| {
                let size = i64::try_from(TOGETHER / 2 - 1).unwrap();
                // no memory is used: the parameter is one number, expanded
                (index.to_string(), Tensor::zeros([1], (Kind::Float, Device::Cpu)).expand([size], false))
            });
            let moments = |(name, value): (String, Tensor)| Moments {
                first: value.shallow_clone(),
                second: value.shallow_clone(),
                parameter: Parameter { name, value, master: None },
            };
            values.map(moments).collect::<Vec<_>>()
        };
        for (count, expected) in [(0, vec![]), (1, vec![1]), (2, vec![2]), (5, vec![2, 2, 1])] {
            let all = moments(count);
            let all: Vec<&Moments> = all.iter().collect();
            assert_eq!(batches(&all).map(<[_]>::len).collect::<Vec<_>>(), expected);
        }
    }
}
