//! From files to token sequences: rows, split by content; templates over a row's fields; prompts and completions; documents
//! packed into rows.

mod documents;
mod examples;
pub mod order;
pub mod pack;
mod rows;
mod templates;

pub use documents::tokenized_documents;
pub use examples::{Example, prompts, supervised};
pub use rows::{Row, load_rows};
