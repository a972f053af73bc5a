use super::*;
use proptest::prelude::*;

/// Returns the credits in the game whose coalitions have the values of `value`.
fn credits(game: &Game, value: impl Fn(&[usize]) -> f64) -> Vec<f64> {
    let values: Vec<f64> = game.coalitions().iter().map(|members| value(members)).collect();
    game.credits(&values)
}

fn game(segments: usize, rule: CoalitionRule, unions: &[Range<usize>]) -> Game {
    Game::new(segments, unions, rule, 64, 7)
}

#[track_caller]
fn check(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?} is not {expected:?}");
}

/// A game with known values: 0.2 and 0.3 for the first two, 0.5 more for both, and 0.4 for the first with the third.
fn mixed(members: &[usize]) -> f64 {
    let has = |segment: usize| members.contains(&segment);
    let when = |value: f64, is: bool| if is { value } else { 0.0 };
    when(0.2, has(0)) + when(0.3, has(1)) + when(0.5, has(0) && has(1)) + when(0.4, has(0) && has(2))
}

#[test]
fn credits_are_those_computed_by_hand() {
    check(&credits(&game(3, CoalitionRule::All, &[]), mixed), &[0.65, 0.55, 0.2]);
    check(&credits(&game(3, CoalitionRule::Windows, &[]), mixed), &[0.66, 0.425, 0.16]);
    let all_three = |members: &[usize]| f64::from(members.len() == 3);
    check(&credits(&game(3, CoalitionRule::All, &[]), all_three), &[1.0 / 3.0; 3]);
    check(&credits(&game(3, CoalitionRule::Owen, &[0..2, 2..3]), all_three), &[0.25, 0.25, 0.5]);
}

#[test]
fn runs_credit_segments_that_only_add_up_with_their_own_values() {
    // the sum of the weights that are there divides, so that short runs suffice
    let value = |members: &[usize]| members.iter().map(|segment| 0.1 * (segment + 1) as f64).sum();
    for most in [5, 8, 64] {
        let game = Game::new(4, &[], CoalitionRule::Windows, most, 7);
        assert!(game.coalitions().len() <= most, "{most}");
        check(&credits(&game, value), &[0.1, 0.2, 0.3, 0.4]);
    }
}

#[test]
fn the_empty_text_and_one_segment_have_credits_too() {
    for rule in [CoalitionRule::All, CoalitionRule::Windows] {
        check(&credits(&game(0, rule, &[]), |_| 1.0), &[]);
        check(&credits(&game(1, rule, &[]), |_| 0.75), &[0.75]);
    }
}

#[test]
fn many_segments_are_valued_in_orders_that_keep_unions_together() {
    let unions = [0..5, 5..10, 10..20];
    let game = Game::new(20, &unions, CoalitionRule::Owen, 200, 7);
    assert!(matches!(game.way, Way::Orders(_)));
    let Way::Orders(orders) = &game.way else { unreachable!() };
    for order in orders {
        let places: Vec<usize> =
            order.iter().map(|at| unions.iter().position(|union| union.contains(at)).unwrap()).collect();
        assert_eq!(places.chunk_by(|one, other| one == other).count(), 3, "{order:?}");
    }
    let other = Game::new(20, &unions, CoalitionRule::Owen, 200, 8);
    assert_ne!(format!("{game:?}"), format!("{other:?}"), "another seed, other orders");
    assert_eq!(format!("{game:?}"), format!("{:?}", Game::new(20, &unions, CoalitionRule::Owen, 200, 7)));
    assert!(game.coalitions().len() <= 200);
}

/// Returns a value of a coalition that depends on `numbers` and on nothing else.
fn arbitrary(numbers: &[f64], members: &[usize]) -> f64 {
    let set = members.iter().fold(0, |set, segment| set | 1 << segment);
    if set == 0 { 0.0 } else { numbers[set % numbers.len()] }
}

proptest! {
    #[test]
    fn shapley_and_owen_values_have_their_axioms(
        numbers in prop::collection::vec(-1.0..1.0_f64, 97),
        others in prop::collection::vec(-1.0..1.0_f64, 89),
        segments in 1_usize..7,
        cut in 0_usize..7,
        max_coalitions in 20_usize..200,
    ) {
        let cut = cut.min(segments);
        let unions: Vec<Range<usize>> = [0..cut, cut..segments].into_iter().filter(|union| !union.is_empty()).collect();
        for rule in [CoalitionRule::All, CoalitionRule::Owen] {
            let game = Game::new(segments, &unions, rule, max_coalitions, 3);
            let all: Vec<usize> = (0..segments).collect();
            let one = credits(&game, |members| arbitrary(&numbers, members));
            let other = credits(&game, |members| arbitrary(&others, members));
            let both = credits(&game, |members| arbitrary(&numbers, members) + arbitrary(&others, members));
            // efficiency, also of orders that are drawn
            prop_assert!((one.iter().sum::<f64>() - arbitrary(&numbers, &all)).abs() < 1e-9);
            // additivity
            for ((one, other), both) in one.iter().zip(&other).zip(&both) {
                prop_assert!((one + other - both).abs() < 1e-9);
            }
            // a segment that changes nothing has no credit
            let without_last = |members: &[usize]| {
                let rest: Vec<usize> = members.iter().copied().filter(|at| at + 1 != segments).collect();
                arbitrary(&numbers, &rest)
            };
            prop_assert!(credits(&game, without_last)[segments - 1].abs() < 1e-9);
        }
        // segments that count alike have the same Shapley value
        let game = Game::new(segments, &[], CoalitionRule::All, 200, 3);
        let by_size = credits(&game, |members| numbers[members.len()]);
        prop_assert!(by_size.iter().all(|credit| (credit - by_size[0]).abs() < 1e-9));
    }
}
