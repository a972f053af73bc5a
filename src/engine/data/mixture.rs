//! A mixture of data sets, which are drawn in the proportion of their weights.
//!
//! The data set and the item that a position draws are pure functions of (seed, position), so a resumed stage needs
//! only its step. The choice is even rather than random. After every position, each data set has been drawn in
//! proportion to its weight, up to a few draws. Every batch therefore has the mixture's proportions.

use super::order::example_at;
use crate::seed;

/// Number of binary digits of a part's fraction, which is in units of 2^-32.
const WHOLE_BITS: u32 = 32;

/// A weighted mixture of data sets.
#[derive(Debug)]
pub struct Mixture<T> {
    parts: Vec<Portion<T>>,
}

#[derive(Debug)]
struct Portion<T> {
    /// Fraction of the positions that earlier parts do not take, in units of 2^-32.
    share: u64,
    items: Vec<T>,
}

impl<T> Mixture<T> {
    /// Creates a mixture of data sets with their weights.
    ///
    /// # Panics
    /// Panics if there is no data set, if a data set is empty, and if a weight is not positive.
    pub fn new(sets: Vec<(f64, Vec<T>)>) -> Self {
        assert!(!sets.is_empty(), "a mixture has a data set");
        let mut left: f64 = sets.iter().map(|(weight, _)| weight).sum();
        let last = sets.len() - 1;
        let part = |(index, (weight, items)): (usize, (f64, Vec<T>))| {
            assert!(weight > 0.0 && !items.is_empty(), "a data set of a mixture has a weight and items");
            let whole = 1u64 << WHOLE_BITS;
            #[expect(clippy::cast_sign_loss, reason = "shares are positive")]
            let share = ((weight / left * whole as f64).round() as u64).clamp(1, whole);
            left -= weight;
            Portion { share: if index == last { whole } else { share }, items }
        };
        Self { parts: sets.into_iter().enumerate().map(part).collect() }
    }

    /// The number of items in all data sets.
    pub fn count(&self) -> usize {
        self.counts().sum()
    }

    /// The numbers of items of the data sets.
    pub fn counts(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().map(|part| part.items.len())
    }

    /// Returns the index of the data set that `position` draws from.
    pub fn set_at(&self, seed: u64, position: u64) -> usize {
        self.draw(seed, position).0
    }

    /// Returns the item with this index in the data set `set`.
    pub fn item(&self, (set, item): (usize, usize)) -> &T {
        &self.parts[set].items[item]
    }

    /// Returns the item that `position` (from 0) draws: the next item in its data set's own order of the epoch.
    pub fn at(&self, seed: u64, position: u64) -> &T {
        let (part, position) = self.draw(seed, position);
        let items = &self.parts[part].items;
        &items[example_at(seed::derive(seed, &["data", &part.to_string()]), position, items.len())]
    }

    /// Returns the index of the data set that `position` draws from, and the number of draws from it before.
    fn draw(&self, seed: u64, position: u64) -> (usize, u64) {
        let mut position = position;
        for (index, part) in self.parts.iter().enumerate() {
            let phase = seed::derive(seed, &["mixture", &index.to_string()]) >> (64 - WHOLE_BITS);
            let drawn = |before: u64| {
                let drawn = (u128::from(before) * u128::from(part.share) + u128::from(phase)) >> WHOLE_BITS;
                u64::try_from(drawn).expect("no more are drawn than there are positions")
            };
            let before = drawn(position);
            if drawn(position + 1) > before {
                return (index, before);
            }
            position -= before;
        }
        unreachable!("the last data set takes every position that is left")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mixture(weights: &[f64], count: usize) -> Mixture<(usize, usize)> {
        let set = |(set, &weight): (usize, &f64)| (weight, (0..count).map(|item| (set, item)).collect());
        Mixture::new(weights.iter().enumerate().map(set).collect())
    }

    proptest! {
        #[test]
        fn every_prefix_has_the_mixtures_proportions(
            seed: u64, weights in proptest::collection::vec(0.01f64..1.0, 1..6),
        ) {
            let mixture = mixture(&weights, 7);
            let total: f64 = weights.iter().sum();
            let mut drawn = vec![0u64; weights.len()];
            for position in 0..500 {
                let (set, before) = mixture.draw(seed, position);
                prop_assert_eq!(before, drawn[set], "a data set is drawn from without a gap");
                drawn[set] += 1;
                for (count, weight) in drawn.iter().zip(&weights) {
                    let expected = (position + 1) as f64 * weight / total;
                    prop_assert!((*count as f64 - expected).abs() <= weights.len() as f64, "{drawn:?} at {position}");
                }
            }
        }
    }

    #[test]
    fn each_data_set_has_epochs_of_its_own() {
        let mixture = mixture(&[3.0, 1.0], 6);
        let drawn: Vec<(usize, usize)> = (0..64).map(|position| *mixture.at(5, position)).collect();
        for set in 0..2 {
            let items: Vec<usize> = drawn.iter().filter(|(s, _)| *s == set).map(|(_, item)| *item).collect();
            assert_eq!(items.len(), [48, 16][set]);
            for epoch in items.chunks_exact(6) {
                let mut epoch = epoch.to_vec();
                epoch.sort_unstable();
                assert_eq!(epoch, [0, 1, 2, 3, 4, 5], "an epoch of data set {set} is a permutation");
            }
        }
        let from = |start| (start..start + 20).map(|position| *mixture.at(5, position)).collect::<Vec<_>>();
        assert_eq!(from(13), drawn[13..33], "a draw depends on its position alone");
    }

    #[test]
    fn seeds_draw_in_orders_of_their_own() {
        let mixture = mixture(&[0.4, 0.6], 50);
        let order = |seed| (0..50).map(|position| *mixture.at(seed, position)).collect::<Vec<_>>();
        assert_ne!(order(1), order(2));
        assert_eq!(mixture.count(), 100);
    }
}
