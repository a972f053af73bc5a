//! How many games would tell two players apart.

use super::bootstrap::Interval;
use super::wins::{POINTS_PER_LOG_ODDS, logistic};

/// More games than these are not counted.
const MOST: f64 = 1e6;

/// Standard deviations of a normal distribution from its mean to either end of a 95% interval.
const Z: f64 = 1.959_963_984_540_054;

/// Further games between two players, about, after which the 95% interval of the one's lead over the other, now `interval` round
/// `lead` Elo points, would not hold 0 any more, if the lead stays what it is. 0 if it does not already; none without a lead, or where
/// there would have to be more than a million.
///
/// A game between players of this lead has the information `p (1 - p)` per squared unit of log-odds, `p` being the chance of the
/// better one (the second derivative of the log-likelihood of R. Bradley and M. Terry's model), and informations add up. Games
/// with others tell of the lead too, so this is the most that is needed. It counts on independent games: one question each.
pub fn further_games(lead: f64, interval: Interval) -> Option<u64> {
    let lead = lead / POINTS_PER_LOG_ODDS;
    if lead == 0.0 || !lead.is_finite() {
        return None;
    }
    let chance = logistic(lead);
    let wanted = (Z / lead).powi(2);
    let spread = (interval.high - interval.low) / POINTS_PER_LOG_ODDS / (2.0 * Z);
    let known = spread.powi(2).recip();
    let games = ((wanted - known) / (chance * (1.0 - chance))).max(0.0).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "neither negative nor large")]
    (games <= MOST).then_some(games as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::assert_near;
    use crate::stats::{EloScale, Game, Outcome, bootstrap_bradley_terry, bradley_terry};

    #[test]
    fn a_lead_of_12_points_needs_about_3200_games() {
        // with nothing known yet; the number of a published comparison of this size
        let unknown = Interval { low: -1e9, high: 1e9 };
        let games = further_games(12.1, unknown).unwrap();
        assert!((3100..3250).contains(&games), "{games}");
    }

    #[test]
    fn nothing_more_is_needed_where_the_interval_has_no_0_and_nothing_helps_without_a_lead() {
        assert_eq!(further_games(50.0, Interval { low: 10.0, high: 90.0 }), Some(0));
        assert_eq!(further_games(0.0, Interval { low: -10.0, high: 10.0 }), None);
        assert_eq!(further_games(0.05, Interval { low: -70.0, high: 70.0 }), None, "187 million");
    }

    /// `count` games of two players, of which the first wins 11 of 20.
    fn games(count: usize) -> Vec<Game> {
        let outcome = |i: usize| if i * 11 % 20 < 11 { Outcome::First } else { Outcome::Second };
        (0..count).map(|i| Game { first: 0, second: 1, outcome: outcome(i), question: i }).collect()
    }

    #[test]
    fn after_so_many_games_the_interval_ends_at_0() {
        let scale = EloScale { offset: 1500.0, prior_sd: None };
        let lead = |games: &[Game]| {
            let ratings = bradley_terry(2, games, scale).unwrap();
            let bootstrap = bootstrap_bradley_terry(2, games, scale, 4000, 1).unwrap();
            (ratings[0] - ratings[1], bootstrap.lead(0, 1).unwrap())
        };
        let (found, interval) = lead(&games(200));
        assert!(interval.low < 0.0 && interval.high > 0.0, "{interval:?}");
        let further = usize::try_from(further_games(found, interval).unwrap()).unwrap();
        assert!((100..300).contains(&further), "{further}");
        let (_, interval) = lead(&games(200 + further));
        assert_near(interval.low, 0.0, 4.0);
    }
}
