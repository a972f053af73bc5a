//! From the values of components to a total: gates, then the rule by which weighted values become one number.

use super::{RewardSpec, Total};
use std::collections::BTreeMap;

/// A component's value for one completion, or the reason why it is missing.
pub(super) type Rated = Result<f64, String>;

/// The gates and the total of a mix. Components are named by their position in alphabetical order.
pub(super) struct Arithmetic {
    names: Vec<String>,
    /// The components with gates, each after those that it requires, with the positions of the required ones.
    gates: Vec<(usize, Vec<usize>)>,
    rule: Rule,
}

/// [`Total`] with positions instead of names.
enum Rule {
    Sum,
    Min,
    Product,
    FloorMean(Vec<usize>),
}

impl Arithmetic {
    /// Creates the arithmetic of a mix. A name that the mix lacks is left out.
    pub(super) fn new(spec: &BTreeMap<String, RewardSpec>, total: &Total) -> Self {
        let names: Vec<String> = spec.keys().cloned().collect();
        let place = |name: &String| names.binary_search(name).ok();
        let gates = gate_order(spec).into_iter().filter_map(|name| {
            let required: Vec<usize> = spec[name].requires.iter().filter_map(place).collect();
            (!required.is_empty()).then_some((names.iter().position(|other| other == name)?, required))
        });
        let gates = gates.collect();
        let rule = match total {
            Total::Sum => Rule::Sum,
            Total::Min => Rule::Min,
            Total::Product => Rule::Product,
            Total::FloorMean { floor } => Rule::FloorMean(floor.iter().filter_map(place).collect()),
        };
        Self { names, gates, rule }
    }

    /// Applies the gates to the values of one completion.
    ///
    /// A gated value is 0 where a required value is 0 or less. It is missing where it depends on a missing one.
    pub(super) fn gate(&self, values: &mut [Rated]) {
        for (gated, required) in &self.gates {
            let is_closed = |place: &usize| matches!(values[*place], Ok(value) if value <= 0.0);
            if required.iter().any(is_closed) {
                values[*gated] = Ok(0.0);
            } else if let Some(missing) = required.iter().find(|place| values[**place].is_err()) {
                values[*gated] = Err(format!("`{}`, which it requires, is missing", self.names[*missing]));
            }
        }
    }

    /// Returns the total of one completion; `None` where a value with a nonzero weight is missing.
    ///
    /// Components of weight 0 do not count. Without any that counts, the total is 0.
    pub(super) fn total(&self, values: &[Rated], weights: &[f64]) -> Option<f64> {
        let counting = || values.iter().zip(weights).enumerate().filter(|(_, (_, weight))| **weight != 0.0);
        let mut parts: Vec<(usize, f64)> = Vec::with_capacity(values.len());
        for (place, (value, weight)) in counting() {
            parts.push((place, weight * value.as_ref().ok()?));
        }
        let all = || parts.iter().map(|(_, part)| *part);
        let sum = || all().fold(0.0, |total, part| total + part);
        if parts.is_empty() {
            return Some(0.0);
        }
        Some(match &self.rule {
            Rule::Sum => sum(),
            Rule::Min => all().fold(f64::INFINITY, f64::min),
            Rule::Product => all().product(),
            Rule::FloorMean(floor) => {
                let mean = sum() / parts.len() as f64;
                parts.iter().filter(|(place, _)| floor.contains(place)).fold(mean, |least, (_, part)| least.min(*part))
            }
        })
    }
}

/// Returns the names of `spec` in an order in which each comes after those that it requires. Components of a cycle are
/// left out.
fn gate_order(spec: &BTreeMap<String, RewardSpec>) -> Vec<&String> {
    let mut done: Vec<&String> = Vec::new();
    loop {
        let is_next = |(name, reward): &(&String, &RewardSpec)| {
            let is_done = |required: &String| done.contains(&required) || !spec.contains_key(required);
            !done.contains(name) && reward.requires.iter().all(is_done)
        };
        let next: Vec<&String> = spec.iter().filter(is_next).map(|(name, _)| name).collect();
        if next.is_empty() {
            return done;
        }
        done.extend(next);
    }
}

/// Returns the names of components that require each other in a circle; empty without one.
pub fn gate_cycle<'a>(requires: &BTreeMap<&'a str, Vec<&'a str>>) -> Vec<&'a str> {
    for &start in requires.keys() {
        let mut path = vec![start];
        if follow(requires, &mut path) {
            return path;
        }
    }
    Vec::new()
}

/// Extends `path` to a circle that leads back to its first name, if there is one.
fn follow<'a>(requires: &BTreeMap<&'a str, Vec<&'a str>>, path: &mut Vec<&'a str>) -> bool {
    let last = *path.last().expect("a path has a start");
    for &next in requires.get(last).into_iter().flatten() {
        if next == path[0] {
            return true;
        }
        if !path.contains(&next) {
            path.push(next);
            if follow(requires, path) {
                return true;
            }
            path.pop();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::{CorrectnessSpec, Match, Scope};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn spec(names: &[(&str, &[&str])]) -> BTreeMap<String, RewardSpec> {
        let component = || CorrectnessSpec { matching: Match::Choice, pattern: None }.into();
        let of = |&(name, requires): &(&str, &[&str])| {
            let requires = requires.iter().map(|name| (*name).to_owned()).collect();
            let plain = RewardSpec::plain(1.0, Scope::Answer, component());
            (name.to_owned(), RewardSpec { requires, ..plain })
        };
        names.iter().map(of).collect()
    }

    fn floor_mean(floor: &[&str]) -> Total {
        Total::FloorMean { floor: floor.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn total(rule: &Total, values: &[f64], weights: &[f64]) -> Option<f64> {
        let arithmetic = Arithmetic::new(&spec(&[("harmless", &[]), ("helpful", &[]), ("honest", &[])]), rule);
        arithmetic.total(&values.iter().copied().map(Ok).collect::<Vec<Rated>>(), weights)
    }

    #[test]
    fn a_gate_closes_what_requires_it_and_all_that_follows() {
        // alphabetical order is not the order of the gates
        let mix = spec(&[("a", &["b"]), ("b", &["c"]), ("c", &[]), ("d", &[])]);
        let arithmetic = Arithmetic::new(&mix, &Total::Sum);
        let gated = |values: [Rated; 4]| {
            let mut values = values;
            arithmetic.gate(&mut values);
            values
        };
        assert_eq!(gated([Ok(0.5), Ok(0.25), Ok(1.0), Ok(-1.0)]), [Ok(0.5), Ok(0.25), Ok(1.0), Ok(-1.0)]);
        assert_eq!(gated([Ok(0.5), Ok(0.25), Ok(0.0), Ok(2.0)]), [Ok(0.0), Ok(0.0), Ok(0.0), Ok(2.0)]);
        assert_eq!(gated([Ok(0.5), Ok(0.25), Ok(-1.0), Ok(2.0)])[0], Ok(0.0), "below 0 is not positive");
        let unknown = gated([Ok(0.5), Err("no judge".to_owned()), Ok(1.0), Ok(2.0)]);
        assert_eq!(unknown[0], Err("`b`, which it requires, is missing".to_owned()));
        let closed = gated([Err("no judge".to_owned()), Ok(0.0), Ok(1.0), Ok(2.0)]);
        assert_eq!(closed[0], Ok(0.0), "behind a closed gate the value is known");
    }

    #[test]
    fn the_totals_are_those_of_their_formulas() {
        let (values, ones) = ([1.0, 0.55, 0.0], [1.0; 3]);
        assert_eq!(total(&Total::Sum, &values, &[2.0, 0.5, 1.0]), Some(2.0 + 0.275));
        assert_eq!(total(&Total::Min, &values, &ones), Some(0.0));
        assert_eq!(total(&Total::Min, &[-1.0, 0.5, 0.2], &[1.0, -1.0, 1.0]), Some(-1.0));
        assert_eq!(total(&Total::Product, &[0.5, 0.5, 3.0], &[1.0, 2.0, 1.0]), Some(1.5));
        // QA-LIGN (arXiv:2506.08123): min(s_har, mean) of (helpful .55, honest 0, harmless 1) and of (.5, .5, -.5)
        let qa_lign = total(&floor_mean(&["harmless"]), &values, &ones).unwrap();
        assert!((qa_lign - 0.516_666_666_666_666_7).abs() < 1e-12, "{qa_lign}");
        assert_eq!(total(&floor_mean(&["harmless"]), &[-0.5, 0.5, 0.5], &ones), Some(-0.5));
    }

    #[test]
    fn what_has_no_weight_is_not_in_a_total() {
        let weights = [0.0, 1.0, 1.0];
        for rule in [Total::Sum, Total::Min, Total::Product, floor_mean(&["harmless"])] {
            let arithmetic = Arithmetic::new(&spec(&[("harmless", &[]), ("helpful", &[]), ("honest", &[])]), &rule);
            let with = |first: Rated| arithmetic.total(&[first, Ok(0.5), Ok(0.5)], &weights);
            assert!(with(Ok(-9.0)).is_some());
            assert_eq!(with(Ok(-9.0)), with(Err("no value".to_owned())), "{rule:?}");
            assert_eq!(arithmetic.total(&[Ok(1.0), Err("no".to_owned()), Ok(1.0)], &weights), None);
            assert_eq!(arithmetic.total(&[Ok(1.0), Ok(1.0), Ok(1.0)], &[0.0; 3]), Some(0.0));
        }
    }

    #[test]
    fn a_circle_of_gates_is_found() {
        let graph = |edges: &[(&'static str, &[&'static str])]| -> BTreeMap<&'static str, Vec<&'static str>> {
            edges.iter().map(|(name, requires)| (*name, requires.to_vec())).collect()
        };
        assert!(gate_cycle(&graph(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])).is_empty());
        assert_eq!(gate_cycle(&graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])), ["b", "c"]);
        assert_eq!(gate_cycle(&graph(&[("a", &["a"])])), ["a"]);
    }

    proptest! {
        #[test]
        fn a_floor_mean_is_at_most_the_mean_and_the_floor(values in proptest::collection::vec(-1.0..1.0_f64, 3)) {
            let found = total(&floor_mean(&["harmless", "honest"]), &values, &[1.0; 3]).unwrap();
            let mean = values.iter().sum::<f64>() / 3.0;
            prop_assert!(found <= mean + 1e-12 && found <= values[0] && found <= values[2]);
            prop_assert!([mean, values[0], values[2]].iter().any(|bound| (bound - found).abs() < 1e-12));
            prop_assert_eq!(total(&floor_mean(&[]), &values, &[1.0; 3]).map(|x| (x - mean).abs() < 1e-12), Some(true));
        }

        #[test]
        fn every_name_is_gated_after_those_it_requires(edges in proptest::collection::vec((0..6_usize, 0..6_usize), 0..12)) {
            let names = ["a", "b", "c", "d", "e", "f"];
            let mut mix = spec(&names.map(|name| (name, &[][..])));
            for (from, to) in edges.into_iter().filter(|(from, to)| from > to) {
                mix.get_mut(names[from]).unwrap().requires.insert(names[to].to_owned());
            }
            let order = gate_order(&mix);
            prop_assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 6);
            for (place, name) in order.iter().enumerate() {
                prop_assert!(mix[*name].requires.iter().all(|required| order[..place].contains(&required)));
            }
        }
    }
}
