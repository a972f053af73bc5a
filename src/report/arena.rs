//! The tables of an arena: ratings, win rates, and the reliability of the judges.

use super::table::{Column, Table};
use crate::arena::{ArenaResult, JudgeResult, Lead, PairRecord, Ratings, SliceRatings, Standing};
use crate::number::{interval, number};
use crate::printable::harmless;

/// Renders the table at the end of a run, in at most `width` columns: ratings by all judges together. Lines below it
/// list leads that are not separable, and other remarks.
pub fn arena_table(title: &str, result: &ArenaResult, width: usize) -> String {
    let judges: Vec<&str> = result.judges.iter().map(|judge| judge.name.as_str()).collect();
    let ArenaResult { questions, sampling, comparisons, possible_comparisons, .. } = result;
    let mut lines = vec![
        format!(
            "{title}: {questions} questions ({sampling}), {comparisons} of {possible_comparisons} pairs of answers compared by {}",
            judges.join(", ")
        ),
        standings(&result.pooled.standings).render(width),
    ];
    for standing in &result.pooled.standings {
        let unclear = standing.next.as_ref().filter(|lead| !lead.separable);
        lines.extend(unclear.map(|lead| not_separable(&standing.player, lead)));
    }
    lines.extend(result.notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

/// Renders all other tables: win rates between players, ratings by each judge, and the judges themselves.
pub fn arena_details(result: &ArenaResult, width: usize) -> String {
    let mut blocks =
        vec![format!("share of games won by the player at the left\n{}", win_rates(result).render_wrapped(width))];
    if result.judges.len() > 1 {
        blocks.push(format!("ratings by each judge\n{}", by_judge(result).render_wrapped(width)));
    }
    blocks.extend(by_slice(result, width));
    blocks.push(format!("judges\n{}", judges(&result.judges).render(width)));
    if let Some(found) = &result.agreement {
        let value = found.value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.2}"));
        blocks.push(format!(
            "agreement of the judges beyond chance ({}): {value}, on {} verdicts",
            found.measure, found.items
        ));
    }
    blocks.push(format!(
        "Bradley-Terry ratings, ties counting half, with a normal prior of {} points round 1500; 95% intervals of {} bootstrap \
         resamples of the questions; sequential Elo with K = {}. A comparison of two answers is one game, the mean over judges and orders.",
        result.prior_sd, result.bootstrap_resamples, result.sequential_k
    ));
    blocks.join("\n\n")
}

fn not_separable(player: &str, lead: &Lead) -> String {
    let Lead { over, points, interval: ends, further_games, .. } = lead;
    let Some((low, high)) = ends else {
        return format!("not separable: `{player}` and `{over}`, as one of them has no game");
    };
    let needed = match further_games {
        Some(games) => format!("needs about {games} more games of the two"),
        None => "no playable number of games would separate them".to_owned(),
    };
    format!("not separable: `{player}` leads `{over}` by {points:.0} [{low:+.0}, {high:+.0}]; {needed}")
}

fn standings(standings: &[Standing]) -> Table {
    let mut table = Table::new(vec![
        Column::right(""),
        Column::left("player").shortened(),
        Column::right("elo"),
        Column::left("95%"),
        Column::right("games"),
        Column::right("ties").dropped(1),
        Column::right("won"),
        Column::right("sequential").dropped(2),
    ]);
    let ends = |ends: Option<(f64, f64)>| ends.map(|(low, high)| format!("[{low:.0}, {high:.0}]")).unwrap_or_default();
    for standing in standings {
        let Standing { rank, player, elo, interval, sequential_elo, record, seeds, .. } = standing;
        let mut row = vec![rank.to_string(), player.clone(), format!("{elo:.0}"), ends(*interval)];
        row.extend(counts(record));
        row.push(format!("{sequential_elo:.0}"));
        table.push(row);
        for seed in seeds {
            let name = seed.seed.map_or_else(|| "untrained".to_owned(), |seed| format!("seed {seed}"));
            let mut row = vec![String::new(), format!("  {name}"), format!("{:.0}", seed.elo), ends(seed.interval)];
            row.extend(counts(&seed.record));
            row.push(String::new());
            table.push(row);
        }
    }
    table
}

/// Returns games, ties, and the fraction of games won.
fn counts(record: &PairRecord) -> [String; 3] {
    [record.games.to_string(), record.ties.to_string(), share(record.win_rate())]
}

fn share(share: Option<f64>) -> String {
    share.map(|share| format!("{:.0}%", 100.0 * share)).unwrap_or_default()
}

fn win_rates(result: &ArenaResult) -> Table {
    let place = |standing: &Standing| result.players.iter().position(|player| player.name == standing.player);
    let ranked: Vec<usize> = result.pooled.standings.iter().filter_map(place).collect();
    let mut columns = vec![Column::left("")];
    columns.extend(ranked.iter().map(|&other| Column::right(format!("{} (games)", result.players[other].name))));
    let mut table = Table::new(columns);
    for &player in &ranked {
        let cell = |&other: &usize| {
            let record = &result.pooled.matrix[player][other];
            record.win_rate().map(|_| format!("{} ({})", share(record.win_rate()), record.games)).unwrap_or_default()
        };
        let mut row = vec![result.players[player].name.clone()];
        row.extend(ranked.iter().map(cell));
        table.push(row);
    }
    table
}

fn by_judge(result: &ArenaResult) -> Table {
    let mut columns = vec![Column::left("player")];
    columns.extend(result.judges.iter().map(|judge| Column::right(judge.name.clone())));
    let mut table = Table::new(columns);
    for standing in &result.pooled.standings {
        let of = |judge: &JudgeResult| {
            let own = judge.ratings.standings.iter().find(|own| own.player == standing.player);
            own.filter(|own| own.record.games > 0).map_or_else(String::new, |own| {
                let ends = own.interval.map(interval).unwrap_or_default();
                format!("{:.0} {ends}", own.elo)
            })
        };
        let mut row = vec![standing.player.clone()];
        row.extend(result.judges.iter().map(of));
        table.push(row);
    }
    table
}

/// Returns a table for each expression that slices the questions: the ratings of all players in each slice. Lines below
/// it name the slices that have too few games.
fn by_slice(result: &ArenaResult, width: usize) -> Vec<String> {
    let players: Vec<&str> = result.pooled.standings.iter().map(|standing| standing.player.as_str()).collect();
    let mut blocks = Vec::new();
    for slices in result.slices.chunk_by(|one, other| one.slice.by == other.slice.by) {
        let by = harmless(&slices[0].slice.by);
        let mut columns = vec![Column::left("slice"), Column::right("questions"), Column::right("compared").dropped(1)];
        columns.extend(players.iter().map(|player| Column::right(*player)));
        columns.push(Column::left("first").wrapped());
        let mut table = Table::new(columns);
        let mut lines = Vec::new();
        for SliceRatings { slice, questions, comparisons, ratings, too_few } in slices {
            let value = harmless(&slice.value);
            let mut row = vec![value.clone(), questions.to_string(), comparisons.to_string()];
            let cell = |player: &&str| {
                let own = ratings.as_ref()?.standings.iter().find(|own| own.player == **player)?;
                let ends = own.interval.map(|(low, high)| format!(" [{low:.0}, {high:.0}]")).unwrap_or_default();
                Some(format!("{:.0}{ends}", own.elo))
            };
            row.extend(players.iter().map(|player| cell(player).unwrap_or_else(|| "–".to_owned())));
            row.push(ratings.as_ref().map_or_else(|| "too few games".to_owned(), first));
            table.push(row);
            lines.extend(too_few.as_ref().map(|reason| format!("too few games in {value}: {reason}")));
        }
        let fits = table.natural_width() <= width;
        let table = if fits { table.render(width) } else { table.render_wrapped(width) };
        blocks.push(format!("ratings by {by}\n{}", std::iter::once(table).chain(lines).collect::<Vec<_>>().join("\n")));
    }
    blocks
}

/// Returns the name of the first player if its lead over the second is separable.
fn first(ratings: &Ratings) -> String {
    let first = ratings.standings.first().filter(|first| first.next.as_ref().is_some_and(|lead| lead.separable));
    first.map_or_else(|| "not separable".to_owned(), |first| first.player.clone())
}

fn judges(judges: &[JudgeResult]) -> Table {
    let mut table = Table::new(vec![
        Column::left("judge"),
        Column::right("verdicts"),
        Column::right("settled"),
        Column::right("missing"),
        Column::left("same place in both orders"),
        Column::right("of it first").dropped(1),
    ]);
    for judge in judges {
        let missing: usize = judge.missing.values().sum();
        let place = judge.position.map(|bias| format!("{} {}", number(bias.share), interval((bias.low, bias.high))));
        table.push(vec![
            judge.name.clone(),
            judge.verdicts.to_string(),
            judge.settled.to_string(),
            missing.to_string(),
            place.unwrap_or_default(),
            judge.position.map(|bias| bias.first.to_string()).unwrap_or_default(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slice::Slice;
    use serde_json::json;

    fn result() -> ArenaResult {
        let record = |games: usize, wins: f64, ties: usize| json!({ "games": games, "wins": wins, "ties": ties });
        let standing = |rank: usize, player: &str, elo: f64, next: serde_json::Value| {
            json!({ "rank": rank, "player": player, "elo": elo, "interval": [elo - 20.0, elo + 20.0], "sequential_elo": elo + 1.0,
                    "games": 40, "wins": 24.0, "ties": 4, "win_rate": 0.6, "next": next })
        };
        let lead = json!({ "over": "sft", "points": 30.0, "interval": [-4.0, 64.0], "separable": false, "further_games": 212 });
        let mut first = standing(1, "grpo [rouge]", 1515.0, lead);
        first["seeds"] = json!([{ "seed": 1, "elo": 1520.0, "interval": null, "games": 20, "wins": 13.0, "ties": 2 }]);
        let ratings = json!({
            "standings": [first, standing(2, "sft", 1485.0, json!(null))],
            "matrix": [[record(0, 0.0, 0), record(40, 16.0, 4)], [record(40, 24.0, 4), record(0, 0.0, 0)]],
        });
        let judge = |name: &str, missing: serde_json::Value, position: serde_json::Value| json!({ "name": name, "ratings": ratings, "verdicts": 38, "settled": 2, "missing": missing, "position": position });
        let bias = json!({ "pairs": 38, "share": 0.25, "low": 0.1, "high": 0.4, "first": 7 });
        let model = json!({ "seed": 1, "answers": 20, "empty": 0, "truncated": 0, "tokens_mean": 9.5 });
        serde_json::from_value(json!({
            "questions": 20, "sampling": "greedy, at most 24 tokens", "comparisons": 40, "possible_comparisons": 40, "pairs": "all",
            "prior_sd": 400.0, "bootstrap_resamples": 100, "sequential_k": 4.0,
            "players": [{ "name": "sft", "models": [model] }, { "name": "grpo [rouge]", "models": [model] }],
            "pooled": ratings,
            "judges": [judge("similarity", json!({}), json!(null)), judge("two", json!({ "cut": 2 }), bias)],
            "agreement": { "measure": "cohen_kappa", "value": 0.5, "items": 76 },
            "notes": ["`two` has no verdict on 2 of 40 comparisons"],
        }))
        .expect("the result has its form")
    }

    #[test]
    fn the_table_ranks_players_and_says_what_is_not_known() {
        let text = arena_table("arena", &result(), 100);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains("20 questions (greedy, at most 24 tokens), 40 of 40")
                && lines[0].ends_with("similarity, two")
        );
        let row = text.lines().find(|line| line.contains("grpo [rouge]")).expect("a row");
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>().join(" "),
            "1 grpo [rouge] 1515 [1495, 1535] 40 4 60% 1516"
        );
        assert!(lines.iter().any(|line| line.contains("  seed 1") && line.contains("1520")), "{text}");
        assert!(text.contains("not separable: `grpo [rouge]` leads `sft` by 30 [-4, +64]; needs about 212 more games"));
        assert!(text.ends_with("note: `two` has no verdict on 2 of 40 comparisons"));
    }

    #[test]
    fn slices_have_a_row_each_and_too_few_games_are_told() {
        let mut result = result();
        assert!(!arena_details(&result, 100).contains("ratings by subject"));
        let slice = |value: &str, ratings: Option<Ratings>, too_few: Option<&str>| SliceRatings {
            slice: Slice { by: "subject".to_owned(), value: value.to_owned() },
            questions: 12,
            comparisons: 24,
            ratings,
            too_few: too_few.map(str::to_owned),
        };
        let mut sure = result.pooled.clone();
        sure.standings[0].next.as_mut().expect("another is below").separable = true;
        result.slices = vec![
            slice("biology", Some(result.pooled.clone()), None),
            slice("law", Some(sure), None),
            slice("maths\u{1b}", None, Some("`sft` has 3 games, and 10 are needed")),
        ];
        let text = arena_details(&result, 120);
        let (_, table) = text.split_once("ratings by subject\n").expect("a table");
        let (table, _) = table.split_once("\n\n").expect("a line is left out below it");
        insta::assert_snapshot!(table, @r"
        slice        questions  compared       grpo [rouge]                sft  first
        ─────────────────────────────────────────────────────────────────────────────────────
        biology             12        24  1515 [1495, 1535]  1485 [1465, 1505]  not separable
        law                 12        24  1515 [1495, 1535]  1485 [1465, 1505]  grpo [rouge]
        maths\u{1b}         12        24                  –                  –  too few games
        too few games in maths\u{1b}: `sft` has 3 games, and 10 are needed
        ");
    }

    #[test]
    fn details_tell_who_beat_whom_and_what_judges_are_worth() {
        let text = arena_details(&result(), 100);
        // Players appear in their order of rank, whatever their places in the matrix.
        let row = text.lines().find(|line| line.starts_with("grpo [rouge]")).expect("a row");
        assert!(row.trim_end().ends_with("60% (40)"), "{text}");
        assert!(text.contains("cohen_kappa): 0.50, on 76 verdicts"));
        let judge = text.lines().rev().find(|line| line.starts_with("two")).expect("a judge");
        assert_eq!(judge.split_whitespace().collect::<Vec<_>>().join(" "), "two 38 2 2 0.250 [0.10, 0.40] 7");
    }
}
