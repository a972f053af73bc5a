//! The deduplicated graph of all variants' stages.

use crate::digest::Digest;
use crate::recipe::spec::StageSpec;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Every stage that the recipes on the command line ask for, each once, parents before children.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Stages; [`PlannedStage::parents`] are indices into this list and always smaller than the stage's own.
    pub stages: Vec<PlannedStage>,
    /// One for each cell of each recipe's sweep, in the order of the command line.
    pub variants: Vec<PlannedVariant>,
}

/// One stage of the plan, shared by all variants that need exactly it.
#[derive(Clone, Debug)]
pub struct PlannedStage {
    /// The cache key.
    pub key: Digest,
    /// What the key is the digest of (`key.json`).
    pub key_json: serde_json::Value,
    /// The stage's name in the recipe that mentions it first.
    pub name: String,
    /// Indices of the stages whose checkpoints go into this one.
    pub parents: Vec<usize>,
    /// Labels (`PlannedVariant::label`) of the variants that need it.
    pub variants: Vec<String>,
    /// The hashed specification.
    pub spec: StageSpec,
    /// Where the content named by digest in `spec` lies (absolute paths).
    pub inputs: BTreeMap<Digest, PathBuf>,
    /// Not hashed: where and how often, from the recipe's `[runtime]`.
    pub runtime: crate::recipe::RuntimeSettings,
}

/// One cell of a recipe's sweep.
#[derive(Clone, Debug)]
pub struct PlannedVariant {
    /// The recipe's `name`.
    pub recipe: String,
    /// The cell's name: `rouge`, `seed=1`, `rouge,seed=1`; `base` without a sweep... see `recipe::sweep`.
    pub name: String,
    /// `recipe/name`, unique in a plan.
    pub label: String,
    /// The stages of this cell, by name, parents first.
    pub stages: Vec<(String, usize)>,
}
