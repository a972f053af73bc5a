//! Notes that a reader of an arena's ratings needs.

use super::result::{ArenaPlayer, JudgeResult, Ratings};
use crate::recipe::spec::{ArenaJudge, ArenaSpec, CompareWith};

/// Returns the notes as sentences.
pub(super) fn notes(
    spec: &ArenaSpec,
    players: &[ArenaPlayer],
    judges: &[JudgeResult],
    pooled: &Ratings,
) -> Vec<String> {
    let mut notes = Vec::new();
    let trained: Vec<&ArenaPlayer> =
        players.iter().filter(|player| player.models.iter().any(|model| model.seed.is_some())).collect();
    let seeds = |player: &ArenaPlayer| {
        let seeds: Vec<String> = player.models.iter().filter_map(|model| Some(model.seed?.to_string())).collect();
        seeds.join(", ")
    };
    if trained.windows(2).any(|pair| pair[0].models.len() != pair[1].models.len()) {
        let counts: Vec<String> = trained.iter().map(|player| format!("`{}` {}", player.name, seeds(player))).collect();
        notes.push(format!(
            "players have different seeds, so their intervals are not comparable: {}",
            counts.join("; ")
        ));
    }
    for judge in judges {
        let missing: usize = judge.missing.values().sum();
        if missing > 0 {
            let reasons: Vec<String> =
                judge.missing.iter().map(|(reason, count)| format!("{reason} ({count})")).collect();
            let all = missing + judge.verdicts + judge.settled;
            notes.push(format!(
                "`{}` has no verdict on {missing} of {all} comparisons, which count in none of its games: {}",
                judge.name,
                reasons.join("; "),
            ));
        }
    }
    for (name, judge) in &spec.judges {
        if let ArenaJudge::Similarity { compare_with: CompareWith::Prompt, .. } = judge {
            notes.push(format!(
                "`{name}` compares answers with their question: it rewards answers on the topic, right or wrong"
            ));
        }
    }
    for standing in pooled.standings.iter().filter(|standing| standing.record.games == 0) {
        notes.push(format!("`{}` has no game, so 1500 is only the prior", standing.player));
    }
    for player in players {
        let (empty, all): (usize, usize) =
            player.models.iter().fold((0, 0), |(empty, all), model| (empty + model.empty, all + model.answers));
        if empty > 0 {
            notes.push(format!("`{}` left {empty} of {all} answers empty, which lose", player.name));
        }
    }
    notes
}
