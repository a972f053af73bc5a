//! The data of a stage, from files to batches.
//!
//! ```text
//! files -> rows (`orchestrate_core::data`)             split by content; answers joined, rows left out
//!   -> prompts, conversations, documents              templates rendered over a row's fields, with a mask
//!   -> rows of a batch (sequence, pack)               packed best-fit if the recipe requests it
//!   -> preflight                                      statistics and checks
//!   -> mixture, order                                 drawn by (seed, position) only
//! ```

mod answered;
mod conversations;
mod documents;
mod mixture;
mod options;
pub mod order;
pub mod pack;
pub mod pools;
mod preflight;
mod prompts;
mod sequence;
mod slices;
mod stage_data;
mod templates;
mod turns;

pub use answered::{Answered, answered};
pub use conversations::conversations;
pub use documents::documents;
pub use mixture::Mixture;
pub use options::{Options, options};
pub use preflight::{check, of_prompts, of_sequences};
pub use prompts::{Asked, Example, asked, prompts, row_fields, tokenized};
pub use sequence::{PackedRow, Sequence, one_a_row, packed_rows};
pub use slices::slices;
pub use stage_data::{StageData, cpt, grpo, inspect, row_texts, sft};
