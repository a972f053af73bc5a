//! The training metric that a page shows first.

use std::collections::BTreeMap;

/// Returns the main metric of several arms, among those that are `known`. `mixes` are the reward components with their
/// weights that each arm is trained on.
///
/// It is the reward if all arms have the same mix. Otherwise it is a component that all mixes share, because sums of
/// different components are not comparable. Otherwise it is the loss.
pub fn main_curve(mixes: &[BTreeMap<String, f64>], known: impl Fn(&str) -> bool) -> Option<String> {
    let counting = |mix: &BTreeMap<String, f64>| -> BTreeMap<String, f64> {
        mix.iter().filter(|(_, weight)| **weight != 0.0).map(|(name, weight)| (name.clone(), *weight)).collect()
    };
    let mixes: Vec<BTreeMap<String, f64>> = mixes.iter().map(counting).filter(|mix| !mix.is_empty()).collect();
    let is_one = mixes.windows(2).all(|pair| pair[0] == pair[1]);
    let total = is_one.then(|| "reward/mean".to_owned());
    let first = mixes.first().into_iter().flat_map(BTreeMap::keys);
    let shared =
        first.filter(|name| mixes.iter().all(|mix| mix.contains_key(*name))).map(|name| format!("reward/{name}"));
    let mut candidates = total.into_iter().chain(shared).chain(["train/loss".to_owned()]);
    candidates.find(|name| known(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(parts: &[(&str, f64)]) -> BTreeMap<String, f64> {
        parts.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect()
    }

    #[test]
    fn sums_of_different_components_are_not_shown_first() {
        let rouge = mix(&[("format", 0.5), ("rouge", 1.0), ("semantic", 0.0)]);
        let semantic = mix(&[("format", 0.5), ("semantic", 1.0)]);
        let found = |mixes: &[BTreeMap<String, f64>]| main_curve(mixes, |_| true).unwrap();
        assert_eq!(found(&[rouge.clone(), rouge.clone()]), "reward/mean");
        assert_eq!(found(&[rouge.clone(), semantic, mix(&[])]), "reward/format");
        assert_eq!(found(&[rouge.clone(), mix(&[("cot", 1.0)])]), "train/loss");
        // Another weight makes another sum.
        assert_eq!(found(&[rouge.clone(), mix(&[("format", 0.5), ("rouge", 2.0)])]), "reward/format");
        assert_eq!(main_curve(&[rouge], |name| name == "train/loss").as_deref(), Some("train/loss"));
        assert_eq!(main_curve(&[], |_| false), None);
    }
}
