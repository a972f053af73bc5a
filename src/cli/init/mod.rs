//! `orchestrate init [RECIPE]`.

mod command;
mod fields;

pub(super) use command::*;
