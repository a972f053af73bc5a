//! Rounds of a search for seeds: the arms with their decisions.

use super::table::{Column, Table};
use super::verdicts::verdict_words;
use crate::evidence::{Decision, SearchState, SearchedArm, Verdict};
use crate::number::{number, signed};

/// Returns the table of the arms of a search, the baseline first.
pub fn search_table(state: &SearchState, baseline: &str) -> Table {
    let mut table = Table::new(vec![
        Column::left("arm"),
        Column::left("decision").wrapped(),
        Column::right("seeds"),
        Column::right("difference"),
        Column::left("95% interval").dropped(1),
        Column::right("p"),
        Column::right("must reach"),
    ]);
    let mut first = vec![baseline.to_owned(), "(the baseline)".to_owned()];
    first.resize(7, String::new());
    table.push(first);
    for arm in &state.arms {
        let row = arm.row.as_ref();
        let interval = row.and_then(|row| row.interval);
        table.push(vec![
            arm.arm.clone(),
            decision_words(arm),
            arm.seeds.to_string(),
            row.and_then(|row| row.difference).map(signed).unwrap_or_default(),
            interval.map(|(low, high)| format!("[{}, {}]", number(low), number(high))).unwrap_or_default(),
            row.and_then(|row| row.p_value).map(four_digits).unwrap_or_default(),
            arm.level.map(four_digits).unwrap_or_default(),
        ]);
    }
    table
}

/// Formats a probability, so that p can be compared with its level.
fn four_digits(value: f64) -> String {
    if value < 0.0001 { "<0.0001".to_owned() } else { format!("{value:.4}") }
}

/// Describes the decision about an arm: `better`, `open, needs about 4 to 15 more seeds`.
fn decision_words(arm: &SearchedArm) -> String {
    match &arm.decision {
        Decision::Separable(way) => way.word().to_owned(),
        Decision::GivenUp(reason) => format!("not separable, given up: {reason}"),
        Decision::Exhausted => "not separable with all seeds".to_owned(),
        Decision::Open => match arm.row.as_ref().filter(|row| row.verdict == Verdict::NotSeparable) {
            Some(row) => verdict_words(row).replace("not separable", "open"),
            None => "open".to_owned(),
        },
    }
}

/// Formats seeds: `seed 4`, `seeds 1 to 3`, `seeds 1, 2, 7`.
pub fn seed_list(seeds: &[u64]) -> String {
    let are_adjacent = seeds.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1]));
    match seeds {
        [only] => format!("seed {only}"),
        [first, .., last] if seeds.len() > 2 && are_adjacent => format!("seeds {first} to {last}"),
        several => format!("seeds {}", several.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_shortened_where_they_follow_each_other() {
        let lists = [&[4][..], &[4, 5], &[1, 2, 3], &[1, 2, 7]].map(seed_list);
        assert_eq!(lists, ["seed 4", "seeds 4, 5", "seeds 1 to 3", "seeds 1, 2, 7"]);
    }
}
