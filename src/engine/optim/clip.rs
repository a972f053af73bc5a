//! Gradient clipping by global norm.

use tch::{Kind, Tensor};

/// Scales the gradients of `parameters` down so that their joint 2-norm is at most `max_norm`, as `PyTorch`'s
/// `clip_grad_norm_` does. Returns the norm before clipping. If that norm is not finite, the gradients stay as they
/// are.
pub fn clip_grad_norm<'a>(parameters: impl Iterator<Item = &'a Tensor>, max_norm: f64) -> f64 {
    let grads: Vec<Tensor> = parameters.map(Tensor::grad).filter(Tensor::defined).collect();
    if grads.is_empty() {
        return 0.0;
    }
    tch::no_grad(|| {
        let norms: Vec<Tensor> = grads.iter().map(|grad| grad.to_kind(Kind::Float).norm()).collect();
        let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
        let factor = max_norm / (norm + 1e-6);
        if norm.is_finite() && factor < 1.0 {
            for mut grad in grads {
                let _ = grad.g_mul_scalar_(factor);
            }
        }
        norm
    })
}
