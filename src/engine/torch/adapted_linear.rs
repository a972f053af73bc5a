//! A frozen linear layer with a low-rank adapter, as one node of the graph.

use super::{RawTensor, raw, raw_or_null, tensor_of};
use std::ffi::c_char;
use tch::Tensor;

/// The matrices of an adapter.
#[derive(Clone, Copy)]
pub struct AdapterMatrices<'a> {
    /// Down-projection, in 32 bits. // (r, in)
    pub a: &'a Tensor,
    /// Up-projection, in 32 bits. // (out, r)
    pub b: &'a Tensor,
    /// A in the number format of activations. // (r, in)
    pub cast_a: &'a Tensor,
    /// `scale` B in the number format of activations. // (out, r)
    pub cast_b: &'a Tensor,
    /// Factor of the update.
    pub scale: f64,
}

/// Computes `x W^T + bias + scale z A^T B^T`, with `own_input` as z, or x if it is absent. The graph reaches the inputs
/// and the 32-bit matrices. // (..., in) -> (..., out)
///
/// # Panics
/// Panics with libtorch's message if shapes or number formats do not fit.
pub fn adapted_linear(
    x: &Tensor,
    own_input: Option<&Tensor>,
    weight: &Tensor,
    bias: Option<&Tensor>,
    adapter: AdapterMatrices<'_>,
) -> Tensor {
    let AdapterMatrices { a, b, cast_a, cast_b, scale } = adapter;
    tensor_of(|result| {
        // SAFETY: all pointers are to live tensors or null where the function allows it.
        #[expect(unsafe_code, reason = "a function of adapted_linear.cpp")]
        unsafe {
            engine_adapted_linear(
                result,
                raw(x),
                raw_or_null(own_input),
                raw(weight),
                raw_or_null(bias),
                raw(a),
                raw(b),
                raw(cast_a),
                raw(cast_b),
                scale,
            )
        }
    })
}

#[expect(unsafe_code, reason = "a function of adapted_linear.cpp")]
unsafe extern "C" {
    fn engine_adapted_linear(
        result: *mut *mut libc::c_void,
        x: RawTensor,
        own_input: RawTensor,
        weight: RawTensor,
        bias: RawTensor,
        a: RawTensor,
        b: RawTensor,
        cast_a: RawTensor,
        cast_b: RawTensor,
        scale: f64,
    ) -> *mut c_char;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Covers both inputs, a bias, and a scale that rounds.
    #[test]
    fn values_and_gradients_are_those_of_libtorchs_own_graph() {
        for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 3e-2)] {
            for has_own_input in [false, true] {
                let random = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
                let (weight, bias) = (random(&[6, 8]).to_kind(kind), random(&[6]).to_kind(kind));
                let (x, z, a, b) = (random(&[5, 8]), random(&[5, 8]), random(&[2, 8]), random(&[6, 2]));
                let scale = 1.3;
                let run = |fused: bool| {
                    let leaf = |t: &Tensor| t.copy().set_requires_grad(true);
                    let (x, z, a, b) = (leaf(&x), leaf(&z), leaf(&a), leaf(&b));
                    let (input, own) = (x.to_kind(kind), z.to_kind(kind));
                    let own = has_own_input.then_some(&own);
                    let y = if fused {
                        let cast = |t: &Tensor, scale: f64| tch::no_grad(|| (t * scale).to_kind(kind));
                        let (cast_a, cast_b) = (cast(&a, 1.0), cast(&b, scale));
                        let adapter = AdapterMatrices { a: &a, b: &b, cast_a: &cast_a, cast_b: &cast_b, scale };
                        adapted_linear(&input, own, &weight, Some(&bias), adapter)
                    } else {
                        let down = own.unwrap_or(&input).linear(&a.to_kind(kind), None::<&Tensor>);
                        let update = down.matmul(&(&b * scale).to_kind(kind).transpose(0, 1));
                        input.linear(&weight, Some(&bias)) + update
                    };
                    y.to_kind(Kind::Float).square().sum(Kind::Float).backward();
                    let grads = if has_own_input { vec![&x, &z, &a, &b] } else { vec![&x, &a, &b] };
                    let grads: Vec<Tensor> = grads.into_iter().map(Tensor::grad).collect();
                    (y.detach().to_kind(Kind::Float), grads)
                };
                let (ours, theirs) = (run(true), run(false));
                let close = |ours: &Tensor, theirs: &Tensor| {
                    let scale = theirs.abs().max().double_value(&[]);
                    (ours - theirs).abs().max().double_value(&[]) <= tolerance * scale
                };
                assert!(close(&ours.0, &theirs.0), "{kind:?}");
                for (index, (ours, theirs)) in ours.1.iter().zip(&theirs.1).enumerate() {
                    assert!(close(ours, theirs), "{kind:?}, own input {has_own_input}, gradient {index}");
                }
            }
        }
    }

    #[test]
    fn without_gradients_there_is_no_graph() {
        let ones = |size: [i64; 2]| Tensor::ones(size, (Kind::Float, Device::Cpu));
        let (x, weight, a, b) = (ones([2, 4]), ones([3, 4]), ones([1, 4]).set_requires_grad(true), ones([3, 1]));
        let adapter = AdapterMatrices { a: &a, b: &b, cast_a: &a.detach(), cast_b: &b, scale: 1.0 };
        assert!(adapted_linear(&x, None, &weight, None, adapter).requires_grad());
        let y = tch::no_grad(|| adapted_linear(&x, None, &weight, None, adapter));
        assert!(!y.requires_grad());
        assert_eq!(y, ones([2, 3]) * 8.0);
    }
}
