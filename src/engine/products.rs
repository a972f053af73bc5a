//! Products with weight matrices on a CPU, by the fastest implementation.
//!
//! # 32-bit matrices
//!
//! libtorch leaves them to MKL. On AMD's CPUs with AVX2, oneDNN computes them, which is part of libtorch too. On Zen 3
//! it is faster in the forward pass and for the input's gradient. MKL always computes the weight's gradient, where it
//! is faster. `ORCHESTRATE_FLOAT32_PRODUCTS` (`mkl`, `onednn`) forces the choice.
//!
//! # bfloat16 weights
//!
//! libtorch multiplies bfloat16 matrices fast on a CPU with AVX512-BF16 or AMX. On every other CPU its product takes 7
//! to 60 times as long as that of 32-bit matrices. There the engine computes in 32 bits. Activations are 32-bit
//! numbers, and each weight is widened whenever it is used, including in the backward pass. The weights and their
//! gradients stay in bfloat16.
//!
//! The choice is made once for a process ([`choose`]). Like a change of hardware, it may change the low bits of a
//! result.

use crate::error::{StageError, StageResult};
use crate::torch;
use orchestrate_core::cpu::Bfloat16Products;
use orchestrate_core::cpu::{self, BadChoice, Cpu, Float32Products};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use std::ffi::c_char;
use std::sync::OnceLock;
use tch::{Device, Kind, Tensor};

/// Environment variable that forces the choice where no recipe does, for commands without a recipe and for tests.
const VARIABLE: &str = "ORCHESTRATE_RUNTIME__BFLOAT16_PRODUCTS";

/// Whether bfloat16 weights are widened.
static WIDENED: OnceLock<bool> = OnceLock::new();

/// Decides how this process multiplies with bfloat16 weights on the CPU. Later calls have no effect.
///
/// # Errors
/// Returns an error if the environment requests something that the CPU or the program does not support.
pub fn choose(wanted: Bfloat16Products) -> StageResult<()> {
    let wanted = match (wanted, std::env::var(VARIABLE)) {
        (Bfloat16Products::Auto, Ok(forced)) => Bfloat16Products::deserialize(forced.as_str().into_deserializer())
            .map_err(|error: serde::de::value::Error| StageError::input(format!("{VARIABLE}: {error}")))?,
        (wanted, _) => wanted,
    };
    let _ = WIDENED.set(wanted.widens(this_cpu()?.fast_bfloat16));
    Ok(())
}

/// Returns the CPU of this process.
///
/// # Errors
/// Returns an error if the environment requests something that the CPU or the program does not support.
pub fn this_cpu() -> StageResult<&'static Cpu> {
    cpu::cpu().map_err(|bad| StageError::input(bad.to_string()).hinted(BadChoice::HINT))
}

/// Returns how this process multiplies with bfloat16 weights on the CPU.
pub fn bfloat16_products() -> Bfloat16Products {
    if WIDENED.get().is_none() {
        choose(Bfloat16Products::Auto).expect("the environment asks for what the CPU has");
    }
    if *WIDENED.get().expect("it was just chosen") { Bfloat16Products::Widened } else { Bfloat16Products::Native }
}

/// Returns the number format of activations for weights in the format `weights` on `device`.
pub fn activations(weights: Kind, device: Device) -> Kind {
    let widens = || bfloat16_products() == Bfloat16Products::Widened;
    if weights == Kind::BFloat16 && device == Device::Cpu && widens() { Kind::Float } else { weights }
}

/// Computes `x W^T + b`, in the number format of x. // (..., in), (out, in), (out,) -> (..., out)
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let by_onednn =
        x.kind() == Kind::Float && x.device() == Device::Cpu && cpu::float32_products() == Float32Products::Onednn;
    if x.kind() == weight.kind() && !by_onednn {
        return x.linear(weight, bias);
    }
    let mut y = product(x, weight, by_onednn);
    match bias {
        Some(bias) => y.g_add_(bias),
        None => y,
    }
}

/// Computes `x W^T` with the weight widened to the number format of x. // (..., in), (out, in) -> (..., out)
fn product(x: &Tensor, weight: &Tensor, by_onednn: bool) -> Tensor {
    torch::tensor_of(|result| {
        // SAFETY: both arguments point to live tensors, which C++ knows as `at::Tensor`.
        #[expect(unsafe_code, reason = "tch has no autograd function of one's own")]
        unsafe {
            engine_linear(result, x.as_ptr().cast(), weight.as_ptr().cast(), by_onednn)
        }
    })
}

/// A counter of the products of bfloat16 matrices that libtorch computes on the CPU, in all threads. On a CPU that is
/// slow in bfloat16 the count should be zero.
#[derive(Debug)]
pub struct ProductCounter(());

impl ProductCounter {
    /// Starts to count. A process has one counter.
    pub fn start() -> Self {
        // SAFETY: the call registers a function that lives as long as the process.
        #[expect(unsafe_code, reason = "a function of torch/shim.cpp")]
        unsafe {
            engine_count_bfloat16_products();
        }
        Self(())
    }

    /// The number of products so far.
    pub fn count(&self) -> i64 {
        // SAFETY: the call reads an atomic number.
        #[expect(unsafe_code, reason = "a function of torch/shim.cpp")]
        unsafe {
            engine_bfloat16_products()
        }
    }
}

#[expect(unsafe_code, reason = "functions of torch/shim.cpp")]
unsafe extern "C" {
    fn engine_count_bfloat16_products();
    fn engine_bfloat16_products() -> i64;
    fn engine_linear(
        result: *mut *mut libc::c_void,
        x: *const libc::c_void,
        weight: *const libc::c_void,
        by_onednn: bool,
    ) -> *mut c_char;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers all uses of the widened product: rows and batches, frozen and trained weights.
    #[test]
    fn a_widened_product_and_its_gradients_are_those_of_the_widened_weight() {
        let options = (Kind::Float, Device::Cpu);
        for (shape, trained) in [([6i64, 5].as_slice(), true), (&[2, 3, 5], true), (&[6, 5], false)] {
            let x = Tensor::randn(shape, options);
            let weight = Tensor::randn([4, 5], options).to_kind(Kind::BFloat16);
            let run = |product: &dyn Fn(&Tensor, &Tensor) -> Tensor| {
                let x = x.copy().set_requires_grad(true);
                let weight = weight.copy().set_requires_grad(trained);
                let y = product(&x, &weight);
                (&y * &y).sum(Kind::Float).backward();
                (y.detach(), x.grad(), if trained { weight.grad() } else { Tensor::new() })
            };
            let ours = run(&|x, weight| product(x, weight, false));
            let theirs = run(&|x, weight| x.linear(&weight.to_kind(Kind::Float), None::<&Tensor>));
            assert_eq!(ours.0, theirs.0);
            assert_eq!(ours.1, theirs.1);
            assert!(!trained || (ours.2 == theirs.2 && ours.2.kind() == Kind::BFloat16));
            // oneDNN may sum in another order
            let onednn = run(&|x, weight| product(x, weight, true));
            let wide = run(&|x, weight| product(x, &weight.to_kind(Kind::Float), true));
            assert_eq!((&onednn.0, &onednn.1), (&wide.0, &wide.1));
            let close = |ours: &Tensor, theirs: &Tensor| ours.allclose(theirs, 1e-5, 1e-5, false);
            assert!(close(&onednn.0, &theirs.0) && close(&onednn.1, &theirs.1));
            assert!(!trained || onednn.2.allclose(&theirs.2, 1e-2, 1e-2, false));
        }
    }

    #[test]
    fn nothing_is_kept_without_gradients_and_errors_are_messages() {
        let x = Tensor::ones([2, 5], (Kind::Float, Device::Cpu));
        let weight = Tensor::ones([4, 5], (Kind::BFloat16, Device::Cpu));
        assert!(!linear(&x, &weight, None).requires_grad());
        for (by_onednn, shape) in [(false, "2x6"), (true, "[2, 6]")] {
            let wrong = std::panic::catch_unwind(|| {
                let x = Tensor::ones([2, 6], (Kind::Float, Device::Cpu));
                product(&x, &Tensor::ones([4, 5], (Kind::BFloat16, Device::Cpu)), by_onednn)
            });
            let message = *wrong.unwrap_err().downcast::<String>().unwrap();
            assert!(message.contains(shape), "{message}");
        }
    }
}
