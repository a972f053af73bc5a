//! Decoding on the CPU: one token a row, straight on the weights' memory.
//!
//! A step of few rows is bound by reading the weights, which the kernels do once and without copies ([`linear`]); activations, keys
//! and values are 32-bit whatever the weights are held in. Prompts are read by libtorch like any other sequence, each by
//! itself, and a row points to its prompt's keys and values: rows of a group share them. So a row's numbers do not depend
//! on which other rows are decoded with it, to the bit.

mod attention;
mod layer;
mod linear;
mod simd;

pub(super) use layer::*;
