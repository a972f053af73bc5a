//! The training engine: everything that touches libtorch.
//!
//! Reading order: [`models`] (what is computed), [`head`] and [`loss`] (what is optimized), [`optim`] (how), [`data`] (on what),
//! [`generation`] (sampling), [`choice`] (what is likeliest), [`checkpoint`] and [`completions`] (what is kept), [`stages`]
//! (the loops, one file each), [`commands`] (questions about a model).
//!
//! Every random draw is seeded from the stage's seed and what it is for ([`seed`]); so a stage that resumes after step n
//! continues exactly as if it had never stopped.

#![expect(clippy::many_single_char_names, reason = "tensor code speaks in the letters of its papers")]
#![expect(clippy::cast_possible_truncation, reason = "64-bit numbers become 32-bit tensors on purpose")]

pub mod adapter;
pub mod checkpoint;
pub mod choice;
pub mod commands;
pub mod completions;
pub mod data;
pub mod device;
pub mod encoder;
pub mod error;
pub mod generation;
pub mod head;
pub mod loss;
pub mod memory;
pub mod models;
pub mod optim;
pub mod policy;
pub mod products;
mod rendering;
pub mod seed;
pub mod self_test;
pub mod stages;
pub mod tokenizer;
pub mod weights;
