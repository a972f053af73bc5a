//! The schedule of comparisons: which models meet on which question.

use super::comparison::Comparison;
use crate::recipe::spec::{ArenaSpec, Pairing};
use crate::stats::{EloScale, Game, choose_pairs};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// The number of comparisons that are chosen at a time.
const BATCH: usize = 32;
/// With `adaptive` pairing, one in this many comparisons is spread evenly over all pairs.
///
/// If all were spent where the order is least certain, one lucky answer at the start could keep two players from
/// meeting again.
const ALIKE: usize = 4;

/// A comparison to make. Models are numbered as in [`Comparison`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// The index of the question among those that are asked.
    pub question: usize,
    /// The index of the first model.
    pub a: usize,
    /// The index of the second model.
    pub b: usize,
}

/// The comparisons of an arena, in order.
///
/// The next comparisons depend only on the recipe, the seed and the previous comparisons. So an interrupted arena
/// resumes with the same comparisons.
#[derive(Debug)]
pub struct Schedule<'a> {
    spec: &'a ArenaSpec,
    questions: usize,
    seed: u64,
    /// The models of each player, numbered across all players.
    players: Vec<Vec<usize>>,
}

impl<'a> Schedule<'a> {
    /// Creates the schedule for the players of `spec` on `questions` questions. Only `adaptive` pairing uses `seed`.
    pub fn new(spec: &'a ArenaSpec, questions: usize, seed: u64) -> Self {
        let mut next = 0;
        let numbered = |count: usize| {
            let models = (next..next + count).collect();
            next += count;
            models
        };
        let players = spec.players.iter().map(|player| player.models.len()).map(numbered).collect();
        Self { spec, questions, seed, players }
    }

    /// The number of pairs of answers of different players.
    pub fn possible(&self) -> usize {
        self.pairs().map(|pair| self.possible_of(pair)).sum()
    }

    fn possible_of(&self, (i, j): (usize, usize)) -> usize {
        self.questions * self.players[i].len() * self.players[j].len()
    }

    /// The number of comparisons that the arena makes.
    pub fn total(&self) -> usize {
        match self.spec.pairing {
            Pairing::Full => self.possible(),
            Pairing::Adaptive { max_comparisons } => self.possible().min(max_comparisons),
        }
    }

    /// The number of batches that [`Schedule::next`] returns.
    pub fn batches(&self) -> usize {
        self.total().div_ceil(BATCH)
    }

    /// Returns the next batch of comparisons after those already `played`; empty at the end.
    pub fn next(&self, played: &[Comparison]) -> Vec<Match> {
        let count = BATCH.min(self.total().saturating_sub(played.len()));
        match self.spec.pairing {
            Pairing::Full => self.all().skip(played.len()).take(count).collect(),
            Pairing::Adaptive { .. } => self.chosen(played, count),
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let players = self.players.len();
        (0..players).flat_map(move |i| (i + 1..players).map(move |j| (i, j)))
    }

    /// All comparisons, question by question, so that a truncated arena has compared all players on its questions.
    fn all(&self) -> impl Iterator<Item = Match> {
        (0..self.questions).flat_map(move |question| self.pairs().flat_map(move |(i, j)| self.of_pair(i, j, question)))
    }

    fn of_pair(&self, i: usize, j: usize, question: usize) -> impl Iterator<Item = Match> {
        let others = &self.players[j];
        self.players[i].iter().flat_map(move |&a| others.iter().map(move |&b| Match { question, a, b }))
    }

    /// Chooses `count` comparisons with `adaptive` pairing.
    ///
    /// Pairs that have met less often than their even share come first. Then come the pairs whose comparison is worth
    /// most ([`choose_pairs`]). Each pair meets on the next question and seeds of its own shuffled order. A comparison
    /// counts as one game there, whatever the number of its judges, because judges are not independent.
    fn chosen(&self, played: &[Comparison], count: usize) -> Vec<Match> {
        let player_of: Vec<usize> =
            self.players.iter().enumerate().flat_map(|(player, models)| models.iter().map(move |_| player)).collect();
        let mut games = Vec::with_capacity(played.len());
        let mut used: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for comparison in played {
            let (first, second) = (player_of[comparison.a], player_of[comparison.b]);
            *used.entry((first, second)).or_default() += 1;
            let wins: Vec<f64> = comparison.verdicts.iter().filter_map(super::ComparisonVerdict::win).collect();
            let Some(score) = crate::stats::mean(&wins) else { continue };
            games.push(Game { first, second, score, question: comparison.question });
        }
        let alike = self.alike(&used, count);
        let mut times = used.clone();
        for &pair in &alike {
            *times.entry(pair).or_default() += 1;
        }
        let is_open = |i: usize, j: usize, more: usize| {
            times.get(&(i, j)).copied().unwrap_or(0) + more < self.possible_of((i, j))
        };
        let scale = EloScale { offset: 0.0, prior_sd: Some(self.spec.prior_sd) };
        let pairs = choose_pairs(self.players.len(), &games, scale, count - alike.len(), &is_open);
        let mut shuffled: BTreeMap<(usize, usize), Vec<Match>> = BTreeMap::new();
        let mut matches = Vec::with_capacity(count);
        for (i, j) in alike.into_iter().chain(pairs.expect("a prior bounds every rating")) {
            let deck = shuffled.entry((i, j)).or_insert_with(|| self.deck(i, j));
            let at = used.entry((i, j)).or_default();
            matches.push(deck[*at]);
            *at += 1;
        }
        matches
    }

    /// Returns up to `count` pairs that have met less often than their even share, given how often each was `used`.
    fn alike(&self, used: &BTreeMap<(usize, usize), usize>, count: usize) -> Vec<(usize, usize)> {
        let pairs: Vec<(usize, usize)> = self.pairs().collect();
        let share = self.total() / ALIKE / pairs.len().max(1);
        let mut times: Vec<usize> = pairs.iter().map(|pair| used.get(pair).copied().unwrap_or(0)).collect();
        let mut alike = Vec::new();
        while alike.len() < count {
            let lacking = (0..pairs.len()).filter(|&at| times[at] < share.min(self.possible_of(pairs[at])));
            let Some(least) = lacking.min_by_key(|&at| times[at]) else { break };
            times[least] += 1;
            alike.push(pairs[least]);
        }
        alike
    }

    /// Returns all comparisons of two players, in an order shuffled for this pair.
    fn deck(&self, i: usize, j: usize) -> Vec<Match> {
        let mut deck: Vec<Match> = (0..self.questions).flat_map(|question| self.of_pair(i, j, question)).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream((i * self.players.len() + j) as u64);
        deck.shuffle(&mut rng);
        deck
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::testing::{comparison, spec};
    use crate::arena::{Better, ComparisonVerdict};
    use std::collections::BTreeSet;

    /// Plays all comparisons of `schedule`; the lower model wins when its index is far below.
    fn played(schedule: &Schedule<'_>) -> Vec<Comparison> {
        let mut played = Vec::new();
        loop {
            let next = schedule.next(&played);
            if next.is_empty() {
                return played;
            }
            for Match { question, a, b } in next {
                let better = if b > a + 1 || question % 2 == 0 { Better::A } else { Better::B };
                played.push(comparison(question, a, b, &[ComparisonVerdict::Trivial(better)]));
            }
        }
    }

    fn matches(played: &[Comparison]) -> Vec<(usize, usize, usize)> {
        played.iter().map(|c| (c.question, c.a, c.b)).collect()
    }

    #[test]
    fn full_compares_every_pair_of_different_players_once_on_every_question() {
        let spec = spec(&[2, 1, 2], 1);
        let schedule = Schedule::new(&spec, 10, 1);
        let all = matches(&played(&schedule));
        assert_eq!((all.len(), schedule.total(), schedule.possible()), (80, 80, 80));
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 80);
        assert!(!all.iter().any(|(_, a, b)| [(0, 1), (3, 4)].contains(&(*a, *b))), "seeds of one player");
        assert_eq!(schedule.batches(), 3);
        assert!(all[..8].iter().all(|(question, ..)| *question == 0));
    }

    #[test]
    fn adaptive_keeps_to_its_budget_repeats_nothing_and_follows_its_seed() {
        let budget =
            |max_comparisons| ArenaSpec { pairing: Pairing::Adaptive { max_comparisons }, ..spec(&[1, 2, 1, 1], 1) };
        let some = budget(70);
        let once = matches(&played(&Schedule::new(&some, 20, 5)));
        assert_eq!(once.len(), 70);
        assert_eq!(once.iter().collect::<BTreeSet<_>>().len(), 70);
        assert_eq!(once, matches(&played(&Schedule::new(&some, 20, 5))));
        assert_ne!(once, matches(&played(&Schedule::new(&some, 20, 6))));
        let everything = budget(10_000);
        let schedule = Schedule::new(&everything, 20, 5);
        assert_eq!(matches(&played(&schedule)).iter().collect::<BTreeSet<_>>().len(), schedule.possible());
    }

    #[test]
    fn a_quarter_of_the_budget_is_for_all_pairs_alike() {
        let spec = ArenaSpec { pairing: Pairing::Adaptive { max_comparisons: 240 }, ..spec(&[1, 1, 1, 1], 1) };
        let all = matches(&played(&Schedule::new(&spec, 100, 3)));
        let times = |pair: (usize, usize), among: &[(usize, usize, usize)]| {
            among.iter().filter(|(_, a, b)| (*a, *b) == pair).count()
        };
        let pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
        // 240 / 4 / 6
        assert!(pairs.iter().all(|&pair| times(pair, &all[..60]) == 10), "{:?}", &all[..60]);
        let rest = pairs.map(|pair| times(pair, &all[60..]));
        assert!(rest.iter().max() > Some(&60) && rest.iter().min() < Some(&15), "then who is in doubt: {rest:?}");
    }

    #[test]
    fn what_comes_next_is_the_same_after_an_interruption() {
        let spec = ArenaSpec { pairing: Pairing::Adaptive { max_comparisons: 100 }, ..spec(&[1, 1, 1, 1], 1) };
        let schedule = Schedule::new(&spec, 30, 2);
        let whole = played(&schedule);
        let text = serde_json::to_string(&whole[..2 * BATCH]).expect("comparisons serialize");
        let read: Vec<Comparison> = serde_json::from_str(&text).expect("what was written can be read");
        assert_eq!(matches(&whole[2 * BATCH..3 * BATCH]), {
            let next = Schedule::new(&spec, 30, 2).next(&read);
            next.iter().map(|m| (m.question, m.a, m.b)).collect::<Vec<_>>()
        });
    }
}
