//! Recipe files as texts: merged from layers, every value knowing where it stands, problems with carets.

pub(super) mod diagnostic;
pub(super) mod hub_reference;
pub(super) mod layers;
pub(super) mod located;
pub(super) mod patterns;
