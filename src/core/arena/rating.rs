//! Computes ratings from comparisons.

use super::agreement::agreement;
use super::comparison::{ArenaQuestion, Better, Comparison, ComparisonVerdict};
use super::notes::notes;
use super::result::{
    ArenaModel, ArenaPlayer, ArenaResult, JudgeResult, Lead, PairRecord, Ratings, SeedStanding, Standing,
};
use super::schedule::Schedule;
use super::slices::slices;
use crate::recipe::spec::{ArenaSpec, Pairing, Sampling};
use crate::rewards::PositionBias;
use crate::stats::{
    EloBootstrap, EloScale, Game, bootstrap_bradley_terry, bradley_terry, further_games, mean, sequential_elo,
};
use std::collections::BTreeMap;

/// The mean of all ratings.
const OFFSET: f64 = 1500.0;
/// The largest change of a rating by a game in the sequential rating, with the usual value for comparisons of models.
const SEQUENTIAL_K: f64 = 4.0;

/// Statistics of a model's answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Answers {
    /// The number of questions that the model answered.
    pub count: usize,
    /// The number of empty answers.
    pub empty: usize,
    /// The number of answers that the length limit truncated.
    pub truncated: usize,
    /// The total number of tokens.
    pub tokens: usize,
}

/// Computes the result of the arena `spec` from its `comparisons`, in the order in which they were made.
///
/// `answers` describes each model's answers to the `questions`. `seed` is that of the bootstrap.
///
/// # Panics
/// Panics if a comparison names a model that is not in `spec`.
pub fn rate(
    spec: &ArenaSpec,
    answers: &[Answers],
    questions: &[ArenaQuestion],
    comparisons: &[Comparison],
    seed: u64,
) -> ArenaResult {
    let arena = Arena::new(spec, comparisons, seed);
    let judges = spec.judge_names();
    let results: Vec<JudgeResult> =
        judges.into_iter().enumerate().map(|(judge, name)| arena.judge(name, judge)).collect();
    let mut of_models = answers.iter();
    let players: Vec<ArenaPlayer> = spec
        .players
        .iter()
        .map(|player| ArenaPlayer {
            name: player.name.clone(),
            models: player
                .models
                .iter()
                .zip(&mut of_models)
                .map(|(model, answers)| arena_model(model.seed, *answers))
                .collect(),
        })
        .collect();
    let schedule = Schedule::new(spec, questions.len(), 0);
    let pooled = arena.pooled();
    let notes = notes(spec, &players, &results, &pooled);
    ArenaResult {
        questions: questions.len(),
        sampling: sampling(&spec.sampling),
        comparisons: comparisons.len(),
        possible_comparisons: schedule.possible(),
        pairs: match spec.pairing {
            Pairing::Full => "all".to_owned(),
            Pairing::Adaptive { max_comparisons } => format!("adaptive, at most {max_comparisons}"),
        },
        prior_sd: spec.prior_sd,
        bootstrap_resamples: spec.bootstrap_resamples,
        sequential_k: SEQUENTIAL_K,
        players,
        pooled,
        slices: slices(spec, questions, comparisons, seed),
        agreement: agreement(comparisons, results.len()),
        judges: results,
        notes,
    }
}

fn arena_model(seed: Option<u64>, answers: Answers) -> ArenaModel {
    let Answers { count, empty, truncated, tokens } = answers;
    ArenaModel {
        seed,
        answers: count,
        empty,
        truncated,
        tokens_mean: (count > 0).then(|| tokens as f64 / count as f64),
    }
}

/// Returns the sampling parameters in words: `greedy`, or the temperature and filters, with the length limit.
fn sampling(sampling: &Sampling) -> String {
    let Sampling { max_new_tokens, temperature, top_p, top_k, min_p, repetition_penalty, .. } = sampling;
    let mut words = if *temperature == 0.0 {
        "greedy".to_owned()
    } else {
        let mut words = format!("drawn at temperature {temperature}");
        for (is_set, what) in [
            (*top_p < 1.0, format!("top_p {top_p}")),
            (*top_k > 0, format!("top_k {top_k}")),
            (*min_p > 0.0, format!("min_p {min_p}")),
        ] {
            if is_set {
                words = format!("{words}, {what}");
            }
        }
        words
    };
    if (*repetition_penalty - 1.0).abs() > f64::EPSILON {
        words = format!("{words}, repetition penalty {repetition_penalty}");
    }
    format!("{words}, at most {max_new_tokens} tokens")
}

/// The comparisons of an arena, or of some of its questions.
pub(super) struct Arena<'a> {
    spec: &'a ArenaSpec,
    comparisons: &'a [Comparison],
    seed: u64,
    /// The player of each model.
    player_of: Vec<usize>,
}

impl<'a> Arena<'a> {
    pub(super) fn new(spec: &'a ArenaSpec, comparisons: &'a [Comparison], seed: u64) -> Self {
        let players = spec.players.iter().enumerate();
        let player_of = players.flat_map(|(at, player)| player.models.iter().map(move |_| at)).collect();
        Self { spec, comparisons, seed, player_of }
    }

    fn scale(&self) -> EloScale {
        EloScale { offset: OFFSET, prior_sd: Some(self.spec.prior_sd) }
    }

    /// Returns the verdicts of `judges`, each with its comparison.
    fn verdicts(&self, judges: &'a [usize]) -> impl Iterator<Item = (&'a Comparison, &'a ComparisonVerdict)> {
        self.comparisons
            .iter()
            .flat_map(move |comparison| judges.iter().map(move |&judge| (comparison, &comparison.verdicts[judge])))
    }

    /// Returns one game for each comparison with a verdict of one of `judges`; `number` maps models to players of the
    /// games.
    ///
    /// Wins are averaged over judges and over the two orders, because these are not independent.
    fn games(&self, judges: &[usize], number: impl Fn(usize) -> usize) -> Vec<Game> {
        let game = |comparison: &Comparison| {
            let wins: Vec<f64> = judges.iter().filter_map(|&judge| comparison.verdicts[judge].win()).collect();
            Some(Game {
                first: number(comparison.a),
                second: number(comparison.b),
                score: mean(&wins)?,
                question: comparison.question,
            })
        };
        self.comparisons.iter().filter_map(game).collect()
    }

    /// Returns the games of players by all judges together.
    pub(super) fn games_of_players(&self) -> Vec<Game> {
        self.games(&self.judges(), |model| self.player_of[model])
    }

    /// Returns the ratings by all judges together.
    pub(super) fn pooled(&self) -> Ratings {
        let judges = self.judges();
        Ratings { standings: self.with_seeds(&judges), matrix: self.matrix(&judges) }
    }

    fn judges(&self) -> Vec<usize> {
        (0..self.spec.judge_names().len()).collect()
    }

    fn judge(&self, name: String, judge: usize) -> JudgeResult {
        let own = [judge];
        let (mut verdicts, mut settled, mut missing) = (0, 0, BTreeMap::<String, usize>::new());
        let (mut first_place, mut second_place, mut read) = (0, 0, 0);
        for comparison in self.comparisons {
            let verdict = &comparison.verdicts[judge];
            verdicts += usize::from(verdict.is_judged());
            match verdict {
                ComparisonVerdict::Judged { a_first, b_first } => {
                    read += 1;
                    first_place += usize::from((*a_first, *b_first) == (Better::A, Better::B));
                    second_place += usize::from((*a_first, *b_first) == (Better::B, Better::A));
                }
                ComparisonVerdict::Scored { .. } => {}
                ComparisonVerdict::Trivial(_) => settled += 1,
                ComparisonVerdict::Missing(reason) => {
                    // without the judge's text, which is never the same
                    let kind = reason.split_once(": `").map_or(reason.as_str(), |(kind, _)| kind);
                    *missing.entry(kind.to_owned()).or_default() += 1;
                }
            }
        }
        JudgeResult {
            name,
            ratings: Ratings { standings: self.standings(&own).0, matrix: self.matrix(&own) },
            verdicts,
            settled,
            missing,
            position: PositionBias::of(read, first_place, second_place),
        }
    }

    /// Returns the record of each player (row) against each other (column), by the verdicts of `judges`.
    fn matrix(&self, judges: &[usize]) -> Vec<Vec<PairRecord>> {
        let players = self.spec.players.len();
        let mut matrix = vec![vec![PairRecord::default(); players]; players];
        for (comparison, verdict) in self.verdicts(judges) {
            let Some(win) = verdict.win() else { continue };
            let (one, other) = (self.player_of[comparison.a], self.player_of[comparison.b]);
            matrix[one][other].add(win);
            matrix[other][one].add(1.0 - win);
        }
        matrix
    }

    /// Returns the ratings of all players by `judges`, best first, and the player at each rank.
    fn standings(&self, judges: &[usize]) -> (Vec<Standing>, Vec<usize>) {
        let players = self.spec.players.len();
        let games = self.games(judges, |model| self.player_of[model]);
        let (elo, bootstrap) = self.rated(players, &games);
        let sequential = sequential_elo(players, &games, SEQUENTIAL_K, OFFSET);
        let matrix = self.matrix(judges);
        let mut ranked: Vec<usize> = (0..players).collect();
        ranked.sort_by(|&one, &other| elo[other].total_cmp(&elo[one]).then(one.cmp(&other)));
        let name = |player: usize| self.spec.players[player].name.clone();
        let standing = |(at, &player): (usize, &usize)| {
            let record = total(&matrix[player]);
            Standing {
                rank: at + 1,
                player: name(player),
                elo: elo[player],
                interval: bootstrap
                    .rating(player)
                    .filter(|_| record.games > 0)
                    .map(|interval| (interval.low, interval.high)),
                sequential_elo: sequential[player],
                win_rate: record.win_rate(),
                record,
                next: ranked.get(at + 1).map(|&next| {
                    let have_played = record.games > 0 && total(&matrix[next]).games > 0;
                    let points = elo[player] - elo[next];
                    let interval = bootstrap.lead(player, next).filter(|_| have_played);
                    Lead {
                        over: name(next),
                        points,
                        interval: interval.map(|interval| (interval.low, interval.high)),
                        separable: interval.is_some_and(|interval| interval.low > 0.0),
                        further_games: interval.and_then(|interval| further_games(points, interval)),
                    }
                }),
                seeds: Vec::new(),
            }
        };
        (ranked.iter().enumerate().map(standing).collect(), ranked)
    }

    /// Returns the standings, with the ratings of each model for players that have several.
    fn with_seeds(&self, judges: &[usize]) -> Vec<Standing> {
        let (mut standings, ranked) = self.standings(judges);
        let models = self.player_of.len();
        if models == self.spec.players.len() {
            return standings;
        }
        let (elo, bootstrap) = self.rated(models, &self.games(judges, |model| model));
        let mut records = vec![PairRecord::default(); models];
        for (comparison, verdict) in self.verdicts(judges) {
            let Some(win) = verdict.win() else { continue };
            records[comparison.a].add(win);
            records[comparison.b].add(1.0 - win);
        }
        let numbered: Vec<(usize, Option<u64>)> = (0..models).zip(self.spec.models().map(|model| model.seed)).collect();
        for (standing, player) in standings.iter_mut().zip(ranked) {
            let own: Vec<&(usize, Option<u64>)> =
                numbered.iter().filter(|(model, _)| self.player_of[*model] == player).collect();
            if own.len() > 1 {
                let seed = |&&(model, seed): &&(usize, Option<u64>)| SeedStanding {
                    seed,
                    elo: elo[model],
                    interval: bootstrap.rating(model).map(|interval| (interval.low, interval.high)),
                    record: records[model],
                };
                standing.seeds = own.iter().map(seed).collect();
                standing.seeds.sort_by_key(|standing| standing.seed);
            }
        }
        standings
    }

    fn rated(&self, players: usize, games: &[Game]) -> (Vec<f64>, EloBootstrap) {
        let bounded = "a prior bounds every rating";
        let elo = bradley_terry(players, games, self.scale()).expect(bounded);
        let resamples = self.spec.bootstrap_resamples;
        (elo, bootstrap_bradley_terry(players, games, self.scale(), resamples, self.seed).expect(bounded))
    }
}

fn total(row: &[PairRecord]) -> PairRecord {
    row.iter().fold(PairRecord::default(), |sum, record| PairRecord {
        games: sum.games + record.games,
        wins: sum.wins + record.wins,
        ties: sum.ties + record.ties,
    })
}
