//! The texts of recipe files: layers are merged, every value has its place, and problems have carets.

pub(super) mod diagnostic;
pub(super) mod hub_reference;
pub(super) mod layers;
pub(super) mod located;
pub(super) mod patterns;
pub(super) mod stage_reference;
