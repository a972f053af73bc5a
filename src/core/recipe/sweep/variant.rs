//! A variant of a sweep: a whole recipe, with the place of every value.

use crate::recipe::text::diagnostic::Place;
use crate::recipe::text::layers::Layers;
use crate::recipe::text::located::{KeyPath, Step};
use toml::Table;

/// A variant of the recipe: its values and their places.
#[derive(Clone, Debug)]
pub(in crate::recipe) struct Variant<'a> {
    pub(in crate::recipe) name: String,
    pub(in crate::recipe) value: Table,
    pub(in crate::recipe) layers: &'a Layers,
    /// The paths that the sweep sets in this variant, each with the path of its value in the recipe.
    pub(in crate::recipe) swept: Vec<(KeyPath, KeyPath)>,
    /// The paths that were removed from `value` because they do not fit the schema. They have been reported, so they
    /// are not reported as missing.
    pub(in crate::recipe) refused: Vec<KeyPath>,
}

impl<'a> Variant<'a> {
    /// Creates the variant of the recipe as written.
    pub(in crate::recipe) fn base(name: &str, value: Table, layers: &'a Layers) -> Self {
        Self { name: name.to_owned(), value, layers, swept: Vec::new(), refused: Vec::new() }
    }

    /// Returns the place where the key at `path`, or the nearest table around it, was set.
    pub(in crate::recipe) fn key_place(&self, path: &KeyPath) -> Place {
        self.nearest(path, Layers::key_place)
    }

    /// Returns the place where the value at `path`, or the nearest table around it, was set.
    pub(in crate::recipe) fn value_place(&self, path: &KeyPath) -> Place {
        self.nearest(path, Layers::value_place)
    }

    /// Whether the sweep sets or unsets the key at `path` itself in this variant.
    pub(in crate::recipe) fn sweep_reaches(&self, path: &KeyPath) -> bool {
        self.swept.iter().any(|(target, _)| target == path)
    }

    fn nearest(&self, path: &KeyPath, find: impl Fn(&Layers, &KeyPath) -> Option<Place>) -> Place {
        (1..=path.0.len())
            .rev()
            .find_map(|length| {
                let steps = &path.0[..length];
                let swept = self.swept.iter().rev().find(|(target, _)| steps.starts_with(&target.0));
                let inside = || self.swept.iter().find(|(target, _)| target.0.starts_with(steps));
                match swept {
                    Some((target, origin)) => find(self.layers, &origin.join(&steps[target.0.len()..])),
                    None => find(self.layers, &KeyPath(steps.to_vec()))
                        .or_else(|| find(self.layers, &strip_index(&inside()?.1))),
                }
            })
            .unwrap_or_else(|| self.layers.beginning())
    }
}

/// Returns the path of the array that contains an item, and any other path unchanged.
pub(in crate::recipe) fn strip_index(path: &KeyPath) -> KeyPath {
    match path.0.split_last() {
        Some((Step::Index(_), steps)) => KeyPath(steps.to_vec()),
        _ => path.clone(),
    }
}
