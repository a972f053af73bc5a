//! Muon (Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks"; arXiv:2502.16982), in
//! `PyTorch`'s order of operations. An update is the momentum with all singular values brought near 1.

use super::parameter::Parameter;
use crate::error::StageResult;
use crate::products;
use orchestrate_core::recipe::spec::AdjustLr;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Coefficients of the quintic Newton-Schulz iteration, chosen for a steep slope at 0.
const COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);
/// Number of Newton-Schulz iterations.
const ITERATIONS: usize = 5;
/// Lower bound of the norm by which an update is divided.
const EPS: f64 = 1e-7;

/// Muon with Nesterov momentum over matrices.
#[derive(Debug)]
pub struct Muon {
    matrices: Vec<(Parameter, Tensor)>, // each with its momentum
    momentum: f64,
    weight_decay: f64,
    adjust_lr: AdjustLr,
}

impl Muon {
    /// Creates an optimizer before its first update.
    ///
    /// # Panics
    /// Panics if a parameter is not a matrix.
    pub fn new(matrices: Vec<(String, Tensor)>, momentum: f64, weight_decay: f64, adjust_lr: AdjustLr) -> Self {
        let matrices = matrices
            .into_iter()
            .map(|(name, value)| {
                assert_eq!(value.dim(), 2, "Muon is for matrices, `{name}` is none");
                let parameter = Parameter::new(name, value);
                let momentum = parameter.zeros();
                (parameter, momentum)
            })
            .collect();
        Self { matrices, momentum, weight_decay, adjust_lr }
    }

    /// Updates every matrix by its gradient with learning rate `lr`, and clears the gradients.
    pub fn step(&mut self, lr: f64) {
        tch::no_grad(|| {
            for (parameter, momentum) in &mut self.matrices {
                let Some(grad) = parameter.grad() else { continue };
                let _ = momentum.lerp_(&grad, 1.0 - self.momentum);
                let update = orthogonalized(&grad.lerp(momentum, self.momentum));
                let mut target = parameter.target();
                let _ = target.g_mul_scalar_(1.0 - lr * self.weight_decay);
                let adjusted_lr = lr * factor(self.adjust_lr, &target);
                let _ = target.g_sub_(&update.to_kind(Kind::Float).g_mul_scalar_(adjusted_lr));
                parameter.finish();
            }
        });
    }

    /// The matrices, in the order of construction.
    pub fn values(&self) -> impl Iterator<Item = &Tensor> {
        self.matrices.iter().map(|(parameter, _)| &parameter.value)
    }

    /// Returns the state on which the next update depends, beside the matrices' values and gradients.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.matrices.iter().flat_map(|(parameter, momentum)| parameter.state(&[("momentum", momentum)])).collect()
    }

    /// Restores a saved [`Muon::state`].
    ///
    /// # Errors
    /// Returns an error that names a part which is missing or has another shape.
    pub fn load_state(&mut self, saved: &BTreeMap<String, Tensor>) -> StageResult<()> {
        self.matrices
            .iter_mut()
            .try_for_each(|(parameter, momentum)| parameter.load_state(saved, &mut [("momentum", momentum)]))
    }
}

/// Returns the nearest matrix whose singular values are near 1, by five Newton-Schulz iterations. They run in bfloat16,
/// or in 32 bits on a CPU that is slow in bfloat16. // (M, N) -> (M, N)
fn orthogonalized(update: &Tensor) -> Tensor {
    let (a, b, c) = COEFFICIENTS;
    let (rows, columns) = update.size2().expect("update is (M, N)");
    let mut x = update.to_kind(products::activations(Kind::BFloat16, update.device()));
    if rows > columns {
        x = x.transpose(0, 1);
    }
    x = &x / x.norm().clamp_min(EPS);
    for _ in 0..ITERATIONS {
        let gram = x.matmul(&x.transpose(0, 1));
        let gram = addmm(&gram, &gram, &gram, b, c);
        x = addmm(&x, &gram, &x, a, 1.0);
    }
    if rows > columns { x.transpose(0, 1) } else { x }
}

/// Computes `beta input + alpha left right`, rounded once. // (M, N), (M, K), (K, N) -> (M, N)
fn addmm(input: &Tensor, left: &Tensor, right: &Tensor, beta: f64, alpha: f64) -> Tensor {
    // only the batched function takes factors here
    input.unsqueeze(0).baddbmm(&left.unsqueeze(0), &right.unsqueeze(0), beta, alpha).squeeze_dim(0)
}

/// Returns the factor of the learning rate for a matrix of this shape.
fn factor(adjust_lr: AdjustLr, matrix: &Tensor) -> f64 {
    let (rows, columns) = matrix.size2().expect("matrix is (M, N)");
    match adjust_lr {
        AdjustLr::Original => (rows as f64 / columns as f64).max(1.0).sqrt(),
        AdjustLr::MatchRmsAdamw => 0.2 * (rows.max(columns) as f64).sqrt(),
    }
}
