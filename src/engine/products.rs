//! Products with weight matrices on a CPU, as they are fast there.
//!
//! # 32-bit matrices
//!
//! libtorch leaves them to MKL. On AMD's CPUs with AVX2 oneDNN computes them, which libtorch brings too: on Zen 3 it is faster
//! in the forward pass and in the input's gradient. The weight's gradient is always left to MKL, which is faster there.
//! `ORCHESTRATE_FLOAT32_PRODUCTS` (`mkl`, `onednn`) forces the choice.
//!
//! # bfloat16 weights
//!
//! libtorch multiplies bfloat16 matrices fast on a CPU with AVX512-BF16 or AMX. On every other CPU its product takes 7 to 60
//! times as long as that of 32-bit matrices. There the engine computes in 32 bits: activations are 32-bit numbers, and each
//! weight is widened whenever it is used, in the backward pass again. The weights and their gradients stay in bfloat16.
//!
//! The choice is made once for a process ([`choose`]). Like any change of hardware it changes a result's bits and nothing
//! else.

use crate::error::{StageError, StageResult};
use orchestrate_core::cpu::Bfloat16Products;
use orchestrate_core::cpu::{self, BadChoice, Cpu, Float32Products};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use std::ffi::{CStr, c_char};
use std::sync::OnceLock;
use tch::{Device, Kind, Tensor};

/// Forces the choice where no recipe does: for the commands that read none, and for tests.
const VARIABLE: &str = "ORCHESTRATE_RUNTIME__BFLOAT16_PRODUCTS";

/// Whether weights in bfloat16 are widened.
static WIDENED: OnceLock<bool> = OnceLock::new();

/// Decides how this process multiplies with bfloat16 weights on the CPU. A later call changes nothing.
///
/// # Errors
/// The environment asks for what the CPU or the program cannot do.
pub fn choose(wanted: Bfloat16Products) -> StageResult<()> {
    let wanted = match (wanted, std::env::var(VARIABLE)) {
        (Bfloat16Products::Auto, Ok(forced)) => Bfloat16Products::deserialize(forced.as_str().into_deserializer())
            .map_err(|error: serde::de::value::Error| StageError::input(format!("{VARIABLE}: {error}")))?,
        (wanted, _) => wanted,
    };
    let _ = WIDENED.set(wanted.widens(this_cpu()?.fast_bfloat16));
    Ok(())
}

/// The CPU of this process.
///
/// # Errors
/// The environment asks for what the CPU or the program cannot do.
pub fn this_cpu() -> StageResult<&'static Cpu> {
    cpu::cpu().map_err(|bad| StageError::input(bad.to_string()).hinted(BadChoice::HINT))
}

/// How this process multiplies with bfloat16 weights on the CPU.
pub fn bfloat16_products() -> Bfloat16Products {
    if WIDENED.get().is_none() {
        choose(Bfloat16Products::Auto).expect("the environment asks for what the CPU has");
    }
    if *WIDENED.get().expect("it was just chosen") { Bfloat16Products::Widened } else { Bfloat16Products::Native }
}

/// The number format of activations beside weights that are held in `weights` on `device`.
pub fn activations(weights: Kind, device: Device) -> Kind {
    let widens = || bfloat16_products() == Bfloat16Products::Widened;
    if weights == Kind::BFloat16 && device == Device::Cpu && widens() { Kind::Float } else { weights }
}

/// `x W^T + b`, in the number format of x. // (..., in), (out, in), (out,) -> (..., out)
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

/// `x W^T`, of a weight that is widened to the number format of x. // (..., in), (out, in) -> (..., out)
fn product(x: &Tensor, weight: &Tensor, by_onednn: bool) -> Tensor {
    let mut result = std::ptr::null_mut();
    // SAFETY: both pointers are to live tensors, which C++ knows as `at::Tensor`; what is returned is owned by us, the tensor
    // or the message.
    #[expect(unsafe_code, reason = "tch has no autograd function of one's own")]
    unsafe {
        let message = engine_linear(&raw mut result, x.as_ptr().cast(), weight.as_ptr().cast(), by_onednn);
        if !message.is_null() {
            let text = CStr::from_ptr(message).to_string_lossy().into_owned();
            libc::free(message.cast());
            panic!("{text}");
        }
        Tensor::from_ptr(result.cast())
    }
}

/// Counts the products of bfloat16 matrices that libtorch computes on the CPU from now on, in all threads: on a CPU that is slow
/// in bfloat16 there should be none.
#[derive(Debug)]
pub struct ProductCounter(());

impl ProductCounter {
    /// Starts to count; there is one counter in a process.
    pub fn start() -> Self {
        // SAFETY: it registers a function that lives as long as the process.
        #[expect(unsafe_code, reason = "a function of torch/shim.cpp")]
        unsafe {
            engine_count_bfloat16_products();
        }
        Self(())
    }

    /// Products so far.
    pub fn count(&self) -> i64 {
        // SAFETY: it reads an atomic number.
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

    /// The widened product of all its uses: of rows and of batches, of frozen and of trained weights.
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
