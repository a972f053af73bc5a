//! `orchestrate score RECIPE STAGE`: the reward lab, which the worker computes.

mod calibration;
mod command;
mod judges;
mod texts;

pub(super) use command::*;
