//! Error bars and comparisons: pure functions of numbers, deterministic in their seed.

mod bootstrap;

pub use bootstrap::{Document, Interval, mean_interval, perplexity_interval};
