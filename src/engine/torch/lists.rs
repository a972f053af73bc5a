//! Operations on lists of tensors, which a GPU computes in a few launches for the whole list.

use super::{RawTensor, check, raw, raw_list, tensor_of};
use std::ffi::c_char;
use tch::Tensor;

/// Copies each of `sources` into the tensor of `targets` at its place, and converts it.
///
/// # Panics
/// Panics if the lists or the shapes of their tensors differ.
pub fn copy_all(targets: &[Tensor], sources: &[Tensor]) {
    assert_eq!(targets.len(), sources.len(), "every target has a source");
    if targets.is_empty() {
        return;
    }
    let (targets, sources) = (raw_list(targets), raw_list(sources));
    // SAFETY: both lists hold `len` live tensors.
    #[expect(unsafe_code, reason = "a function of lists.cpp")]
    check(unsafe { engine_copy_all(targets.as_ptr(), sources.as_ptr(), targets.len()) });
}

/// Copies like [`copy_all`], with each source multiplied by the factor at its place before it is converted.
///
/// # Panics
/// Panics if the lists or the shapes of their tensors differ.
pub fn copy_all_scaled(targets: &[Tensor], sources: &[Tensor], factors: &[f64]) {
    assert!(targets.len() == sources.len() && targets.len() == factors.len(), "every target has a source and a factor");
    if targets.is_empty() {
        return;
    }
    let (targets, sources) = (raw_list(targets), raw_list(sources));
    // SAFETY: all lists have `len` elements, those of tensors live ones.
    #[expect(unsafe_code, reason = "a function of lists.cpp")]
    check(unsafe { engine_copy_all_scaled(targets.as_ptr(), sources.as_ptr(), factors.as_ptr(), targets.len()) });
}

/// Multiplies each tensor by the factor at its place.
///
/// # Panics
/// Panics if the lists differ in length.
pub fn multiply_all(tensors: &[Tensor], factors: &[f64]) {
    assert_eq!(tensors.len(), factors.len(), "every tensor has a factor");
    if tensors.is_empty() {
        return;
    }
    let tensors = raw_list(tensors);
    // SAFETY: both lists have `len` elements, the first of them live tensors.
    #[expect(unsafe_code, reason = "a function of lists.cpp")]
    check(unsafe { engine_multiply_all(tensors.as_ptr(), factors.as_ptr(), tensors.len()) });
}

/// Sets all elements of the tensors to zero.
pub fn zero_all(tensors: &[Tensor]) {
    if tensors.is_empty() {
        return;
    }
    let tensors = raw_list(tensors);
    // SAFETY: the list holds `len` live tensors.
    #[expect(unsafe_code, reason = "a function of lists.cpp")]
    check(unsafe { engine_zero_all(tensors.as_ptr(), tensors.len()) });
}

/// Returns the 2-norm of each of the tensors, in 32 bits. // (N,)
///
/// # Panics
/// Panics if the list is empty.
pub fn norms(tensors: &[Tensor]) -> Tensor {
    let tensors = raw_list(tensors);
    // SAFETY: the list holds `len` live tensors.
    #[expect(unsafe_code, reason = "a function of lists.cpp")]
    tensor_of(|result| unsafe { engine_norms(result, tensors.as_ptr(), tensors.len()) })
}

/// The tensors and numbers of an update by [`adamw`]. All lists have the same length, and all tensors the same format.
#[derive(Clone, Copy)]
pub struct AdamwInput<'a> {
    /// Tensors to update.
    pub parameters: &'a [Tensor],
    /// Gradient of each.
    pub gradients: &'a [Tensor],
    /// First moment of each.
    pub first: &'a [Tensor],
    /// Second moment of each.
    pub second: &'a [Tensor],
    /// Number of the update, from 1, as a 32-bit number on the device of the parameters. // ()
    pub update: &'a Tensor,
    /// Learning rate.
    pub lr: f64,
    /// Decay rates of the moments.
    pub betas: (f64, f64),
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Number added to the denominator.
    pub eps: f64,
}

/// Updates parameters and moments by AdamW (arXiv:1711.05101), in one pass over them.
///
/// # Panics
/// Panics if the lists differ in length, or with libtorch's message if formats differ.
pub fn adamw(input: AdamwInput<'_>) {
    let lists = [input.parameters, input.gradients, input.first, input.second];
    assert!(lists.iter().all(|list| list.len() == input.parameters.len()), "every parameter has its tensors");
    if input.parameters.is_empty() {
        return;
    }
    let [parameters, gradients, first, second] = lists.map(raw_list);
    // SAFETY: all lists hold `len` live tensors.
    #[expect(unsafe_code, reason = "a function of lists.cpp")]
    let message = unsafe {
        engine_adamw(
            parameters.as_ptr(),
            gradients.as_ptr(),
            first.as_ptr(),
            second.as_ptr(),
            parameters.len(),
            raw(input.update),
            input.lr,
            input.betas.0,
            input.betas.1,
            input.weight_decay,
            input.eps,
        )
    };
    check(message);
}

#[expect(unsafe_code, reason = "functions of lists.cpp")]
unsafe extern "C" {
    fn engine_copy_all(targets: *const RawTensor, sources: *const RawTensor, count: usize) -> *mut c_char;
    fn engine_copy_all_scaled(
        targets: *const RawTensor,
        sources: *const RawTensor,
        factors: *const f64,
        count: usize,
    ) -> *mut c_char;
    fn engine_multiply_all(tensors: *const RawTensor, factors: *const f64, count: usize) -> *mut c_char;
    fn engine_zero_all(tensors: *const RawTensor, count: usize) -> *mut c_char;
    fn engine_norms(result: *mut *mut libc::c_void, tensors: *const RawTensor, count: usize) -> *mut c_char;
    fn engine_adamw(
        parameters: *const RawTensor,
        gradients: *const RawTensor,
        first: *const RawTensor,
        second: *const RawTensor,
        count: usize,
        step: RawTensor,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
    ) -> *mut c_char;
}
