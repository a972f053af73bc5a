//! Decoding on the CPU, one token for each row, directly from the weights' memory.
//!
//! A step of few rows is limited by reading the weights. The kernels read them once and without copies ([`linear`]).
//! Activations, keys and values are 32-bit for any format of the weights.
//!
//! libtorch reads each prompt by itself, and a row refers to its prompt's keys and values, which its group shares. A
//! row's numbers therefore do not depend on the other rows, bit for bit.

mod attention;
mod layer;
mod linear;
mod simd;

pub(super) use layer::*;
