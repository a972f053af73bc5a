//! Choice of the next pairs of players to compare.

use super::bradley_terry::{EloError, EloScale, Game};
use super::wins::{POINTS_PER_LOG_ODDS, Wins, logistic};

/// Chooses the next `count` pairs to compare, one after the other, given the `games` played so far.
///
/// Returns fewer pairs when no more are open. `is_open(i, j, n)` tests whether i and j, i < j, can meet once more after
/// `n` times in this call. Each choice is the pair (i, j) with the largest
///
/// ```text
/// exp(-d^2 / (2 v)) * w v / (1 + w v),   w = p (1 - p),   p = 1 / (1 + e^-d)
/// ```
///
/// `d` is the lead of i over j in log-odds and `v` its variance under the posterior's normal approximation.
///
/// The first factor is the density of the lead at 0 relative to its maximum. It is 1 where the order of the two is open
/// and 0 where it is settled.
///
/// The second factor is the fraction of the variance that a comparison removes (the Sherman-Morrison formula). It is
/// large between players with few games and falls with every game. So two equally good players do not use up the
/// budget.
///
/// After each choice the variances are those after the comparison, whatever its outcome. The choice is deterministic:
/// among equals, the first pair is chosen.
///
/// # Errors
/// Fails as [`super::bradley_terry`] does: without a prior, ratings may be unbounded.
pub fn choose_pairs(
    players: usize,
    games: &[Game],
    scale: EloScale,
    count: usize,
    is_open: &dyn Fn(usize, usize, usize) -> bool,
) -> Result<Vec<(usize, usize)>, EloError> {
    let wins = Wins::of(players, games);
    let ratings = wins.ratings(scale, &vec![0.0; players])?;
    let strengths: Vec<f64> = ratings.iter().map(|rating| (rating - scale.offset) / POINTS_PER_LOG_ODDS).collect();
    let precision = scale.prior_sd.map_or(0.0, |sd| (POINTS_PER_LOG_ODDS / sd).powi(2));
    let mut covariance = wins.covariance(&strengths, precision);
    let mut chosen: Vec<(usize, usize)> = Vec::with_capacity(count);
    let mut times = vec![0; players * players];
    while chosen.len() < count {
        let mut best: Option<(f64, usize, usize)> = None;
        for i in 0..players {
            for j in i + 1..players {
                let worth = worth(&strengths, &covariance, i, j);
                if best.is_none_or(|(most, ..)| worth > most) && is_open(i, j, times[i * players + j]) {
                    best = Some((worth, i, j));
                }
            }
        }
        let Some((_, i, j)) = best else { break };
        chosen.push((i, j));
        times[i * players + j] += 1;
        compare(&strengths, &mut covariance, i, j);
    }
    Ok(chosen)
}

fn variance(covariance: &[Vec<f64>], i: usize, j: usize) -> f64 {
    covariance[i][i] + covariance[j][j] - 2.0 * covariance[i][j]
}

/// Computes `p (1 - p)` at this lead.
fn information(lead: f64) -> f64 {
    let chance = logistic(lead);
    chance * (1.0 - chance)
}

fn worth(strengths: &[f64], covariance: &[Vec<f64>], i: usize, j: usize) -> f64 {
    let (lead, variance) = (strengths[i] - strengths[j], variance(covariance, i, j));
    let gained = information(lead) * variance;
    (-lead * lead / (2.0 * variance)).exp() * gained / (1.0 + gained)
}

/// Updates `covariance` for one more comparison of i and j.
fn compare(strengths: &[f64], covariance: &mut [Vec<f64>], i: usize, j: usize) {
    let weight = information(strengths[i] - strengths[j]);
    let share = weight / (1.0 + weight * variance(covariance, i, j));
    let along: Vec<f64> = covariance.iter().map(|row| row[i] - row[j]).collect();
    for (row, x) in covariance.iter_mut().zip(&along) {
        for (entry, y) in row.iter_mut().zip(&along) {
            *entry -= share * x * y;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::bradley_terry;
    use crate::stats::testing::assert_near;
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    const SCALE: EloScale = EloScale { offset: 1500.0, prior_sd: Some(400.0) };
    /// Two players far above the others, two in the middle and two below: most pairs are easy to separate.
    const TRUE_RATINGS: [f64; 6] = [1700.0, 1660.0, 1500.0, 1460.0, 1300.0, 1260.0];

    fn played(pair: (usize, usize), rng: &mut ChaCha8Rng, question: usize) -> Game {
        let (first, second) = pair;
        let chance = logistic((TRUE_RATINGS[first] - TRUE_RATINGS[second]) / POINTS_PER_LOG_ODDS);
        let score = f64::from(u8::from(rng.random::<f64>() < chance));
        Game { first, second, score, question }
    }

    /// The number of pairs of players that the ratings have in the wrong order.
    fn errors(games: &[Game]) -> usize {
        let ratings = bradley_terry(TRUE_RATINGS.len(), games, SCALE).unwrap();
        let pairs = (0..ratings.len()).flat_map(|i| (i + 1..ratings.len()).map(move |j| (i, j)));
        pairs.filter(|&(i, j)| ratings[i] <= ratings[j]).count()
    }

    fn chosen(comparisons: usize, seed: u64) -> Vec<Game> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut games = Vec::new();
        while games.len() < comparisons {
            let batch = choose_pairs(TRUE_RATINGS.len(), &games, SCALE, 10, &|_, _, _| true).unwrap();
            games.extend(batch.into_iter().enumerate().map(|(at, pair)| played(pair, &mut rng, at)));
        }
        games
    }

    fn everybody(comparisons: usize, seed: u64) -> Vec<Game> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let n = TRUE_RATINGS.len();
        let pairs: Vec<(usize, usize)> = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).collect();
        (0..comparisons).map(|at| played(pairs[at % pairs.len()], &mut rng, at)).collect()
    }

    #[test]
    fn chosen_pairs_find_the_order_with_fewer_comparisons_than_all_pairs() {
        let wrong = |games: fn(usize, u64) -> Vec<Game>, comparisons: usize| {
            (0..60).map(|seed| errors(&games(comparisons, seed))).sum::<usize>()
        };
        let (adaptive, twice_as_many, full) = (wrong(chosen, 300), wrong(everybody, 600), wrong(everybody, 300));
        assert!(adaptive < full, "{adaptive} wrong pairs against {full}");
        assert!(
            10 * adaptive <= 11 * twice_as_many,
            "{adaptive} wrong pairs against {twice_as_many} with twice the games"
        );
    }

    #[test]
    fn a_pair_that_is_used_up_is_not_chosen() {
        let open = |i: usize, j: usize, times: usize| (i, j) != (0, 1) && times < 2;
        let pairs = choose_pairs(3, &[], SCALE, 100, &open).unwrap();
        assert_eq!(pairs.len(), 4);
        assert!(!pairs.contains(&(0, 1)));
    }

    #[test]
    fn what_a_choice_leaves_is_what_a_game_leaves() {
        let games = everybody(90, 1);
        let wins = Wins::of(6, &games);
        let strengths: Vec<f64> = TRUE_RATINGS.iter().map(|rating| (rating - 1500.0) / POINTS_PER_LOG_ODDS).collect();
        let mut updated = wins.covariance(&strengths, 0.3);
        compare(&strengths, &mut updated, 1, 4);
        let one_more = Game { first: 1, second: 4, score: 0.5, question: 0 };
        let whole = Wins::of(6, games.iter().chain([&one_more])).covariance(&strengths, 0.3);
        for (i, j) in [(1, 4), (0, 2), (3, 4)] {
            assert_near(variance(&updated, i, j), variance(&whole, i, j), 1e-9);
        }
    }

    proptest! {
        #[test]
        fn the_variance_of_a_lead_falls_with_every_game(
            games in prop::collection::vec((0_usize..4, 1_usize..4, 0_u8..3), 1..40)
        ) {
            let games: Vec<Game> = games
                .into_iter()
                .map(|(i, d, score)| Game { first: i, second: (i + d) % 4, score: f64::from(score) / 2.0, question: 0 })
                .collect();
            let strengths = [0.3, -0.2, 0.0, 0.9];
            let before = Wins::of(4, &games[1..]).covariance(&strengths, 0.5);
            let after = Wins::of(4, &games).covariance(&strengths, 0.5);
            for (i, j) in [(0, 1), (0, 2), (1, 3)] {
                prop_assert!(variance(&after, i, j) <= variance(&before, i, j) + 1e-9);
            }
        }
    }
}
