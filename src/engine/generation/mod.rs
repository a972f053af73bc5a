//! Sampling completions: each prompt is read once, its cache shared by the completions of its group, and completions that ended
//! make room for those that wait.
//!
//! Every completion has a generator of its own, so its draws do not depend on its neighbours.

mod decode;
mod draw;
mod stop;

pub use decode::*;
pub use stop::Stop;
