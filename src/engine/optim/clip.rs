//! Gradient clipping by global norm.

use crate::torch;
use tch::{Kind, Tensor};

/// Scales the gradients of `parameters` down so that their joint 2-norm is at most `max_norm`, as `PyTorch`'s
/// `clip_grad_norm_` does. Returns the norm before clipping. If that norm is not finite, the gradients stay as they
/// are.
pub fn clip_grad_norm<'a>(parameters: impl Iterator<Item = &'a Tensor>, max_norm: f64) -> f64 {
    let grads: Vec<Tensor> = parameters.map(Tensor::grad).filter(Tensor::defined).collect();
    match grads.first() {
        None => 0.0,
        Some(grad) if grad.device().is_cuda() => tch::no_grad(|| clip_together(&grads, max_norm)),
        Some(_) => tch::no_grad(|| clip_one_by_one(grads, max_norm)),
    }
}

fn clip_one_by_one(grads: Vec<Tensor>, max_norm: f64) -> f64 {
    let norms: Vec<Tensor> = grads.iter().map(|grad| grad.to_kind(Kind::Float).norm()).collect();
    let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
    if let Some(factor) = factor(norm, max_norm) {
        for mut grad in grads {
            let _ = grad.g_mul_scalar_(factor);
        }
    }
    norm
}

/// Clips like [`clip_one_by_one`], in a few launches on a GPU.
fn clip_together(grads: &[Tensor], max_norm: f64) -> f64 {
    let norm = torch::norms(grads).norm().double_value(&[]);
    if let Some(factor) = factor(norm, max_norm) {
        torch::multiply_all(grads, &vec![factor; grads.len()]);
    }
    norm
}

/// Returns the factor by which gradients of this norm are scaled; `None` if they stay as they are.
fn factor(norm: f64, max_norm: f64) -> Option<f64> {
    let factor = max_norm / (norm + 1e-6);
    (norm.is_finite() && factor < 1.0).then_some(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn clipping_together_is_clipping_one_by_one() {
        for kind in [Kind::Float, Kind::BFloat16] {
            for max_norm in [0.5, 1e6] {
                let grads: Vec<Tensor> = [[40i64, 3], [1, 1], [7, 90]]
                    .iter()
                    .map(|size| Tensor::randn(size, (Kind::Float, Device::Cpu)).to_kind(kind))
                    .collect();
                let copies = || grads.iter().map(Tensor::copy).collect::<Vec<_>>();
                let (together, one_by_one) = (copies(), copies());
                let norm = clip_together(&together, max_norm);
                let expected = clip_one_by_one(one_by_one.iter().map(Tensor::shallow_clone).collect(), max_norm);
                assert!((norm - expected).abs() < 1e-6 * expected, "{kind:?}: {norm}, expected {expected}");
                let tolerance = if kind == Kind::Float { 1e-6 } else { 1e-2 };
                for (ours, theirs) in together.iter().zip(&one_by_one) {
                    assert!(ours.allclose(theirs, tolerance, 1e-9, false), "{kind:?}");
                }
            }
        }
    }
}
