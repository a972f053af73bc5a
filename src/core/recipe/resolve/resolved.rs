//! What resolving makes of a recipe.

use super::arena::FanIn;
use super::command::ProgramRun;
use crate::digest::Digest;
use crate::recipe::spec::StageSpec;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One stage of one variant.
#[derive(Clone, Debug)]
pub struct ResolvedStage {
    /// Its name in the recipe.
    pub name: String,
    /// The stages it starts from, by name; more than one has only a `command` stage or an `arena`.
    pub after: Vec<String>,
    /// What it does.
    pub spec: StageSpec,
    /// Where the content named by digest in `spec` lies (absolute paths).
    pub inputs: BTreeMap<Digest, PathBuf>,
    /// How the program of a `command` stage is run.
    pub program: Option<ProgramRun>,
    /// Of an `arena`, which is one stage for all variants: who plays beside the stages named in `after`.
    pub fan_in: Option<FanIn>,
}

/// One cell of a recipe's sweep.
#[derive(Clone, Debug)]
pub struct ResolvedVariant {
    /// The cell's name, unique in its recipe: `rouge`, `seed=1`, `rouge,seed=1`.
    pub name: String,
    /// Its stages, parents first.
    pub stages: Vec<ResolvedStage>,
}
