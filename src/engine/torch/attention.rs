//! Flash attention over sequences of different lengths, in one call on a GPU.

use super::{RawTensor, raw, raw_or_null, tensor_of};
use std::ffi::c_char;
use tch::{Device, Kind, Tensor};

/// Largest size of a head that the kernel computes.
const LARGEST_HEAD: i64 = 256;

/// Whether [`flash_attention`] computes heads of `head_dim` numbers in this format on this device.
pub fn flash_takes(kind: Kind, head_dim: i64, device: Device) -> bool {
    let is_narrow = matches!(kind, Kind::BFloat16 | Kind::Half);
    device.is_cuda() && is_narrow && head_dim % 8 == 0 && head_dim <= LARGEST_HEAD
}

/// The sequences of a call. Their queries lie end to end in one tensor, their keys and values in others.
#[derive(Clone, Copy)]
pub struct FlashInput<'a> {
    /// Queries. // (T, H, D)
    pub q: &'a Tensor,
    /// Keys. // (U, K, D)
    pub k: &'a Tensor,
    /// Values. // (U, K, D)
    pub v: &'a Tensor,
    /// First query of each sequence, and the end of the last, in 32-bit integers. // (N + 1,)
    pub starts_q: &'a Tensor,
    /// First key of each sequence, and the end of the last, in 32-bit integers. // (N + 1,)
    pub starts_k: &'a Tensor,
    /// Number of keys of each sequence that are in use, in 32-bit integers; all of them if absent. // (N,)
    pub used_k: Option<&'a Tensor>,
    /// Number of queries of the longest sequence.
    pub longest_q: i64,
    /// Number of keys of the longest sequence.
    pub longest_k: i64,
}

/// Computes causal attention inside each sequence. The last query of a sequence sees all of its keys, and each query
/// before it one key less. // (T, H, D)
///
/// # Panics
/// Panics with libtorch's message if the kernel does not take the input ([`flash_takes`]).
pub fn flash_attention(input: FlashInput<'_>) -> Tensor {
    tensor_of(|result| {
        // SAFETY: all pointers are to live tensors or null where the function allows it.
        #[expect(unsafe_code, reason = "a function of attention.cpp")]
        unsafe {
            engine_flash_attention(
                result,
                raw(input.q),
                raw(input.k),
                raw(input.v),
                raw(input.starts_q),
                raw(input.starts_k),
                raw_or_null(input.used_k),
                input.longest_q,
                input.longest_k,
                true,
            )
        }
    })
}

#[expect(unsafe_code, reason = "a function of attention.cpp")]
unsafe extern "C" {
    fn engine_flash_attention(
        result: *mut *mut libc::c_void,
        q: RawTensor,
        k: RawTensor,
        v: RawTensor,
        starts_q: RawTensor,
        starts_k: RawTensor,
        used_k: RawTensor,
        longest_q: i64,
        longest_k: i64,
        causal: bool,
    ) -> *mut c_char;
}
