//! Ratings of arenas.

use crate::arena::{ArenaResult, JudgeResult, Ratings, SliceRatings, Standing};
use crate::event::Measurement;
use crate::history::{LoggedPlan, arena_result};
use crate::report::chart::Whisker;
use crate::report::html::{Problem, Rating, RatingSlice, RatingSlices, Severity};
use crate::stage::StageKind;
use crate::workspace::{Workspace, WorkspaceError};
use std::collections::BTreeSet;

/// Returns the ratings of every arena of `plans`, pooled and by judge, and their problems.
pub(super) fn ratings(
    workspace: &Workspace,
    plans: &[LoggedPlan],
) -> Result<(Vec<Rating>, Vec<Problem>), WorkspaceError> {
    let (mut ratings, mut problems) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for stage in plans.iter().flat_map(|plan| &plan.stages) {
        if stage.kind != StageKind::Arena || !seen.insert(&stage.key) {
            continue;
        }
        let Some(found) = arena_result(workspace, &stage.key)? else { continue };
        ratings.push(pooled(&stage.stage, &found));
        if found.judges.len() > 1 {
            ratings.extend(found.judges.iter().map(|judge| by_judge(&stage.stage, &found, judge)));
        }
        if !found.notes.is_empty() {
            let what = format!("Read the ratings of `{}` with care.", stage.stage);
            problems.push(Problem { severity: Severity::Warning, what, details: found.notes.clone() });
        }
    }
    Ok((ratings, problems))
}

fn pooled(stage: &str, found: &ArenaResult) -> Rating {
    let mut remarks = vec![format!(
        "{} questions, answers {}; {} of {} pairs of answers compared ({}).",
        found.questions, found.sampling, found.comparisons, found.possible_comparisons, found.pairs
    )];
    if let Some(agreement) = &found.agreement {
        let measure = agreement.measure.replace('_', " ");
        remarks.push(match agreement.value {
            Some(value) => format!("Judges agree with {measure} {value:.2} over {} verdicts.", agreement.items),
            None => "Too few comparisons to say whether the judges agree.".to_owned(),
        });
    }
    for standing in &found.pooled.standings {
        let Some(next) = &standing.next else { continue };
        if next.separable {
            continue;
        }
        let games = match next.further_games {
            Some(games) => format!("about {games} further games are needed"),
            None => "no playable number of games would separate them".to_owned(),
        };
        remarks.push(format!("{} and {} do not differ significantly: {games}.", standing.player, next.over));
    }
    if let [judge] = found.judges.as_slice() {
        remarks.extend(position(judge));
    }
    let who = match found.judges.as_slice() {
        [only] => only.name.clone(),
        several => format!("all {} judges", several.len()),
    };
    let pooled = rating(format!("{stage}, {who}"), &found.pooled, found, remarks);
    Rating { slices: slices(found), ..pooled }
}

/// Returns the ratings by slice, with players in the order of the pooled standings.
fn slices(found: &ArenaResult) -> Vec<RatingSlices> {
    let families = found.slices.chunk_by(|one, other| one.slice.by == other.slice.by);
    let row = |slice: &SliceRatings| {
        let standings = slice.ratings.as_ref().map_or(&[][..], |ratings| &ratings.standings);
        let cell = |player: &Standing| {
            let own = standings.iter().find(|own| own.player == player.player)?;
            Some(Measurement { value: own.elo, interval: own.interval, count: Some(own.record.games as u64) })
        };
        let is_clear = |first: &&Standing| first.next.as_ref().is_some_and(|lead| lead.separable);
        let first = standings.first().filter(is_clear);
        RatingSlice {
            value: slice.slice.value.clone(),
            questions: slice.questions,
            comparisons: slice.comparisons,
            ratings: if standings.is_empty() { Vec::new() } else { found.pooled.standings.iter().map(cell).collect() },
            first: first.and_then(|first| found.pooled.standings.iter().position(|own| own.player == first.player)),
            too_few: slice.too_few.clone().unwrap_or_default(),
        }
    };
    families.map(|rows| RatingSlices { by: rows[0].slice.by.clone(), rows: rows.iter().map(row).collect() }).collect()
}

fn by_judge(stage: &str, found: &ArenaResult, judge: &JudgeResult) -> Rating {
    let missing: usize = judge.missing.values().sum();
    let mut remarks =
        vec![format!("{} verdicts, {} settled without a judge, {missing} missing.", judge.verdicts, judge.settled)];
    remarks.extend(position(judge));
    rating(format!("{stage}, {}", judge.name), &judge.ratings, found, remarks)
}

fn position(judge: &JudgeResult) -> Option<String> {
    let bias = judge.position.as_ref()?;
    Some(format!(
        "Position bias of {}: the position decided {:.0}% of the pairs it read in both orders.",
        judge.name,
        100.0 * bias.share
    ))
}

fn rating(title: String, ratings: &Ratings, found: &ArenaResult, remarks: Vec<String>) -> Rating {
    let rows: Vec<Whisker> = ratings
        .standings
        .iter()
        .map(|standing| {
            let (low, high) = standing.interval.unwrap_or((standing.elo, standing.elo));
            Whisker { name: standing.player.clone(), value: standing.elo, low, high }
        })
        .collect();
    let place = |name: &str| found.players.iter().position(|player| player.name == name);
    let share = |row: &Whisker, column: &Whisker| {
        let (row, column) = (place(&row.name)?, place(&column.name)?);
        ratings.matrix.get(row)?.get(column)?.win_rate()
    };
    let wins = rows.iter().map(|row| rows.iter().map(|column| share(row, column)).collect()).collect();
    Rating { title, rows, wins, slices: Vec::new(), remarks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn standing(player: &str, elo: f64, next: &Value) -> Value {
        json!({
            "rank": 1, "player": player, "elo": elo, "interval": [elo - 50.0, elo + 60.0], "sequential_elo": elo, "games": 8,
            "wins": 4.0, "ties": 0, "win_rate": 0.5, "next": next,
        })
    }

    #[test]
    fn players_stand_in_the_order_of_their_ratings_and_so_do_their_wins() {
        let next =
            json!({"over": "base", "points": 40.0, "interval": [-9.0, 90.0], "separable": false, "further_games": 12});
        let sure =
            json!({"over": "sft", "points": 60.0, "interval": [9.0, 90.0], "separable": true, "further_games": 0});
        let record = |wins: f64, games: usize| json!({"games": games, "wins": wins, "ties": 0});
        let ratings = json!({
            "standings": [standing("sft", 1520.0, &next), standing("base", 1480.0, &Value::Null)],
            // The players are base and sft.
            "matrix": [[record(0.0, 0), record(2.0, 8)], [record(6.0, 8), record(0.0, 0)]],
        });
        let judge = json!({
            "name": "encoder", "ratings": ratings, "verdicts": 8, "settled": 0, "missing": {},
            "position": {"pairs": 8, "share": 0.25, "low": 0.1, "high": 0.6, "first": 2},
        });
        let player = |name: &str| json!({"name": name, "models": []});
        let found: ArenaResult = serde_json::from_value(json!({
            "questions": 8, "sampling": "greedy", "comparisons": 8, "possible_comparisons": 8, "pairs": "all", "prior_sd": 400.0,
            "bootstrap_resamples": 1000, "sequential_k": 32.0, "players": [player("base"), player("sft")], "pooled": ratings,
            "judges": [judge], "agreement": null, "notes": [],
            "slices": [
                {"by": "subject", "value": "law", "questions": 6, "comparisons": 6, "ratings": {
                    "standings": [standing("base", 1530.0, &sure), standing("sft", 1470.0, &Value::Null)], "matrix": [],
                }},
                {"by": "subject", "value": "maths", "questions": 2, "comparisons": 2, "ratings": null, "too_few": "why"},
            ],
        }))
        .unwrap();
        let told = pooled("arena", &found);
        assert_eq!(told.title, "arena, encoder");
        assert_eq!(told.rows[0], Whisker { name: "sft".into(), value: 1520.0, low: 1470.0, high: 1580.0 });
        let rated =
            |value: f64| Some(Measurement { value, interval: Some((value - 50.0, value + 60.0)), count: Some(8) });
        let [slices] = told.slices.as_slice() else { panic!("one expression") };
        assert_eq!(slices.by, "subject");
        assert_eq!(slices.rows[0].ratings, [rated(1470.0), rated(1530.0)], "in the order of the rows above");
        assert_eq!((slices.rows[0].first, slices.rows[0].too_few.as_str()), (Some(1), ""));
        assert_eq!((slices.rows[1].first, slices.rows[1].too_few.as_str()), (None, "why"));
        assert!(slices.rows[1].ratings.is_empty());
        assert_eq!(told.wins, [[None, Some(0.75)], [Some(0.25), None]]);
        assert_eq!(
            told.remarks[1..],
            [
                "sft and base do not differ significantly: about 12 further games are needed.",
                "Position bias of encoder: the position decided 25% of the pairs it read in both orders."
            ]
        );
    }
}
