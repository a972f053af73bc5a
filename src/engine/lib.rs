//! The training engine: all code that uses libtorch.
//!
//! Reading order:
//!
//! 1. The models: [`models`].
//! 2. The objective: [`head`] and [`loss`].
//! 3. The optimizers: [`optim`].
//! 4. The training data: [`data`].
//! 5. Sampling: [`generation`].
//! 6. The likelihood of options: [`choice`].
//! 7. The results on disk: [`checkpoint`] and [`completions`].
//! 8. The loop of each stage kind: [`stages`].
//! 9. The commands about a model: [`commands`].
//!
//! Every random draw is seeded from the stage's seed and the draw's purpose ([`seed`]). A stage that resumes after step
//! n therefore continues exactly as if it had never stopped.

#![expect(clippy::many_single_char_names, reason = "tensor code speaks in the letters of its papers")]
#![expect(clippy::cast_possible_truncation, reason = "64-bit numbers become 32-bit tensors on purpose")]

pub mod adapter;
pub mod checkpoint;
pub mod choice;
pub mod classifier;
pub mod commands;
pub mod completions;
pub mod cuda;
pub mod data;
pub mod device;
pub mod encoder;
pub mod error;
pub mod generation;
pub mod head;
pub mod libraries;
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
pub mod torch;
pub mod weights;
