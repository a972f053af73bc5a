//! `orchestrate report RUN...`.

mod arms;
mod command;
mod cost;
mod gather;
mod graph;
mod paper;
mod ratings;
mod write;

pub(super) use command::*;
