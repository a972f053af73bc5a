//! The seeds of the rounds: which come next, and how a run is given them.

use crate::history::SearchRound;

/// A recipe's arm: the recipe's name, and the variant's name without its seed.
pub(super) type ArmName = (String, String);

/// Returns the next `count` seeds: those of the recipe that the search does not have, then the smallest positive
/// integers that the recipe does not have.
pub(super) fn further_seeds(round: &SearchRound, count: usize) -> Vec<u64> {
    let of_recipe = round.axis.iter().copied();
    let new = (1..).filter(|seed| !round.axis.contains(seed));
    of_recipe.chain(new).filter(|seed| !round.search.seeds.contains(seed)).take(count).collect()
}

/// Returns the arguments of `--set` of a round that has the seeds so far and `more`.
pub(super) fn set_with(round: &SearchRound, more: &[u64]) -> Vec<String> {
    let mut seeds = round.axis.clone();
    seeds.extend(round.search.seeds.iter().chain(more).filter(|seed| !round.axis.contains(seed)));
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let seeds = format!("sweep.matrix.seed=[{}]", seeds.join(", "));
    round.set.iter().cloned().chain([seeds]).collect()
}

/// Returns the pattern of `--variant` that matches exactly one seed of an arm.
pub(super) fn pattern((recipe, name): &ArmName, seed: u64) -> String {
    let mut exact = String::new();
    for character in name.chars() {
        match character {
            '*' | '?' | '[' => exact.extend(['[', character, ']']),
            other => exact.push(other),
        }
    }
    if exact.is_empty() { format!("{recipe}/seed={seed}") } else { format!("{recipe}/{exact},seed={seed}") }
}
