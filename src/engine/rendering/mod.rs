//! Rendering of untrusted templates: those of a recipe's data sets and those that come with a model.

mod render;
mod watch;

pub(crate) use render::{FUEL, render};
pub(crate) use watch::{HINT, on_too_much_memory};
