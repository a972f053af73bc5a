//! The credit of the tokens of a completion.

use crate::rewards::credit::OwenSpec;
use serde::{Deserialize, Serialize};

/// The rule by which the tokens of a completion get their advantages, other than alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreditSpec {
    /// By the Owen values of segments of the text (arXiv:2601.08403).
    Owen(OwenSpec),
    /// By the divergence from the stage's input that is still to come (the objective of ETPO, arXiv:2402.06700).
    SoftReturn(SoftReturnSpec),
}

/// The settings of credit by soft returns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftReturnSpec {
    /// The weight of the divergence.
    pub beta: f64,
}
