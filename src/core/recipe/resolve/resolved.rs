//! The result of resolving a recipe.

use super::arena::FanIn;
use super::command::ProgramRun;
use crate::digest::Digest;
use crate::recipe::spec::{DataSpec, StageSpec, TextUse};
use crate::recipe::text::diagnostic::Place;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A stage of a variant.
#[derive(Clone, Debug)]
pub struct ResolvedStage {
    /// The stage's name in the recipe.
    pub name: String,
    /// The names of the parent stages; only a `command` stage or an `arena` may have several.
    pub after: Vec<String>,
    /// The names of the stages whose results it reads as data, in the order in which the spec refers to them.
    pub sources: Vec<String>,
    /// The name of the stage that must end before this one begins, although it reads nothing of it: the worker of a
    /// training stage writes its snapshots.
    pub follows: Option<String>,
    /// The stage's spec.
    pub spec: StageSpec,
    /// The absolute paths of the content that `spec` names by digest.
    pub inputs: BTreeMap<Digest, PathBuf>,
    /// The settings of how the program of a `command` stage runs.
    pub program: Option<ProgramRun>,
    /// The players of an `arena` beside the stages named in `after`. An arena is one stage for all variants.
    pub fan_in: Option<FanIn>,
    /// The data sets that the stage trains on or measures on, by their names. Not hashed.
    pub data_sets: Vec<NamedData>,
}

/// A data set of a stage, with its name in the recipe.
#[derive(Clone, Debug)]
pub struct NamedData {
    /// The name.
    pub name: String,
    /// The data set as the stage reads it.
    pub data: DataSpec,
    /// The use that the stage makes of it.
    pub used: TextUse,
    /// Whether the stage trains on it; otherwise it measures on it.
    pub is_trained: bool,
    /// The limit of its overlap with evaluation sets.
    pub max_overlap: Option<OverlapLimit>,
}

/// The largest fraction of an evaluation set's questions that a training set may have words in common with.
#[derive(Clone, Debug)]
pub struct OverlapLimit {
    /// The fraction.
    pub fraction: f64,
    /// The place of the value in the recipe.
    pub place: Place,
}

/// A variant of a recipe's sweep.
#[derive(Clone, Debug)]
pub struct ResolvedVariant {
    /// The variant's name, unique in its recipe: `rouge`, `seed=1`, `rouge,seed=1`.
    pub name: String,
    /// The stages, parents first.
    pub stages: Vec<ResolvedStage>,
}
