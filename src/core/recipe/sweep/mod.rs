//! The variants of a sweep.

mod axes;
pub(super) mod pattern;
pub(super) mod variant;
pub(super) mod variants;
