//! Bradley-Terry and Elo ratings of players from games between pairs of them.

use super::bootstrap::{Interval, resampled};
use super::wins::{POINTS_PER_LOG_ODDS, PairWins, Wins, logistic, pair_wins};
use std::collections::BTreeMap;
use thiserror::Error;

/// A comparison of two players.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Game {
    /// The index of the first player.
    pub first: usize,
    /// The index of the second player.
    pub second: usize,
    /// The first player's score, from 0 to 1. A tie is 0.5; with several judges, the score is their mean.
    pub score: f64,
    /// The index of the question. Games about one question are not independent.
    pub question: usize,
}

/// The location of the ratings and their prior.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EloScale {
    /// The mean of all ratings, 1500 by custom.
    pub offset: f64,
    /// The standard deviation, in Elo points, of the normal prior of each rating around the offset.
    ///
    /// The prior keeps the rating of a player that wins every game finite. `None` for plain maximum likelihood.
    pub prior_sd: Option<f64>,
}

/// The reason why games have no ratings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EloError {
    /// The likelihood has no maximum.
    #[error("the games leave a rating unbounded: some players never lose or never meet the others (state a prior)")]
    Unbounded,
}

/// Computes maximum-likelihood ratings of `players` in the model of R. Bradley and M. Terry, 1952.
///
/// The model is P(i beats j) = 1 / (1 + 10^((Rj - Ri) / 400)). Ties count half. The ratings have the prior and the
/// offset of `scale`.
pub fn bradley_terry(players: usize, games: &[Game], scale: EloScale) -> Result<Vec<f64>, EloError> {
    Wins::of(players, games).ratings(scale, &vec![0.0; players])
}

/// The ratings on resampled games.
#[derive(Clone, Debug)]
pub struct EloBootstrap {
    /// The ratings of all players, for each resample.
    ratings: Vec<Vec<f64>>,
}

impl EloBootstrap {
    /// Computes the 95% interval of a player's rating; `None` without resamples.
    pub fn rating(&self, player: usize) -> Option<Interval> {
        Interval::of_percentiles(self.ratings.iter().map(|ratings| ratings[player]).collect())
    }

    /// Computes the 95% interval of `player`'s lead over `other`; `None` without resamples.
    ///
    /// It is narrower than the intervals of the two ratings suggest, because both ratings move together.
    pub fn lead(&self, player: usize, other: usize) -> Option<Interval> {
        Interval::of_percentiles(self.ratings.iter().map(|ratings| ratings[player] - ratings[other]).collect())
    }
}

/// Repeats [`bradley_terry`] on `resamples` draws of the questions, with replacement, each with all its games.
///
/// # Errors
/// Fails without a prior if a draw leaves a rating unbounded, for example because a player wins every game.
pub fn bootstrap_bradley_terry(
    players: usize,
    games: &[Game],
    scale: EloScale,
    resamples: u32,
    seed: u64,
) -> Result<EloBootstrap, EloError> {
    // Games are counted once for each question: there are many games and few players.
    let mut by_question: BTreeMap<usize, Vec<&Game>> = BTreeMap::new();
    for game in games {
        by_question.entry(game.question).or_default().push(game);
    }
    let questions: Vec<PairWins> = by_question.into_values().map(|games| pair_wins(players, games)).collect();
    let near: Vec<f64> = bradley_terry(players, games, scale)?.iter().map(|rating| rating - scale.offset).collect();
    let resampled = resampled(questions.len(), resamples, seed, |chosen| {
        Wins::sum(players, chosen.iter().flat_map(|&question| &questions[question])).ratings(scale, &near)
    });
    Ok(EloBootstrap { ratings: resampled.into_iter().collect::<Result<_, _>>()? })
}

/// Computes Elo ratings that start at `offset` and are updated after each game, in order, by `k` times the surprise.
///
/// The ratings depend on the order of the games. They serve comparison with published numbers.
pub fn sequential_elo(players: usize, games: &[Game], k: f64, offset: f64) -> Vec<f64> {
    let mut ratings = vec![offset; players];
    for &Game { first, second, score, .. } in games {
        let expected = logistic((ratings[first] - ratings[second]) / POINTS_PER_LOG_ODDS);
        let change = k * (score - expected);
        ratings[first] += change;
        ratings[second] -= change;
    }
    ratings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::{assert_near, golden, numbers};
    use proptest::prelude::*;

    const PLAIN: EloScale = EloScale { offset: 1500.0, prior_sd: None };

    fn game(first: usize, second: usize, score: f64) -> Game {
        Game { first, second, score, question: 0 }
    }

    #[test]
    fn ratings_equal_scipy_and_pytorch_without_a_prior() {
        let (played, expected) = (golden("bradley_terry.json"), &golden("stats.json")["bradley_terry"]);
        let names: Vec<String> = serde_json::from_value(expected["names"].clone()).unwrap();
        let index = |name: &str| names.iter().position(|known| *known == name).unwrap();
        let games: Vec<(String, String, f64)> = serde_json::from_value(played["games"].clone()).unwrap();
        let games: Vec<Game> = games.iter().map(|(a, b, score)| game(index(a), index(b), *score)).collect();
        let ratings = bradley_terry(names.len(), &games, PLAIN).unwrap();
        for ((rating, scipy), name) in ratings.iter().zip(numbers(&expected["elo"])).zip(&names) {
            assert_near(*rating, 1500.0 + scipy, 1e-3);
            assert_near(*rating, 1500.0 + played["centered_elo"][name].as_f64().unwrap(), 0.01);
        }
    }

    #[test]
    fn a_prior_keeps_the_winner_of_every_game_finite_as_in_scipy() {
        let golden = &golden("stats.json")["bradley_terry_with_prior"];
        let games: Vec<(usize, usize, f64)> = serde_json::from_value(golden["games"].clone()).unwrap();
        let games: Vec<Game> = games.into_iter().map(|(a, b, score)| game(a, b, score)).collect();
        assert_eq!(bradley_terry(3, &games, PLAIN), Err(EloError::Unbounded));
        let scale = EloScale { prior_sd: golden["prior_sd_elo"].as_f64(), ..PLAIN };
        let ratings = bradley_terry(3, &games, scale).unwrap();
        for (rating, expected) in ratings.iter().zip(numbers(&golden["elo"])) {
            assert_near(*rating, 1500.0 + expected, 1e-3);
        }
    }

    #[test]
    fn odds_of_3_to_1_are_a_lead_of_191_points() {
        let games = [game(0, 1, 1.0), game(0, 1, 1.0), game(1, 0, 0.0), game(0, 1, 0.0)];
        let ratings = bradley_terry(2, &games, PLAIN).unwrap();
        assert_near(ratings[0] - ratings[1], 400.0 * 3.0_f64.log10(), 1e-6);
        assert_near(ratings[0] + ratings[1], 3000.0, 1e-9);
    }

    #[test]
    fn players_who_never_meet_have_no_common_scale_without_a_prior() {
        let games = [game(0, 1, 0.5), game(2, 3, 0.5)];
        assert_eq!(bradley_terry(4, &games, PLAIN), Err(EloError::Unbounded));
        let scale = EloScale { prior_sd: Some(100.0), ..PLAIN };
        assert!(bradley_terry(4, &games, scale).unwrap().iter().all(|rating| (rating - 1500.0).abs() < 1e-6));
    }

    #[test]
    fn a_thousand_straight_wins_still_converge_under_a_prior() {
        let games = vec![game(0, 1, 1.0); 1000];
        let ratings = bradley_terry(2, &games, EloScale { prior_sd: Some(400.0), ..PLAIN }).unwrap();
        // At the maximum, the gradient of the prior equals the surprise of the games.
        let lead = (ratings[0] - ratings[1]) / POINTS_PER_LOG_ODDS;
        let pull = (POINTS_PER_LOG_ODDS / 400.0).powi(2) * lead / 2.0;
        assert_near(1000.0 * (1.0 - logistic(lead)), pull, 1e-6);
    }

    /// Three players of different strength, with two games (both orders) on each of 150 questions.
    fn arena() -> Vec<Game> {
        let meet = |question: usize| {
            let (first, second) = [(0, 1), (1, 2), (0, 2)][question % 3];
            let score = f64::from(u8::from(question % 5 < 3));
            [
                Game { first, second, score, question },
                Game { first: second, second: first, score: 1.0 - score, question },
            ]
        };
        (0..150).flat_map(meet).collect()
    }

    #[test]
    fn resampling_questions_ignores_that_a_question_is_asked_in_both_orders() {
        let both = arena();
        let one: Vec<Game> = both.iter().step_by(2).copied().collect();
        let width = |games: &[Game]| {
            let interval = bootstrap_bradley_terry(3, games, PLAIN, 2000, 1).unwrap().rating(0).unwrap();
            interval.high - interval.low
        };
        assert_near(width(&both), width(&one), 1e-6);
    }

    #[test]
    fn the_interval_holds_the_rating_and_shrinks_with_more_questions() {
        let games = arena();
        let more: Vec<Game> = (0..4)
            .flat_map(|copy| games.iter().map(move |game| Game { question: game.question + 1000 * copy, ..*game }))
            .collect();
        let rating = bradley_terry(3, &games, PLAIN).unwrap()[0];
        let narrow = bootstrap_bradley_terry(3, &more, PLAIN, 1000, 1).unwrap().rating(0).unwrap();
        let wide = bootstrap_bradley_terry(3, &games, PLAIN, 1000, 1).unwrap();
        let wide = (wide.rating(0).unwrap(), wide.lead(0, 2).unwrap());
        assert!(wide.0.low < rating && rating < wide.0.high);
        assert_near((wide.0.high - wide.0.low) / (narrow.high - narrow.low), 2.0, 0.25);
        assert!(wide.1.low < wide.1.high);
    }

    #[test]
    fn sequential_elo_moves_by_k_times_the_surprise() {
        let ratings = sequential_elo(2, &[game(0, 1, 1.0), game(0, 1, 0.0)], 4.0, 1500.0);
        let expected = 1.0 / (1.0 + 10.0_f64.powf(-4.0 / 400.0));
        assert_near(ratings[0], 1502.0 - 4.0 * expected, 1e-9);
        assert_near(ratings[0] + ratings[1], 3000.0, 1e-9);
    }

    proptest! {
        #[test]
        fn at_the_maximum_every_player_has_won_as_often_as_expected(
            games in prop::collection::vec((0_usize..5, 1_usize..5, 0_u8..3), 1..200)
        ) {
            let games: Vec<Game> =
                games.into_iter().map(|(i, d, score)| game(i, (i + d) % 5, f64::from(score) / 2.0)).collect();
            if let Ok(ratings) = bradley_terry(5, &games, PLAIN) {
                let mut surprise = [0.0; 5];
                for &Game { first, second, score, .. } in &games {
                    let unexpected = score - logistic((ratings[first] - ratings[second]) / POINTS_PER_LOG_ODDS);
                    surprise[first] += unexpected;
                    surprise[second] -= unexpected;
                }
                prop_assert!(surprise.iter().all(|surprise| surprise.abs() < 1e-6), "{surprise:?}");
            }
        }
    }
}
