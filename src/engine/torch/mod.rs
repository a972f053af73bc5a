//! Functions of libtorch that tch does not bind, through the C++ files in this folder.

mod adapted_linear;
mod attention;
mod determinism;
mod launches;
mod lists;
mod recording;

pub use adapted_linear::{AdapterMatrices, adapted_linear};
pub use attention::{FlashInput, flash_attention, flash_takes};
pub use determinism::Deterministic;
pub use launches::{LaunchCount, as_one_launch};
pub use lists::{AdamwInput, adamw, copy_all, copy_all_scaled, multiply_all, norms, zero_all};
pub use recording::Recording;

use std::ffi::{CStr, c_char};
use tch::Tensor;

/// A tensor as C++ takes it, `const at::Tensor *`.
type RawTensor = *const libc::c_void;

fn raw(tensor: &Tensor) -> RawTensor {
    tensor.as_ptr().cast()
}

fn raw_or_null(tensor: Option<&Tensor>) -> RawTensor {
    tensor.map_or(std::ptr::null(), raw)
}

fn raw_list(tensors: &[Tensor]) -> Vec<RawTensor> {
    tensors.iter().map(raw).collect()
}

/// Checks what a function of the shim returned.
///
/// # Panics
/// Panics with libtorch's message if there is one, as tch does.
fn check(message: *mut c_char) {
    if message.is_null() {
        return;
    }
    // SAFETY: a message is a C string that the caller owns.
    #[expect(unsafe_code, reason = "the shim returns messages as C strings")]
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        libc::free(message.cast());
        text
    };
    panic!("{text}");
}

/// Takes the tensor that `write` stores and the caller owns.
///
/// # Panics
/// Panics with libtorch's message if `write` returns one.
pub(crate) fn tensor_of(write: impl FnOnce(*mut *mut libc::c_void) -> *mut c_char) -> Tensor {
    let mut result = std::ptr::null_mut();
    check(write(&raw mut result));
    // SAFETY: a function of the shim that returns no message has stored a tensor, which the caller owns.
    #[expect(unsafe_code, reason = "the shim returns tensors as pointers")]
    unsafe {
        Tensor::from_ptr(result.cast())
    }
}
