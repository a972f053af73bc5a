//! The components: for each a file or a folder with its keys, their defaults, its spec, and the rating of texts.
//!
//! [`component`](super::component) describes how to add one.

mod classifier;
mod command;
mod correctness;
mod cot;
mod edit;
mod entropy;
mod format;
mod http;
pub(super) mod judge;
mod length;
mod random;
mod repetition;
mod rouge;
mod semantic;

pub use classifier::{Activation, ClassifierInput, ClassifierSpec};
pub use command::CommandSpec;
pub use correctness::{CorrectnessSpec, Match};
pub use cot::{CotSpec, Leak};
pub use edit::{EditLevel, EditSpec};
pub use entropy::{EntropySide, EntropySpec};
pub use format::{FormatSpec, Grading};
pub use http::{HttpError, HttpSpec};
pub use judge::{Aggregate, JudgeMode, JudgeSampling, JudgeSpec, RubricScale};
pub use length::{LengthSpec, OfReference};
pub use random::{Distribution, RandomSpec};
pub use repetition::RepetitionSpec;
pub use rouge::{Overlap, RougeMeasure, RougeSpec, RougeTokenizer, RougeVariant, rouge};
pub use semantic::{SemanticSpec, SeveralReferences};
