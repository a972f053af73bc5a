//! maj@k: whether the most frequent of k sampled answers is right (arXiv:2203.11171).

use std::collections::BTreeMap;

/// Computes the mean over all subsets of `k` of the `votes` of whether the subset's most frequent answer is right.
///
/// A vote is the answer of a sample, and whether it is right. A sample without an answer votes for nothing. Where
/// several answers are the most frequent, the value is the fraction of them that are right, so it is that of a tie
/// broken by chance. A subset without any vote has the value 0. The estimate is unbiased for maj@k of the sampling
/// distribution.
///
/// The subsets are counted by the numbers of votes for each answer. For a right answer with `t` votes, the other
/// answers share the rest with at most `t` each, and every one with exactly `t` splits the win.
///
/// # Panics
/// Panics if `k` is 0 or more than the number of votes.
pub fn maj_at(votes: &[(Option<&str>, bool)], k: usize) -> f64 {
    assert!((1..=votes.len()).contains(&k), "k = {k} of {} samples", votes.len());
    let mut counts: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    let mut silent = 0;
    for (answer, right) in votes {
        match answer {
            Some(answer) => *counts.entry((answer, *right)).or_default() += 1,
            None => silent += 1,
        }
    }
    let logs = log_factorials(votes.len());
    let ways = |of: usize, chosen: usize| logs[of] - logs[chosen] - logs[of - chosen];
    let all = ways(votes.len(), k);
    let mut value = 0.0;
    for (right, &count) in counts.iter().filter(|((_, right), _)| *right) {
        let others: Vec<usize> = counts.iter().filter(|(other, _)| *other != right).map(|(_, count)| *count).collect();
        for won in 1..=count.min(k) {
            // chances[j][u]: j of the k are votes for others, and u of the others have `won` votes
            let rest = k - won;
            let most_ties = rest / won;
            let mut chances = vec![vec![0.0; most_ties + 1]; rest + 1];
            chances[0][0] = (ways(count, won) - all).exp();
            for &other in &others {
                let mut next = vec![vec![0.0; most_ties + 1]; rest + 1];
                for taken in 0..=other.min(won).min(rest) {
                    let factor = ways(other, taken).exp();
                    let tie = usize::from(taken == won);
                    for j in taken..=rest {
                        for u in tie..=most_ties {
                            next[j][u] += factor * chances[j - taken][u - tie];
                        }
                    }
                }
                chances = next;
            }
            for (j, by_ties) in chances.iter().enumerate().filter(|(j, _)| rest - j <= silent) {
                let factor = ways(silent, rest - j).exp();
                value += by_ties.iter().enumerate().map(|(u, chance)| factor * chance / (u + 1) as f64).sum::<f64>();
            }
        }
    }
    value.clamp(0.0, 1.0)
}

/// Returns the natural logarithms of 0! to `most`!.
fn log_factorials(most: usize) -> Vec<f64> {
    let mut sum = 0.0;
    std::iter::once(0.0)
        .chain((1..=most).map(|i| {
            sum += (i as f64).ln();
            sum
        }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The mean over all subsets, each counted.
    fn counted(votes: &[(Option<&str>, bool)], k: usize) -> f64 {
        let subsets: Vec<u32> =
            (0..1 << votes.len()).filter(|subset: &u32| subset.count_ones() as usize == k).collect();
        let value = |subset: &u32| {
            let mut counts: BTreeMap<(&str, bool), usize> = BTreeMap::new();
            for (index, (answer, right)) in votes.iter().enumerate() {
                if let Some(answer) = answer.filter(|_| subset & (1 << index) != 0) {
                    *counts.entry((answer, *right)).or_default() += 1;
                }
            }
            let most = counts.values().max().copied().unwrap_or(0);
            let tied: Vec<bool> = counts.iter().filter(|(_, c)| **c == most).map(|((_, right), _)| *right).collect();
            tied.iter().filter(|right| **right).count() as f64 / tied.len().max(1) as f64
        };
        subsets.iter().map(value).sum::<f64>() / subsets.len() as f64
    }

    #[test]
    fn it_is_the_mean_over_subsets_of_small_samples() {
        let a = (Some("a"), true);
        let (b, c, none) = ((Some("b"), false), (Some("c"), false), (None, false));
        assert!((maj_at(&[a, a, b], 3) - 1.0).abs() < 1e-12);
        assert!((maj_at(&[a, b, c], 3) - 1.0 / 3.0).abs() < 1e-12, "a tie of three");
        assert!((maj_at(&[a, none, none], 3) - 1.0).abs() < 1e-12, "who does not answer does not vote");
        assert!(maj_at(&[none, none], 2).abs() < 1e-12);
        assert!((maj_at(&[a, b, b, a], 1) - 0.5).abs() < 1e-12, "of one sample it is the accuracy");
        // of the six pairs one is a right majority, one a wrong one, and four are ties
        assert!((maj_at(&[a, a, b, b], 2) - (1.0 + 4.0 * 0.5) / 6.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn it_equals_the_mean_over_all_subsets(
            drawn in prop::collection::vec(prop::sample::select(vec!["a", "a2", "b", "c", "d", ""]), 1..=10),
            k in 1..=10_usize,
        ) {
            let vote = |answer: &&'static str| (Some(*answer).filter(|a| !a.is_empty()), answer.starts_with('a'));
            let votes: Vec<(Option<&str>, bool)> = drawn.iter().map(vote).collect();
            let k = k.min(votes.len());
            let (found, expected) = (maj_at(&votes, k), counted(&votes, k));
            prop_assert!((found - expected).abs() < 1e-9, "{votes:?} at {k}: {found}, not {expected}");
        }
    }

    #[test]
    fn many_samples_do_not_overflow() {
        let votes: Vec<(Option<&str>, bool)> =
            (0..1200).map(|i| if i % 5 < 3 { (Some("a"), true) } else { (Some("b"), false) }).collect();
        let found = maj_at(&votes, 101);
        assert!(found > 0.97 && found <= 1.0, "{found}");
    }
}
