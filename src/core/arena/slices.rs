//! The ratings of an arena by slice of its questions.

use super::comparison::{ArenaQuestion, Comparison};
use super::rating::Arena;
use super::result::{Ratings, SliceRatings};
use crate::recipe::spec::ArenaSpec;
use crate::slice::Slice;
use std::collections::{BTreeMap, BTreeSet};

/// The smallest number of questions with a game for which a slice has ratings. Intervals resample the questions.
const LEAST_QUESTIONS: usize = 5;
/// The smallest number of games of every player for which a slice has ratings. With fewer, a rating is mostly the
/// prior.
const LEAST_GAMES: usize = 10;

/// Returns the ratings of each slice of `questions`, as an arena over only these questions has them: from their
/// `comparisons`, by all judges together.
pub(super) fn slices(
    spec: &ArenaSpec,
    questions: &[ArenaQuestion],
    comparisons: &[Comparison],
    seed: u64,
) -> Vec<SliceRatings> {
    let mut members: BTreeMap<Slice, BTreeSet<usize>> = BTreeMap::new();
    for (position, question) in questions.iter().enumerate() {
        for (by, value) in &question.slices {
            let slice = Slice { by: by.clone(), value: value.clone() };
            members.entry(slice).or_default().insert(position);
        }
    }
    let rated = |(slice, members): (Slice, BTreeSet<usize>)| {
        let own: Vec<Comparison> =
            comparisons.iter().filter(|comparison| members.contains(&comparison.question)).cloned().collect();
        let arena = Arena::new(spec, &own, seed);
        let too_few = too_few(spec, &arena);
        let ratings: Option<Ratings> = too_few.is_none().then(|| arena.pooled());
        SliceRatings { slice, questions: members.len(), comparisons: own.len(), ratings, too_few }
    };
    members.into_iter().map(rated).collect()
}

/// Returns the reason why the games of a slice are too few for ratings.
fn too_few(spec: &ArenaSpec, arena: &Arena<'_>) -> Option<String> {
    let games = arena.games_of_players();
    let questions: BTreeSet<usize> = games.iter().map(|game| game.question).collect();
    if questions.len() < LEAST_QUESTIONS {
        return Some(format!("{} of its questions have a game, and {LEAST_QUESTIONS} are needed", questions.len()));
    }
    let of_player = |player: usize| games.iter().filter(|game| [game.first, game.second].contains(&player)).count();
    let (least, player) = (0..spec.players.len()).map(|player| (of_player(player), player)).min()?;
    let name = &spec.players[player].name;
    (least < LEAST_GAMES).then(|| format!("`{name}` has {least} games, and {LEAST_GAMES} are needed"))
}
