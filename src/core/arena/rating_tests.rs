//! Tests of ratings, from verdicts to standings and notes.

use super::comparison::{ArenaQuestion, Better, Comparison, ComparisonVerdict};
use super::rating::{Answers, rate};
use super::result::{ArenaResult, PairRecord, Ratings, Standing};
use super::testing::{comparison, spec};
use crate::recipe::spec::ArenaSpec;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn by_name(ratings: &Ratings) -> BTreeMap<String, (f64, (f64, f64), PairRecord)> {
    let of = |standing: &Standing| {
        (standing.player.clone(), (standing.elo, standing.interval.unwrap_or_default(), standing.record))
    };
    ratings.standings.iter().map(of).collect()
}

fn assert_same(one: &Ratings, other: &Ratings) {
    let (one, other) = (by_name(one), by_name(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for ((elo, (low, high), record), (elo2, (low2, high2), record2)) in one.values().zip(other.values()) {
        // the maximization stops where rounding hides further gains, about 1e-6 points away
        assert!((elo - elo2).abs() < 1e-4 && (low - low2).abs() < 1e-4 && (high - high2).abs() < 1e-4);
        assert_eq!(record, record2);
    }
}

fn rated(spec: &ArenaSpec, comparisons: &[Comparison]) -> ArenaResult {
    let questions = comparisons.iter().map(|c| c.question + 1).max().unwrap_or(0);
    rated_by(spec, questions, comparisons, |_| BTreeMap::new())
}

/// Returns the result with slices of each question.
fn rated_by(
    spec: &ArenaSpec,
    questions: usize,
    comparisons: &[Comparison],
    slices: impl Fn(usize) -> BTreeMap<String, String>,
) -> ArenaResult {
    let question = |row: usize| ArenaQuestion { digest: row.to_string(), row, slices: slices(row) };
    let questions: Vec<ArenaQuestion> = (0..questions).map(question).collect();
    rate(spec, &vec![Answers::default(); spec.models().count()], &questions, comparisons, 7)
}

#[test]
fn the_better_player_stands_first_and_its_lead_is_reported() {
    // a beats b in both orders on 3 of 4 questions; b and c tie on half of them, and each wins one in four
    let mut comparisons = Vec::new();
    for question in 0..40 {
        let better = if question % 4 < 3 { Better::A } else { Better::B };
        comparisons.push(comparison(question, 0, 1, &[ComparisonVerdict::Trivial(better)]));
        let even = [Better::A, Better::Tie, Better::B, Better::Tie][question % 4];
        comparisons.push(comparison(question, 1, 2, &[ComparisonVerdict::Trivial(even)]));
    }
    let result = rated(&spec(&[1, 1, 1], 1), &comparisons);
    let [first, second, third] = &result.pooled.standings[..] else { panic!("three players") };
    assert_eq!((first.player.as_str(), first.rank), ("p0", 1));
    let lead = first.next.as_ref().expect("somebody stands below");
    assert!(lead.separable && lead.further_games == Some(0), "{lead:?}");
    // the prior lowers the lead slightly from 400 log10 3
    assert!((lead.points - 190.8).abs() < 12.0, "{lead:?}");
    assert!((first.elo + second.elo + third.elo - 4500.0).abs() < 1e-6);
    assert!(first.sequential_elo > 1500.0);
    assert!(!second.next.as_ref().expect("one stands below").separable);
    assert_eq!(result.pooled.matrix[0][1], PairRecord { games: 40, wins: 30.0, ties: 0 });
    assert_eq!(result.pooled.matrix[2][1], PairRecord { games: 40, wins: 20.0, ties: 20 });
}

#[test]
fn seeds_are_one_player_and_listed_below_it() {
    let mut comparisons = Vec::new();
    for question in 0..20 {
        for (seed, better) in [(0, Better::A), (1, Better::Tie)] {
            comparisons.push(comparison(question, seed, 2, &[ComparisonVerdict::Trivial(better)]));
        }
    }
    let result = rated(&spec(&[2, 1], 1), &comparisons);
    let first = &result.pooled.standings[0];
    assert_eq!((first.player.as_str(), first.record.games, first.seeds.len()), ("p0", 40, 2));
    assert!(first.seeds[0].elo > first.seeds[1].elo);
    assert_eq!(first.seeds[0].record, PairRecord { games: 20, wins: 20.0, ties: 0 });
    assert!(result.pooled.standings[1].seeds.is_empty());
    assert!(result.notes.iter().any(|note| note.contains("different seeds")), "{:?}", result.notes);
}

#[test]
fn what_is_missing_is_counted_and_told_and_in_no_game() {
    let cut = || ComparisonVerdict::Missing("the judge `j`: its answer was cut: `{\"re`".to_owned());
    let comparisons = vec![
        comparison(0, 0, 1, &[ComparisonVerdict::Trivial(Better::A), cut()]),
        comparison(1, 0, 1, &[ComparisonVerdict::Judged { a_first: Better::A, b_first: Better::A }, cut()]),
        comparison(
            2,
            0,
            1,
            &[
                ComparisonVerdict::Judged { a_first: Better::A, b_first: Better::B },
                ComparisonVerdict::Judged { a_first: Better::A, b_first: Better::A },
            ],
        ),
    ];
    let result = rated(&spec(&[1, 1], 2), &comparisons);
    let [one, other] = &result.judges[..] else { panic!("two judges") };
    assert_eq!((one.verdicts, one.settled, other.verdicts), (2, 1, 1));
    assert_eq!(other.missing, BTreeMap::from([("the judge `j`: its answer was cut".to_owned(), 2)]));
    assert_eq!(other.ratings.matrix[0][1].games, 1);
    assert_eq!(result.pooled.matrix[0][1].games, 4);
    assert!(result.notes.iter().any(|note| note.contains("no verdict on 2 of 3")), "{:?}", result.notes);
    let agreement = result.agreement.expect("two judges");
    assert_eq!((agreement.measure.as_str(), agreement.items), ("krippendorff_alpha", 1));
    let position = one.position.as_ref().expect("it read two pairs");
    assert_eq!((position.pairs, position.first), (2, 1));
}

#[test]
fn a_judge_that_returned_nothing_rates_nobody() {
    let none = || ComparisonVerdict::Missing("no answer".to_owned());
    let comparisons: Vec<Comparison> =
        (0..5).map(|question| comparison(question, 0, 1, &[ComparisonVerdict::Trivial(Better::A), none()])).collect();
    let result = rated(&spec(&[1, 1, 1], 2), &comparisons);
    let silent = &result.judges[1].ratings.standings;
    assert!(silent.iter().all(|standing| standing.record.games == 0 && standing.interval.is_none()), "{silent:?}");
    assert!(silent.iter().all(|standing| standing.next.as_ref().is_none_or(|lead| !lead.separable)));
    assert_eq!(result.judges[0].ratings.standings[0].record.games, 5);
    let never_played = result.notes.iter().filter(|note| note.contains("has no game")).count();
    assert_eq!(never_played, 1, "{:?}", result.notes);
}

#[test]
fn two_judges_have_cohens_kappa_and_three_that_of_fleiss() {
    let read = |better| ComparisonVerdict::Judged { a_first: better, b_first: better };
    let verdicts = [Better::A, Better::B, Better::A, Better::Tie];
    let of = |judges: usize| -> Vec<Comparison> {
        (0..4).map(|q| comparison(q, 0, 1, &vec![read(verdicts[q]); judges])).collect()
    };
    for (judges, measure) in [(2, "cohen_kappa"), (3, "fleiss_kappa")] {
        let agreement = rated(&spec(&[1, 1], judges), &of(judges)).agreement.expect("several judges");
        assert_eq!((agreement.measure.as_str(), agreement.items), (measure, 8));
        assert!((agreement.value.expect("they differ") - 1.0).abs() < 1e-12);
    }
}

#[test]
fn the_ratings_of_a_slice_are_those_of_an_arena_over_its_questions() {
    let spec = spec(&[2, 1, 1], 2);
    let mut comparisons = Vec::new();
    for question in 0..30 {
        for (at, (a, b)) in [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)].into_iter().enumerate() {
            let verdict = |judge: usize| match (question * 7 + at * 5 + judge * 3 + question % 3 * at) % 5 {
                0 | 1 => ComparisonVerdict::Trivial(Better::A),
                2 => ComparisonVerdict::Judged { a_first: Better::A, b_first: Better::B },
                3 => ComparisonVerdict::Trivial(Better::B),
                _ => ComparisonVerdict::Missing("cut".to_owned()),
            };
            comparisons.push(comparison(question, a, b, &[verdict(0), verdict(1)]));
        }
    }
    let subject = |question: usize| ["biology", "law", "physics"][question % 3];
    let slices = |question: usize| {
        BTreeMap::from([("subject".to_owned(), subject(question).to_owned()), ("level".to_owned(), "1".to_owned())])
    };
    let whole = rated_by(&spec, 30, &comparisons, slices);
    let names: Vec<(&str, &str)> =
        whole.slices.iter().map(|found| (found.slice.by.as_str(), found.slice.value.as_str())).collect();
    assert_eq!(names, [("level", "1"), ("subject", "biology"), ("subject", "law"), ("subject", "physics")]);
    assert_eq!(whole.slices[0].ratings.as_ref(), Some(&whole.pooled), "a slice of all questions is the whole");
    for found in &whole.slices[1..] {
        let own = comparisons.iter().filter(|comparison| subject(comparison.question) == found.slice.value);
        let own: Vec<Comparison> = own.map(|c| Comparison { question: c.question / 3, ..c.clone() }).collect();
        let alone = rated(&spec, &own);
        assert_eq!(found.ratings.as_ref(), Some(&alone.pooled), "{:?}", found.slice);
        assert_eq!((found.questions, found.comparisons), (10, 50));
        assert_ne!(alone.pooled, whole.pooled);
    }
    let plain = rated_by(&spec, 30, &comparisons, |_| BTreeMap::new());
    assert_eq!(plain, ArenaResult { slices: Vec::new(), ..whole }, "slices change nothing else");
    assert!(!serde_json::to_string(&plain).unwrap().contains("slices"));
}

#[test]
fn a_slice_with_too_few_games_has_a_reason_and_no_ratings() {
    let won = ComparisonVerdict::Trivial(Better::A);
    let cut = ComparisonVerdict::Missing("cut".to_owned());
    let mut comparisons = Vec::new();
    for question in 0..20 {
        comparisons.push(comparison(question, 0, 1, std::slice::from_ref(&won)));
        // p2 meets the others on the last 16 questions, of which the judge read 12
        let verdict = if question < 8 { &cut } else { &won };
        if question > 3 {
            comparisons.push(comparison(question, 1, 2, std::slice::from_ref(verdict)));
        }
    }
    let value = |question: usize| match question {
        0..=3 => "few questions",
        4..=13 => "few games",
        _ => "six questions",
    };
    let slices = |question: usize| BTreeMap::from([("part".to_owned(), value(question).to_owned())]);
    let found = rated_by(&spec(&[1, 1, 1], 1), 20, &comparisons, slices).slices;
    let told: Vec<(&str, Option<&str>)> =
        found.iter().map(|found| (found.slice.value.as_str(), found.too_few.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("few games", Some("`p2` has 6 games, and 10 are needed")),
            ("few questions", Some("4 of its questions have a game, and 5 are needed")),
            ("six questions", Some("`p0` has 6 games, and 10 are needed")),
        ]
    );
    assert!(found.iter().all(|found| found.ratings.is_none()));
    let whole =
        rated_by(&spec(&[1, 1, 1], 1), 20, &comparisons, |_| BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    assert!(whole.slices[0].ratings.is_some() && whole.slices[0].too_few.is_none(), "12 games are enough");
}

fn verdict() -> impl Strategy<Value = ComparisonVerdict> {
    let better = || prop_oneof![Just(Better::A), Just(Better::B), Just(Better::Tie)];
    prop_oneof![
        4 => (better(), better()).prop_map(|(a_first, b_first)| ComparisonVerdict::Judged { a_first, b_first }),
        1 => better().prop_map(ComparisonVerdict::Trivial),
        1 => Just(ComparisonVerdict::Missing("none".to_owned())),
    ]
}

fn comparisons() -> impl Strategy<Value = Vec<Comparison>> {
    let one = (0_usize..6, 0_usize..4, 1_usize..4, verdict(), verdict());
    prop::collection::vec(one, 1..40).prop_map(|all| {
        let made = |(q, one, d, a, b)| comparison(q, one, (one + d) % 4, &[a, b]);
        all.into_iter().map(made).collect()
    })
}

fn turned(verdict: &ComparisonVerdict) -> ComparisonVerdict {
    let turn = |better| match better {
        Better::A => Better::B,
        Better::B => Better::A,
        Better::Tie => Better::Tie,
    };
    match verdict {
        ComparisonVerdict::Judged { a_first, b_first } => {
            ComparisonVerdict::Judged { a_first: turn(*b_first), b_first: turn(*a_first) }
        }
        ComparisonVerdict::Trivial(better) => ComparisonVerdict::Trivial(turn(*better)),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn relabelling_players_permutes_their_ratings(comparisons in comparisons(), shift in 1_usize..4) {
        let spec = ArenaSpec { bootstrap_resamples: 50, ..spec(&[1, 1, 1, 1], 2) };
        let mut relabelled = spec.clone();
        relabelled.players.rotate_right(shift);
        let moved: Vec<Comparison> = comparisons
            .iter()
            .map(|c| Comparison { a: (c.a + shift) % 4, b: (c.b + shift) % 4, ..c.clone() })
            .collect();
        let (before, after) = (rated(&spec, &comparisons), rated(&relabelled, &moved));
        assert_same(&before.pooled, &after.pooled);
        assert_same(&before.judges[1].ratings, &after.judges[1].ratings);
    }

    #[test]
    fn which_model_is_called_the_one_changes_nothing(comparisons in comparisons()) {
        let spec = ArenaSpec { bootstrap_resamples: 50, ..spec(&[1, 1, 1, 1], 2) };
        let swapped: Vec<Comparison> = comparisons
            .iter()
            .map(|c| comparison(c.question, c.b, c.a, &c.verdicts.iter().map(turned).collect::<Vec<_>>()))
            .collect();
        let (before, after) = (rated(&spec, &comparisons), rated(&spec, &swapped));
        assert_same(&before.pooled, &after.pooled);
        let position = |result: &ArenaResult| result.judges[0].position.map(|p| (p.pairs, p.first, p.share));
        prop_assert_eq!(position(&before), position(&after));
        let agreement = |result: &ArenaResult| result.agreement.as_ref().and_then(|found| found.value);
        match (agreement(&before), agreement(&after)) {
            (Some(one), Some(other)) => prop_assert!((one - other).abs() < 1e-9),
            (one, other) => prop_assert_eq!(one, other),
        }
    }
}
