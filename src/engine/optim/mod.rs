//! Optimizers whose whole state can be saved and loaded, learning-rate schedules, and gradient clipping.

mod adamw;
mod clip;
mod muon;
mod optimizer;
mod parameter;
mod schedule;

pub use adamw::AdamW;
pub use clip::clip_grad_norm;
pub use muon::Muon;
pub use optimizer::Optimizer;
pub use schedule::lr_multiplier;
