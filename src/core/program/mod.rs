//! Programs supplied by the user, for `command` stages and `command` rewards: how they are started and ended.
//!
//! A program is started without a shell, with the variables that its recipe names and a few that every program needs.
//! It has a process group of its own, which ends with the process that started it ([`ProgramProcess`]).

mod command;
mod process;

pub use command::*;
pub use process::{ProgramEnd, ProgramProcess};
