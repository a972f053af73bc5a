//! The reward mix: typed components and their weighted sum, independent of tensors.
//!
//! Each component has a file ([`component`] describes how to add one). The encoder of `semantic` is passed in as a
//! [`TextEncoder`], the model of `classifier` as a [`TextClassifier`].
//!
//! A value that cannot be computed (no reference, a failed encoder) is *missing*, with a reason, and never 0. A failure
//! of the policy itself, such as a tag that it did not write, is a measured value: 0, the component's lowest.
//!
//! [`RewardMix`] extracts the scopes of the completions ([`span`]), calls every component ([`Reward`]) and adds up the
//! values. [`reward_metrics`] summarizes a step's scores, and [`RewardWatch`] warns of signs of reward hacking.
//! [`calibrate`] measures, before training, how well a mix separates good texts from bad ones. [`Probing`] rates texts
//! that hack rewards. [`JudgeLab`] measures the judges of a mix. [`PairJudges`] compares any two texts.

mod arithmetic;
mod calibration;
pub mod component;
mod component_docs;
mod components;
pub mod credit;
mod draw;
mod mix;
mod probes;
mod remote;
mod reward;
mod reward_hacking;
mod served;
mod shuffle;
mod spec;
mod summary;
mod table;
#[cfg(test)]
mod testing;
mod text;

pub use arithmetic::gate_cycle;
pub use calibration::{Calibration, ComponentCalibration, PER_ROW, Spread, calibrate};
pub use component::{Component, KINDS, KindEntry};
pub use component_docs::{ComponentKey, Page, pages};
pub use components::judge::{
    Agreement, Expenses, JudgeAccess, JudgeError, JudgeLab, JudgeMeasured, JudgeReport, JudgeWriter, Judgement,
    OF_A_PAIR, PAIR_PROMPT, Pair, PairJudges, PairVerdict, PositionBias, Preference, RepeatSpread, WriterAnswer,
    WriterQuestion, WriterSampling, check_served, check_served_as,
};
pub use components::{
    Activation, Aggregate, ClassifierInput, ClassifierSpec, CommandSpec, CorrectnessSpec, CotSpec, Distribution,
    EditLevel, EditSpec, EntropySide, EntropySpec, FormatSpec, Grading, HttpError, HttpSpec, JudgeMode, JudgeSampling,
    JudgeSpec, Leak, LengthSpec, Match, OfReference, Overlap, RandomSpec, RepetitionSpec, RougeMeasure, RougeSpec,
    RougeTokenizer, RougeVariant, RubricScale, SemanticSpec, SeveralReferences, rouge,
};
pub use mix::{BuildError, Columns, RewardContext, RewardMix, RewardMixError, RewardScore, Setup};
pub use probes::{
    Boilerplate, Exploit, Probe, ProbeReport, ProbeTally, Probed, ProbedComponent, Probing, probe_warnings,
};
pub use remote::health_check::{reach_judge, reach_service};
pub use remote::questions::Sent;
pub use remote::stop::StopCheck;
pub use reward::*;
pub use reward_hacking::{RewardWatch, Watched, repeats};
pub use served::{HttpEndpoint, JudgeServer};
pub use shuffle::RowTexts;
pub use spec::{NoScope, OnError, RewardSpec, Scope, TAG_RULE, Total, WeightRamp, is_tag, total_range};
pub use summary::{component_correlations, flat_groups, reward_metrics, spread_shares};
pub use table::{At, CommonTable, RewardTable, TableContext, WeightTable, table_name};
pub use text::spans::{place, span};
pub use text::stem::stem;
