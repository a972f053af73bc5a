//! `[stages.NAME.credit]` of a `grpo` stage.

use crate::rewards::credit::{CoalitionRule, Sign};
use schemars::JsonSchema;
use serde::Deserialize;

/// How the advantage of a completion is dealt out to its tokens; without this table, all of them get it alike.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreditTable {
    /// The rule by which tokens get their advantages.
    pub kind: CreditName,
    /// Name in `rewards` of the component that values parts of its text, with `kind = "owen"`.
    pub of: Option<String>,
    /// Segments of that text, with `kind = "owen"`: `sentences`, `clauses` or `words:N`; default: `sentences`.
    pub segments: Option<String>,
    /// Coalitions of segments that are valued, with `kind = "owen"`; default: `windows`.
    pub coalitions: Option<CoalitionRule>,
    /// Largest number of coalitions of a completion, with `kind = "owen"`; default: 64.
    #[schemars(range(min = 2))]
    pub max_coalitions: Option<usize>,
    /// Share of the advantage that all tokens get alike, with `kind = "owen"`; default: 0.3.
    #[schemars(range(min = 0, max = 1))]
    pub floor: Option<f64>,
    /// How credits of either sign become shares, with `kind = "owen"`; default: `signed`.
    pub sign: Option<Sign>,
    /// Weight of the divergence from the model that the stage starts from, with `kind = "soft_return"`.
    #[schemars(range(min = 0))]
    pub beta: Option<f64>,
}

/// A rule by which the tokens of a completion get their advantages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CreditName {
    /// Every token gets the advantage of its completion.
    Uniform,
    /// Tokens of segments that earned the reward get more of it (OSPO, arXiv:2601.08403).
    Owen,
    /// A token's advantage is reduced by the divergence of the tokens from it on (the objective of ETPO,
    /// arXiv:2402.06700).
    SoftReturn,
}
