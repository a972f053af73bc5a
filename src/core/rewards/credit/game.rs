//! Shapley and Owen values of segments.

use super::spec::CoalitionRule;
use crate::rewards::draw::bits;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The largest number of segments. A coalition is a set of bits.
const MOST_SEGMENTS: usize = 60;

/// A set of segments, a bit for each.
type Set = u64;

/// The segments of a text, and the coalitions whose values give their credit.
#[derive(Clone, Debug)]
pub(super) struct Game {
    segments: usize,
    way: Way,
}

/// The way in which credits follow from the values of coalitions.
#[derive(Clone, Debug)]
enum Way {
    /// By the weighted mean of the contributions to these coalitions. The weights are those of the Shapley value,
    /// `1 / (n C(n-1, |S|))`, divided by the sum of those that are there.
    Weighted(BTreeSet<Set>),
    /// By the Owen value with these unions of segments. With one union, it is the Shapley value.
    Unions(Vec<Set>),
    /// By the mean contribution in these orders of the segments.
    Orders(Vec<Vec<usize>>),
}

impl Game {
    /// Returns the largest number of segments of which `max_coalitions` can say anything.
    pub(super) fn most_segments(max_coalitions: usize) -> usize {
        max_coalitions.saturating_sub(1).clamp(1, MOST_SEGMENTS)
    }

    /// Creates the game of `segments` segments, which form `unions`, with at most `max_coalitions` coalitions. Where
    /// more would be needed, runs are shorter, or orders of the segments are drawn from `seed`.
    pub(super) fn new(
        segments: usize,
        unions: &[Range<usize>],
        rule: CoalitionRule,
        max_coalitions: usize,
        seed: u64,
    ) -> Self {
        let all = [Range { start: 0, end: segments }];
        let unions = if rule == CoalitionRule::Owen { unions } else { &all };
        let way = match rule {
            CoalitionRule::Windows => Way::Weighted(windows(segments, max_coalitions)),
            CoalitionRule::All | CoalitionRule::Owen => {
                let sets: Vec<Set> = unions.iter().map(|union| run(union.start, union.end)).collect();
                match of_unions(&sets, max_coalitions) {
                    Some(_) => Way::Unions(sets),
                    None => Way::Orders(orders(unions, segments, max_coalitions, seed)),
                }
            }
        };
        Self { segments, way }
    }

    /// Returns the coalitions whose values are needed, each as the indices of its segments. The empty one has the value
    /// 0 and is not among them.
    pub(super) fn coalitions(&self) -> Vec<Vec<usize>> {
        let members = |set: Set| (0..self.segments).filter(|segment| set & (1 << segment) != 0).collect();
        self.sets().into_iter().filter(|set| *set != 0).map(members).collect()
    }

    fn sets(&self) -> BTreeSet<Set> {
        match &self.way {
            Way::Weighted(sets) => sets.clone(),
            Way::Unions(unions) => of_unions(unions, usize::MAX).unwrap_or_default(),
            Way::Orders(orders) => orders.iter().flat_map(|order| prefixes(order)).collect(),
        }
    }

    /// Returns the credit of each segment. `values` are those of [`Game::coalitions`], in that order.
    pub(super) fn credits(&self, values: &[f64]) -> Vec<f64> {
        let sets = self.sets().into_iter().filter(|set| *set != 0);
        let mut known: BTreeMap<Set, f64> = sets.zip(values.iter().copied()).collect();
        known.insert(0, 0.0);
        let gain = |set: Set, segment: usize| Some(known.get(&(set | 1 << segment))? - known.get(&set)?);
        let credit = |segment: usize| match &self.way {
            Way::Weighted(sets) => {
                let without = sets.iter().filter(|set| *set & (1 << segment) == 0);
                let parts = without.filter_map(|set| Some((shapley(self.segments, *set), gain(*set, segment)?)));
                let (weights, sum) =
                    parts.fold((0.0, 0.0), |(all, sum), (weight, gain)| (all + weight, sum + weight * gain));
                if weights > 0.0 { sum / weights } else { 0.0 }
            }
            Way::Unions(unions) => owen(unions, segment, gain),
            Way::Orders(orders) => {
                let gains = orders.iter().filter_map(|order| {
                    let at = order.iter().position(|other| *other == segment)?;
                    gain(order[..at].iter().fold(0, |set, other| set | 1 << other), segment)
                });
                gains.sum::<f64>() / orders.len() as f64
            }
        };
        (0..self.segments).map(credit).collect()
    }
}

/// Returns the set of the segments from `start` to before `end`.
fn run(start: usize, end: usize) -> Set {
    (start..end).fold(0, |set, segment| set | 1 << segment)
}

/// Returns no segment, all segments, and the runs of adjacent segments up to the width at which all of them are at most
/// `max_coalitions`.
fn windows(segments: usize, max_coalitions: usize) -> BTreeSet<Set> {
    let mut found = BTreeSet::from([0, run(0, segments)]);
    for width in 1..segments {
        let starts = segments - width + 1;
        if found.len() - 1 + starts > max_coalitions {
            break;
        }
        found.extend((0..starts).map(|start| run(start, start + width)));
    }
    found
}

/// Returns the coalitions of the Owen value: some of the other unions whole, and some of the segments of one. Returns
/// `None` if they are more than `most`, without the empty one.
fn of_unions(unions: &[Set], most: usize) -> Option<BTreeSet<Set>> {
    let largest = unions.iter().map(|union| union.count_ones()).max().unwrap_or(0);
    if unions.len() + largest as usize > 24 {
        return None; // far more than anyone allows
    }
    let mut found = BTreeSet::new();
    for (place, own) in unions.iter().enumerate() {
        for others in subsets(unions, place) {
            let mut inside = *own;
            loop {
                found.insert(others | inside);
                if found.len() > most.saturating_add(1) {
                    return None;
                }
                if inside == 0 {
                    break;
                }
                inside = (inside - 1) & own;
            }
        }
    }
    Some(found)
}

/// Returns the unions of some of `unions`, except the one at `place`.
fn subsets(unions: &[Set], place: usize) -> Vec<Set> {
    let others: Vec<Set> =
        unions.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, union)| *union).collect();
    (0..1_u64 << others.len())
        .map(|chosen| (0..others.len()).filter(|at| chosen & (1 << at) != 0).fold(0, |set, at| set | others[at]))
        .collect()
}

/// The Owen value of `segment`, by the contribution `gain` to coalitions.
fn owen(unions: &[Set], segment: usize, gain: impl Fn(Set, usize) -> Option<f64>) -> f64 {
    let place = unions.iter().position(|union| union & (1 << segment) != 0).unwrap_or(0);
    let own = unions[place] & !(1 << segment);
    let mut sum = 0.0;
    for others in subsets(unions, place) {
        let chosen = unions.iter().enumerate().filter(|(at, union)| *at != place && others & **union != 0).count();
        let outer = weight(unions.len(), chosen);
        let mut inside = own;
        loop {
            let inner = weight(unions[place].count_ones() as usize, inside.count_ones() as usize);
            sum += outer * inner * gain(others | inside, segment).unwrap_or(0.0);
            if inside == 0 {
                break;
            }
            inside = (inside - 1) & own;
        }
    }
    sum
}

/// The weight of a coalition of `others` players among `players`: `1 / (players C(players-1, others))`.
fn weight(players: usize, others: usize) -> f64 {
    let binomial = (0..others).fold(1.0, |product, at| product * (players - 1 - at) as f64 / (at + 1) as f64);
    1.0 / (players as f64 * binomial)
}

fn shapley(segments: usize, set: Set) -> f64 {
    weight(segments, set.count_ones() as usize)
}

/// Draws orders of the segments in which unions stay together, as many as `max_coalitions` allows.
fn orders(unions: &[Range<usize>], segments: usize, max_coalitions: usize, seed: u64) -> Vec<Vec<usize>> {
    let count = (max_coalitions.saturating_sub(1) / segments.saturating_sub(1).max(1)).max(1);
    let drawn = |order: usize, kind: &str, at: usize| bits(seed, &[kind, &order.to_string(), &at.to_string()]);
    (0..count)
        .map(|order| {
            let mut unions: Vec<(usize, &Range<usize>)> = unions.iter().enumerate().collect();
            unions.sort_by_key(|(at, _)| drawn(order, "union", *at));
            let inside = |(_, union): (usize, &Range<usize>)| {
                let mut members: Vec<usize> = union.clone().collect();
                members.sort_by_key(|at| drawn(order, "segment", *at));
                members
            };
            unions.into_iter().flat_map(inside).collect()
        })
        .collect()
}

/// Returns the sets of the first segments of `order`, from none to all.
fn prefixes(order: &[usize]) -> Vec<Set> {
    let mut set = 0;
    let with = order.iter().map(|segment| {
        set |= 1 << segment;
        set
    });
    std::iter::once(0).chain(with).collect()
}

#[cfg(test)]
#[path = "game_tests.rs"]
mod tests;
