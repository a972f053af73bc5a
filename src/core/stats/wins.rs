//! The likelihood of strengths given the wins of each pair, and its maximum; tested through `bradley_terry`.

use super::bradley_terry::{EloError, EloScale, Game};
use std::collections::BTreeMap;

/// Elo points per unit of log-odds: a lead of 400 points is odds of 10 to 1.
pub(super) const POINTS_PER_LOG_ODDS: f64 = 400.0 / std::f64::consts::LN_10;

/// The limit of Newton steps. Newton's method converges in under ten.
const MAX_NEWTON_STEPS: usize = 200;

/// The relative rounding error of a log-posterior.
const ROUNDING: f64 = 1e-12;

/// Computes the win probability at these log-odds.
pub(super) fn logistic(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

/// The number of wins of each player over each other, the sufficient statistic of the likelihood.
pub(super) struct Wins {
    players: usize,
    /// The wins of player `row` over player `column`, row by row.
    counts: Vec<f64>,
}

/// The wins by ordered pair: index `row * players + column` holds those of player `row` over player `column`.
pub(super) type PairWins = Vec<(usize, f64)>;

/// Counts `games` by pair of players.
pub(super) fn pair_wins<'a>(players: usize, games: impl IntoIterator<Item = &'a Game>) -> PairWins {
    let mut wins: BTreeMap<usize, f64> = BTreeMap::new();
    for &Game { first, second, score, .. } in games {
        *wins.entry(first * players + second).or_default() += score;
        *wins.entry(second * players + first).or_default() += 1.0 - score;
    }
    wins.into_iter().collect()
}

impl Wins {
    /// Counts the wins in `games`.
    pub(super) fn of<'a>(players: usize, games: impl IntoIterator<Item = &'a Game>) -> Self {
        Self::sum(players, &pair_wins(players, games))
    }

    /// Sums counts that [`pair_wins`] made.
    pub(super) fn sum<'a>(players: usize, wins: impl IntoIterator<Item = &'a (usize, f64)>) -> Self {
        let mut counts = vec![0.0; players * players];
        for (pair, wins) in wins {
            counts[*pair] += wins;
        }
        Self { players, counts }
    }

    fn over(&self, player: usize, other: usize) -> f64 {
        self.counts[player * self.players + other]
    }

    /// Maximizes the log-posterior by Newton's method from `near` (Elo points around 0); returns Elo points of `scale`.
    ///
    /// The objective is concave. Strengths are in log-odds.
    pub(super) fn ratings(&self, scale: EloScale, near: &[f64]) -> Result<Vec<f64>, EloError> {
        let precision = scale.prior_sd.map_or(0.0, |sd| (POINTS_PER_LOG_ODDS / sd).powi(2));
        if precision == 0.0 && !self.bounded() {
            return Err(EloError::Unbounded);
        }
        let mut strengths: Vec<f64> = near.iter().map(|points| points / POINTS_PER_LOG_ODDS).collect();
        let mut reached = self.log_posterior(&strengths, precision);
        for _ in 0..MAX_NEWTON_STEPS {
            let step = self.newton_step(&strengths, precision);
            if step.iter().all(|change| change.abs() < 1e-10) {
                break;
            }
            // A full step may overshoot where one side wins nearly always. It is halved until it gains.
            let mut share = 1.0;
            while share > 1e-9 {
                let tried: Vec<f64> = strengths.iter().zip(&step).map(|(x, change)| x + share * change).collect();
                let gained = self.log_posterior(&tried, precision);
                if gained >= reached - ROUNDING * reached.abs() {
                    (strengths, reached) = (tried, gained);
                    break;
                }
                share /= 2.0;
            }
            if share <= 1e-9 {
                break; // only rounding errors are left to gain
            }
        }
        let centre = strengths.iter().sum::<f64>() / self.players.max(1) as f64;
        Ok(strengths.iter().map(|strength| scale.offset + (strength - centre) * POINTS_PER_LOG_ODDS).collect())
    }

    /// Whether the likelihood has a maximum: a chain of wins leads from every player to every other (L. R. Ford, 1957).
    fn bounded(&self) -> bool {
        let reaches_all = |beats: &dyn Fn(usize, usize) -> bool| {
            let mut reached = vec![false; self.players];
            let mut open = vec![0];
            while let Some(player) = open.pop() {
                if !std::mem::replace(&mut reached[player], true) {
                    open.extend((0..self.players).filter(|&other| beats(player, other)));
                }
            }
            reached.into_iter().all(|reached| reached)
        };
        self.players < 2
            || (reaches_all(&|player, other| self.over(player, other) > 0.0)
                && reaches_all(&|player, other| self.over(other, player) > 0.0))
    }

    fn log_posterior(&self, strengths: &[f64], precision: f64) -> f64 {
        let mut sum = -0.5 * precision * strengths.iter().map(|x| x * x).sum::<f64>();
        for (player, x) in strengths.iter().enumerate() {
            for (other, y) in strengths.iter().enumerate() {
                let wins = self.over(player, other);
                if wins > 0.0 {
                    sum -= wins * softplus(y - x);
                }
            }
        }
        sum
    }

    fn newton_step(&self, strengths: &[f64], precision: f64) -> Vec<f64> {
        let mut gradient: Vec<f64> = strengths.iter().map(|x| -precision * x).collect();
        for i in 0..self.players {
            for j in 0..i {
                let games = self.over(i, j) + self.over(j, i);
                let surprise = self.over(i, j) - games * logistic(strengths[i] - strengths[j]);
                gradient[i] += surprise;
                gradient[j] -= surprise;
            }
        }
        solve(self.curvature(strengths, precision), gradient)
    }

    /// Computes the negative Hessian of the log-posterior, with 1 added to every entry.
    ///
    /// Without a prior the sum of all strengths is free. The 1 pins the sum and changes nothing else.
    fn curvature(&self, strengths: &[f64], precision: f64) -> Vec<Vec<f64>> {
        let mut curvature = vec![vec![1.0; self.players]; self.players];
        for i in 0..self.players {
            curvature[i][i] += precision;
            for j in 0..i {
                let expected = logistic(strengths[i] - strengths[j]);
                let information = (self.over(i, j) + self.over(j, i)) * expected * (1.0 - expected);
                curvature[i][i] += information;
                curvature[j][j] += information;
                curvature[i][j] -= information;
                curvature[j][i] -= information;
            }
        }
        curvature
    }

    /// Computes the covariances of the strengths near the maximum of the posterior (P.-S. Laplace's approximation), in
    /// log-odds.
    ///
    /// A constant is added to every entry. It cancels in the difference of two strengths.
    pub(super) fn covariance(&self, strengths: &[f64], precision: f64) -> Vec<Vec<f64>> {
        let curvature = self.curvature(strengths, precision);
        let unit = |at: usize| (0..self.players).map(|i| f64::from(u8::from(i == at))).collect();
        (0..self.players).map(|at| solve(curvature.clone(), unit(at))).collect()
    }
}

/// Computes ln(1 + e^x) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Solves `matrix x = right` for a symmetric positive definite matrix, by elimination.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    for column in 0..n {
        let (above, below) = matrix.split_at_mut(column + 1);
        let pivot = &above[column];
        for (offset, row) in below.iter_mut().enumerate() {
            let factor = row[column] / pivot[column];
            row[column..].iter_mut().zip(&pivot[column..]).for_each(|(x, p)| *x -= factor * p);
            right[column + 1 + offset] -= factor * right[column];
        }
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| matrix[i][j] * right[j]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    right
}
