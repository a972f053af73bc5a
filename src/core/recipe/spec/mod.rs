//! The work of a stage, fully resolved: every default is written out, and every file is replaced by the digest of its
//! content.
//!
//! *Everything here and in `rewards` is hashed* into the stage's cache key (`plan::key`), by serialization, without
//! exceptions. Values that must not be hashed (names, paths, devices, intervals) are in `workspace::Assignment`. Maps
//! are ordered and enums externally tagged, so that the serialization is canonical.

mod arena;
mod credit;
mod generate;
mod selection;
mod split;
mod stage;

pub use crate::dtype::Dtype;
pub use crate::program::Argument;
pub use crate::rewards::{
    Activation, Aggregate, ClassifierInput, ClassifierSpec, CommandSpec, Component, CorrectnessSpec, CotSpec,
    Distribution, EditLevel, EditSpec, EntropySide, EntropySpec, FormatSpec, Grading, HttpSpec, JudgeMode,
    JudgeSampling, JudgeSpec, Leak, LengthSpec, Match, OfReference, OnError, RandomSpec, RepetitionSpec, RewardSpec,
    RougeMeasure, RougeSpec, RougeTokenizer, RougeVariant, RubricScale, Scope, SemanticSpec, Sent, SeveralReferences,
    Total, WeightRamp, total_range,
};
pub use arena::{ArenaJudge, ArenaSpec, CompareWith, Pairing, PlayerModel, PlayerSpec};
pub use credit::{CreditSpec, SoftReturnSpec};
pub use generate::GenerateSpec;
pub use selection::{HeldOut, Join, Keep, Selection};
pub use split::{Fractions, Split};
pub use stage::*;
