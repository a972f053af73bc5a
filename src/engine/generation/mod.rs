//! Sampling of completions.
//!
//! Each prompt is read once, and the completions of its group share its cache. Waiting completions take the places of
//! those that have ended.
//!
//! Every completion has its own random generator, so its draws do not depend on the other rows.

mod decode;
mod draw;
mod stop;

pub use decode::*;
pub use stop::Stop;
