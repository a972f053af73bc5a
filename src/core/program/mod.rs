//! Programs of the user's: what they are started with, and how they are ended. A `command` stage is one, a `command` reward
//! asks one.
//!
//! A program is started without a shell, with the variables that its recipe names and a few that every program needs, in a
//! process group of its own that ends with whoever started it ([`ProgramProcess`]).

mod command;
mod process;

pub use command::*;
pub use process::{ProgramEnd, ProgramProcess};
