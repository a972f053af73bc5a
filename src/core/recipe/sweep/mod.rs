//! The cells of a sweep.

mod axes;
pub(super) mod cell;
pub(super) mod cells;
pub(super) mod pattern;
