//! The training engine: all code that uses libtorch.
//!
//! Reading order:
//!
//! 1. [`models`]: the models.
//! 2. [`head`] and [`loss`]: the objective.
//! 3. [`optim`]: the optimizers.
//! 4. [`data`]: the training data.
//! 5. [`generation`]: sampling.
//! 6. [`choice`]: the likelihood of options.
//! 7. [`checkpoint`] and [`completions`]: the results on disk.
//! 8. [`stages`]: the loop of each stage kind.
//! 9. [`commands`]: the commands about a model.
//!
//! Every random draw is seeded from the stage's seed and the draw's purpose ([`seed`]). A stage that resumes after step
//! n therefore continues exactly as if it had never stopped.

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
