//! The advantages of tokens, where those of one completion differ.

use orchestrate_core::rewards::credit::Sign;

/// Deals the advantage of a completion out to the tokens of a span by their `credits`.
///
/// With T tokens and shares `p` that add up to 1, a token gets `advantage (floor + (1 - floor) p T)`, so the mean over
/// the span is the advantage (OSPO, arXiv:2601.08403). With `floor` 1, each token gets the advantage, to the bit.
pub fn dealt(advantage: f64, credits: &[f64], floor: f64, sign: Sign) -> Vec<f64> {
    let tokens = credits.len() as f64;
    let shares = shares(advantage, credits, sign);
    shares.into_iter().map(|share| advantage * (floor + (1.0 - floor) * share * tokens)).collect()
}

/// Returns the share of each token, of which the sum is 1.
fn shares(advantage: f64, credits: &[f64], sign: Sign) -> Vec<f64> {
    let parts: Vec<f64> = match sign {
        Sign::Signed if advantage < 0.0 => credits.iter().map(|credit| (-credit).max(0.0)).collect(),
        Sign::Signed => credits.iter().map(|credit| credit.max(0.0)).collect(),
        Sign::Paper => {
            let (low, high) =
                credits.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
            let scaled = |credit: &f64| if high > low { (credit - low) / (high - low) } else { 0.5 };
            credits.iter().map(scaled).collect()
        }
    };
    let sum: f64 = parts.iter().sum();
    if sum > 0.0 {
        parts.into_iter().map(|part| part / sum).collect()
    } else {
        vec![1.0 / credits.len() as f64; credits.len()]
    }
}

/// Returns the sum of each number and all that follow it.
fn to_go(numbers: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let mut sums: Vec<f64> = numbers
        .iter()
        .rev()
        .map(|number| {
            sum += number;
            sum
        })
        .collect();
    sums.reverse();
    sums
}

/// Returns the advantages of the tokens of a group's completions under the objective of ETPO (arXiv:2402.06700): the
/// reward less `beta` times the divergence from a reference that is still to come.
///
/// `log_ratios` has, for each completion, the log-probability of each token when it was sampled minus that under the
/// reference. A token's advantage is `advantage - beta (D_t - mean D_t)`, where `D_t` is the sum of the log-ratios from
/// the token on and the mean is over the completions that have a token at this position.
pub fn soft_returns(advantages: &[f64], log_ratios: &[Vec<f64>], beta: f64) -> Vec<Vec<f64>> {
    let divergences: Vec<Vec<f64>> = log_ratios.iter().map(|ratios| to_go(ratios)).collect();
    let longest = divergences.iter().map(Vec::len).max().unwrap_or(0);
    let mean_at = |at: usize| {
        let alive: Vec<f64> = divergences.iter().filter_map(|divergence| divergence.get(at).copied()).collect();
        alive.iter().sum::<f64>() / alive.len() as f64
    };
    let means: Vec<f64> = (0..longest).map(mean_at).collect();
    let of_completion = |(advantage, divergence): (&f64, &Vec<f64>)| {
        divergence.iter().zip(&means).map(|(own, mean)| advantage - beta * (own - mean)).collect()
    };
    advantages.iter().zip(&divergences).map(of_completion).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} is not {expected:?}");
    }

    #[test]
    fn the_shares_of_the_paper_go_from_the_lowest_to_the_highest_credit() {
        check(&dealt(1.5, &[0.1, 0.4, 0.0, 0.2], 0.0, Sign::Paper), &[0.857_142_9, 3.428_571_4, 0.0, 1.714_285_7]);
        check(&dealt(-1.0, &[0.2, 0.2], 0.0, Sign::Paper), &[-1.0, -1.0]);
    }

    #[test]
    fn what_helped_shares_a_gain_and_what_hurt_shares_a_loss() {
        check(&dealt(2.0, &[0.3, -0.5, 0.1, 0.0], 0.0, Sign::Signed), &[6.0, 0.0, 2.0, 0.0]);
        check(&dealt(-2.0, &[0.3, -0.5, 0.1, 0.0], 0.0, Sign::Signed), &[0.0, -8.0, 0.0, 0.0]);
        check(&dealt(-2.0, &[0.3, 0.1], 0.0, Sign::Signed), &[-2.0, -2.0]);
        check(&dealt(1.0, &[1.0, 0.0], 0.5, Sign::Signed), &[1.5, 0.5]);
    }

    #[test]
    fn later_divergence_is_charged_to_earlier_tokens() {
        check(&to_go(&[0.5, -1.0, 0.0]), &[-0.5, -1.0, 0.0]);
        // alone, a completion is its own baseline; a second one without divergence halves it
        let of_two = soft_returns(&[1.0, 1.0], &[vec![0.5, -1.0, 0.0], vec![0.0; 3]], 0.1);
        check(&of_two[0], &[1.025, 1.05, 1.0]);
        check(&of_two[1], &[0.975, 0.95, 1.0]);
        // completions that have ended are in no baseline
        check(&soft_returns(&[1.0, 1.0], &[vec![0.5, -1.0], vec![0.0]], 0.1)[0], &[1.025, 1.0]);
    }

    #[test]
    fn a_policy_that_has_not_moved_gets_the_advantages_themselves() {
        let found = soft_returns(&[0.3, -0.7], &[vec![0.0; 3], vec![0.0; 2]], 0.5);
        assert_eq!(found, [vec![0.3; 3], vec![-0.7; 2]]);
    }

    #[test]
    fn at_the_optimum_every_sequence_has_the_same_soft_return() {
        // two tokens of two: the reference, the rewards, and the optimum pi* in proportion to rho exp(R / beta)
        let (beta, first) = (0.5, [0.6, 0.4]);
        let second = [[0.5, 0.5], [0.9, 0.1]];
        let reward = [[0.0, 1.0], [1.0, 0.0]];
        let value = |one: usize| {
            let terms = (0..2).map(|two| second[one][two] * f64::exp(reward[one][two] / beta));
            beta * terms.sum::<f64>().ln()
        };
        let total = beta * (0..2).map(|one| first[one] * f64::exp(value(one) / beta)).sum::<f64>().ln();
        check(&[value(0), value(1), total], &[0.716_890, 0.954_782, 0.825_940]);
        for (one, rewards) in reward.iter().enumerate() {
            for own in rewards {
                let log_ratios = [(value(one) - total) / beta, (own - value(one)) / beta];
                check(&[own - beta * to_go(&log_ratios)[0]], &[total]);
            }
        }
    }

    proptest! {
        #[test]
        fn the_mean_over_the_tokens_is_the_advantage(
            advantage in -3.0..3.0_f64, credits in prop::collection::vec(-1.0..1.0_f64, 1..12), floor in 0.0..1.0_f64,
        ) {
            for sign in [Sign::Signed, Sign::Paper] {
                let found = dealt(advantage, &credits, floor, sign);
                prop_assert!((found.iter().sum::<f64>() / credits.len() as f64 - advantage).abs() < 1e-9);
                // with all of it dealt out alike, the bits are those of the advantage
                prop_assert!(dealt(advantage, &credits, 1.0, sign).iter().all(|own| own.to_bits() == advantage.to_bits()));
            }
        }
    }
}
