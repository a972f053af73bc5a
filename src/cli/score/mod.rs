//! `orchestrate score RECIPE STAGE`: rates texts with a stage's rewards, in the worker.

mod add;
mod calibration;
mod command;
mod judges;
mod probes;
mod texts;

pub(super) use command::*;
