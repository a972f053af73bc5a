//! The number of games that would separate two players.

use super::bootstrap::Interval;
use super::wins::{POINTS_PER_LOG_ODDS, logistic};

/// The largest number of games that is reported.
const MOST: f64 = 1e6;

/// The standard normal's 97.5% quantile, half the width of a 95% interval in standard deviations.
const Z: f64 = 1.959_963_984_540_054;
/// The standard normal's quantile of [`super::POWER`].
const Z_POWER: f64 = 0.841_621_233_572_914;

/// Computes the approximate number of further games after which a lead would be significant with probability
/// [`super::POWER`].
///
/// A lead is significant when its 95% interval excludes 0. `interval` is the present interval around `lead`, in Elo
/// points. The estimate assumes that the true lead is `lead`. 0 if the interval already excludes 0; `None` without a
/// lead, or for more than a million games.
///
/// A game has the information `p (1 - p)` per squared unit of log-odds, where `p` is the win probability of the better
/// player. This is the second derivative of the log-likelihood of R. Bradley and M. Terry's model, and the information
/// of games adds up. Games with others also inform the lead, so the estimate is an upper bound. It assumes independent
/// games: one per question.
pub fn further_games(lead: f64, interval: Interval) -> Option<u64> {
    let lead = lead / POINTS_PER_LOG_ODDS;
    if lead == 0.0 || !lead.is_finite() {
        return None;
    }
    let chance = logistic(lead);
    if interval.low > 0.0 || interval.high < 0.0 {
        return Some(0);
    }
    let wanted = ((Z + Z_POWER) / lead).powi(2);
    let spread = (interval.high - interval.low) / POINTS_PER_LOG_ODDS / (2.0 * Z);
    let known = spread.powi(2).recip();
    let games = ((wanted - known) / (chance * (1.0 - chance))).max(1.0).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "neither negative nor large")]
    (games <= MOST).then_some(games as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{EloScale, Game, bootstrap_bradley_terry, bradley_terry};
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn a_lead_of_12_points_needs_about_6500_games() {
        // with no information so far; for power 0.5 a published comparison has 3,170
        let unknown = Interval { low: -1e9, high: 1e9 };
        let games = further_games(12.1, unknown).unwrap();
        assert!((6400..6600).contains(&games), "{games}");
    }

    #[test]
    fn nothing_more_is_needed_where_the_interval_has_no_0_and_nothing_helps_without_a_lead() {
        assert_eq!(further_games(50.0, Interval { low: 10.0, high: 90.0 }), Some(0));
        assert_eq!(further_games(0.0, Interval { low: -10.0, high: 10.0 }), None);
        assert_eq!(further_games(0.05, Interval { low: -70.0, high: 70.0 }), None, "187 million");
    }

    /// `count` games of two players, of which the first wins 11 in 20.
    fn games(count: usize) -> Vec<Game> {
        let score = |i: usize| f64::from(u8::from(i * 11 % 20 < 11));
        (0..count).map(|i| Game { first: 0, second: 1, score: score(i), question: i }).collect()
    }

    #[test]
    fn after_so_many_games_four_of_five_tries_tell_them_apart() {
        let scale = EloScale { offset: 1500.0, prior_sd: None };
        let lead = |games: &[Game]| {
            let ratings = bradley_terry(2, games, scale).unwrap();
            let bootstrap = bootstrap_bradley_terry(2, games, scale, 400, 1).unwrap();
            (ratings[0] - ratings[1], bootstrap.lead(0, 1).unwrap())
        };
        let (found, interval) = lead(&games(200));
        assert!(interval.low < 0.0 && interval.high > 0.0, "{interval:?}");
        let all = 200 + usize::try_from(further_games(found, interval).unwrap()).unwrap();
        assert!((600..1000).contains(&all), "{all}");
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let chance = 1.0 / (1.0 + 10.0_f64.powf(-found / 400.0));
        let mut told = 0;
        for _ in 0..200 {
            let mut game = |question| Game {
                first: 0,
                second: 1,
                score: f64::from(u8::from(rng.random::<f64>() < chance)),
                question,
            };
            let drawn: Vec<Game> = (0..all).map(&mut game).collect();
            told += u32::from(lead(&drawn).1.low > 0.0);
        }
        assert!((145..=175).contains(&told), "{told} of 200");
    }
}
