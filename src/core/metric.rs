//! The table of every metric that the program computes: its meaning, unit, direction, range and display. No property is
//! inferred from a name. A metric outside this table, such as one of a user's program, has neither a direction nor a
//! range until the user sets them.

use crate::slice::whole_metric;
use serde::{Deserialize, Serialize};

/// The direction in which a metric improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Higher values are better.
    Higher,
    /// Lower values are better.
    Lower,
}

/// The unit of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// No unit: a ratio, a score or a loss.
    None,
    /// A fraction of a whole, from 0 to 1.
    Fraction,
    /// A count of whole items: completions, groups or calls.
    Count,
    /// Tokens.
    Tokens,
    /// Words.
    Words,
    /// Tokens per second.
    TokensPerSecond,
    /// Comparisons per second.
    ComparisonsPerSecond,
    /// Seconds.
    Seconds,
    /// US dollars.
    UsDollars,
}

impl Direction {
    /// Returns the direction that `word` names.
    pub fn named(word: &str) -> Option<Self> {
        [Self::Higher, Self::Lower].into_iter().find(|direction| direction.word() == word)
    }

    /// Returns the word that tables and `--json` show.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
        }
    }
}

impl Unit {
    /// Returns the word that tables and `--json` show.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Fraction => "fraction",
            Self::Count => "count",
            Self::Tokens => "tokens",
            Self::Words => "words",
            Self::TokensPerSecond => "tokens/s",
            Self::ComparisonsPerSecond => "comparisons/s",
            Self::Seconds => "s",
            Self::UsDollars => "USD",
        }
    }
}

/// The aggregation of the values of several batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// The mean of the values.
    Mean,
    /// The sum of the values.
    Sum,
    /// The last value.
    Last,
}

impl Aggregate {
    /// Returns the word that tables and `--json` show.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Sum => "sum",
            Self::Last => "last",
        }
    }
}

/// The position of a metric in tables; the first rank comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The accuracies, in their order.
    Accuracy(u8),
    /// The score by one mix for all arms.
    CommonScore,
    /// The score by the mix on which an arm is trained.
    Reward,
    /// The score by a component of the mix.
    Component,
    /// Every other metric.
    Other,
}

/// A metric, or a family of metrics whose names share a pattern.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name; a word in braces matches a name from the user, `{k}` a number.
    pub name: &'static str,
    /// The unit of its values.
    pub unit: Unit,
    /// The direction of improvement; absent where it depends on the use.
    pub direction: Option<Direction>,
    /// The aggregation over batches.
    pub over_batches: Aggregate,
    /// The position in tables.
    pub rank: Rank,
    /// The description.
    pub meaning: &'static str,
}

/// The fraction of correct answers, which is the primary metric where the recipe names none.
pub const ACCURACY: &str = "eval/accuracy";
/// The weighted sum of the reward components, with the weights of the arm's own mix.
pub const TOTAL: &str = "eval/reward/total";
/// The score of every arm by the same mix.
pub const COMMON_SCORE: &str = "eval/common_score";
/// The step of the snapshot that an evaluation with `at = "best"` chose.
pub const CHOSEN_STEP: &str = "eval/chosen_step";
/// What comes before the name of a metric on development rows, of the chosen snapshot.
pub const CHOSEN: &str = "eval/chosen/";
/// What comes before the name of a metric on development rows, of the last snapshot.
pub const LAST: &str = "eval/last/";
/// The form as a component, which is reported as `eval/format_valid`.
pub const FORM_AGAIN: &str = "eval/reward/format_valid";

const fn metric(name: &'static str, unit: Unit, over_batches: Aggregate, meaning: &'static str) -> Metric {
    Metric { name, unit, direction: None, over_batches, rank: Rank::Other, meaning }
}

const fn result(name: &'static str, unit: Unit, direction: Direction, rank: Rank, meaning: &'static str) -> Metric {
    Metric { name, unit, direction: Some(direction), over_batches: Aggregate::Mean, rank, meaning }
}

/// All metrics. The first whose name matches applies, so names with fixed endings come before those without.
pub const METRICS: &[Metric] = {
    use Aggregate::{Last, Mean, Sum};
    use Direction::{Higher, Lower};
    use Unit::{ComparisonsPerSecond, Count, Fraction, None, Seconds, Tokens, TokensPerSecond, UsDollars, Words};
    &[
        metric("train/loss", None, Mean, "loss of the step, over its trained tokens"),
        metric("train/tokens", Tokens, Last, "tokens trained on so far"),
        metric("optim/lr", None, Last, "learning rate of the step"),
        metric("optim/grad_norm", None, Mean, "norm of the gradient before clipping"),
        metric("perf/tokens_per_s", TokensPerSecond, Mean, "tokens that the step computed per second"),
        metric("perf/rollout_tokens_per_s", TokensPerSecond, Mean, "tokens sampled per second"),
        metric("perf/comparisons_per_s", ComparisonsPerSecond, Mean, "comparisons that an arena made per second"),
        metric("time/step_s", Seconds, Sum, "the whole step"),
        metric("time/rollout_s", Seconds, Sum, "sampling and rating"),
        metric("time/prefill_s", Seconds, Sum, "reading prompts"),
        metric("time/decode_s", Seconds, Sum, "sampling tokens"),
        metric("time/reward_s", Seconds, Sum, "rating completions"),
        metric("time/credit_s", Seconds, Sum, "valuing parts of completions, or reading the reference, for `credit`"),
        metric("time/update_s", Seconds, Sum, "optimizer steps"),
        metric("reward/mean", None, Mean, "total reward of the step's completions"),
        metric("reward/std", None, Mean, "standard deviation of the total reward"),
        metric("reward/missing", Count, Sum, "completions without a total reward"),
        metric("reward/{component}_running_std", None, Last, "divisor under `component_std = \"running\"`"),
        metric("reward/{component}_std", None, Mean, "standard deviation of the component's values"),
        metric("reward/{component}_missing", Count, Sum, "completions without a value of the component"),
        metric("reward/{component}_zero_std_groups", Count, Sum, "groups in which its values are all equal"),
        metric("reward/{component}_share", Fraction, Mean, "its share of the spread within groups"),
        metric(
            "reward/{component}_correlation",
            None,
            Mean,
            "correlation of two components, `NAME~OTHER`, within groups",
        ),
        metric("reward/{component}_weight", None, Last, "its weight at the step, if that changes"),
        metric("reward/{component}_truncated", Count, Sum, "distinct texts that it cut at its length limit"),
        metric("reward/{component}_failed_calls", Count, Sum, "requests without a usable answer"),
        metric("reward/{component}_calls", Count, Sum, "requests that it sent"),
        metric("reward/{component}_cache_hits", Count, Sum, "answers read from its cache"),
        metric("reward/{component}_prompt_tokens", Tokens, Sum, "tokens that its judges read"),
        metric("reward/{component}_completion_tokens", Tokens, Sum, "tokens that its judges wrote"),
        metric("reward/{component}_tokens", Tokens, Sum, "tokens that its judges read and wrote"),
        metric("reward/{component}_cost_usd", UsDollars, Sum, "cost of its judges"),
        metric("reward/{component}_restarts", Count, Sum, "restarts of its program"),
        metric("reward/{component}_latency_s", Seconds, Mean, "time until it answered"),
        metric("reward/{component}_nats", None, Mean, "mean entropy of the distributions that it rated, in nats"),
        metric("reward/{component}_spread", None, Mean, "highest minus lowest value of its judges"),
        metric("reward/{component}", None, Mean, "its values, without their weight"),
        metric("completion/tokens_mean", Tokens, Mean, "length of the step's completions"),
        metric("completion/tokens_min", Tokens, Mean, "shortest completion of the step"),
        metric("completion/tokens_max", Tokens, Mean, "longest completion of the step"),
        metric("completion/tokens_mean_stopped", Tokens, Mean, "length of the completions that ended by themselves"),
        metric("completion/truncated_frac", Fraction, Mean, "completions cut at `max_new_tokens`"),
        metric("completion/repeated_frac", Fraction, Mean, "completions whose text their group already has"),
        metric("grpo/zero_std_groups", Count, Sum, "groups whose completions all have the same reward"),
        metric("grpo/resampled_groups", Count, Sum, "groups sampled in place of groups with equal rewards"),
        metric("grpo/dropped_groups", Count, Sum, "groups left out of the update"),
        metric("grpo/pool_easy", Count, Last, "prompts whose pass rate is at least `easy_threshold`"),
        metric("grpo/pool_normal", Count, Last, "prompts between the thresholds, or without a pass rate"),
        metric("grpo/pool_hard", Count, Last, "prompts whose pass rate is at most `hard_threshold`"),
        metric("grpo/pool_unseen", Count, Last, "prompts without a pass rate"),
        metric("grpo/pass_rate", None, Last, "estimated pass rate of the prompts that have one"),
        metric("grpo/ratio_mean", None, Mean, "probability ratio of the policy to the one that sampled"),
        metric("grpo/ratio_deviation", None, Mean, "distance of that ratio from 1"),
        metric("grpo/clip_frac", Fraction, Mean, "tokens whose ratio was clipped"),
        metric("grpo/clip_low_frac", Fraction, Mean, "tokens whose ratio was clipped from below"),
        metric("grpo/clip_high_frac", Fraction, Mean, "tokens whose ratio was clipped from above"),
        metric("grpo/entropy", None, Mean, "entropy of the policy at sampled tokens, in nats"),
        metric("grpo/kl", None, Mean, "KL divergence to the reference policy (k3 estimator), in nats a token"),
        metric("credit/coalitions", Count, Sum, "parts of completions that a component valued for `credit`"),
        metric("credit/alike", Count, Sum, "completions whose tokens got its advantage alike, for want of segments"),
        metric("credit/divergence", None, Mean, "log-ratio of a completion to the reference, in nats"),
        metric("generate/answers", Count, Last, "answers that a `generate` stage wrote"),
        metric("generate/missing", Count, Last, "answers that it lacks"),
        metric("generate/words", Words, Last, "words of an answer"),
        metric("generate/reward", None, Last, "reward of its answers"),
        result(ACCURACY, Fraction, Higher, Rank::Accuracy(0), "right answers, as `correctness` reads them"),
        result(
            "eval/loglikelihood_accuracy",
            Fraction,
            Higher,
            Rank::Accuracy(1),
            "questions whose right option is likeliest",
        ),
        result(
            "eval/loglikelihood_accuracy_norm",
            Fraction,
            Higher,
            Rank::Accuracy(2),
            "questions whose right option is likeliest per UTF-8 byte",
        ),
        result("eval/format_valid", Fraction, Higher, Rank::Accuracy(3), "answers in the requested format"),
        result(COMMON_SCORE, None, Higher, Rank::CommonScore, "one weighted sum of components for all arms"),
        result(TOTAL, None, Higher, Rank::Reward, "weighted sum of the components, by the arm's own mix"),
        result(
            "eval/reward/{component}",
            None,
            Higher,
            Rank::Component,
            "the component's values, without their weight",
        ),
        result(
            "eval/pass_at_{k}",
            Fraction,
            Higher,
            Rank::Other,
            "questions that k of the sampled answers would solve",
        ),
        result(
            "eval/maj_at_{k}",
            Fraction,
            Higher,
            Rank::Other,
            "questions of which the most frequent of k sampled answers is right",
        ),
        result("eval/perplexity", None, Lower, Rank::Other, "perplexity of the rows' completions"),
        result("eval/text_perplexity", None, Lower, Rank::Other, "perplexity of the documents of `text`"),
        result("eval/truncated_frac", Fraction, Lower, Rank::Other, "answers cut at `max_new_tokens`"),
        metric("eval/tokens_mean", Tokens, Mean, "length of answers"),
        metric("eval/words_mean", Words, Mean, "length of answers"),
        metric("eval/probe/{component}", Fraction, Mean, "exploit rate of a component by a probe for reward hacking"),
        metric("eval/probe_gap/{component}", None, Mean, "gain of a probe, in deviations within a question's answers"),
        result(
            "eval/boilerplate/{component}",
            None,
            Lower,
            Rank::Other,
            "likeness of answers to different questions, minus that of their references",
        ),
        metric("eval/numbers/{component}", None, Mean, "number that a program or service returns besides its value"),
        metric(CHOSEN_STEP, None, Last, "step of training after which the chosen snapshot was taken"),
        metric("eval/chosen/{metric}", None, Mean, "value of the chosen snapshot on development rows"),
        metric("eval/last/{metric}", None, Mean, "value of the last snapshot on development rows"),
        metric("eval/missing/{component}", Count, Sum, "answers without a value of the component"),
        metric("judge/{model}/calls", Count, Sum, "requests to a judge"),
        metric("judge/{model}/cache_hits", Count, Sum, "answers of a judge read from the cache"),
        metric("judge/{model}/prompt_tokens", Tokens, Sum, "tokens that a judge read"),
        metric("judge/{model}/completion_tokens", Tokens, Sum, "tokens that a judge wrote"),
        metric("judge/{model}/cost_usd", UsDollars, Sum, "cost of a judge"),
    ]
};

impl Metric {
    /// Returns the metric called `name`, if the program computes it. A metric of a slice has the properties of the
    /// metric over all questions.
    pub fn of(name: &str) -> Option<&'static Self> {
        let name = whole_metric(name);
        METRICS.iter().find(|metric| metric.is(name))
    }

    /// Returns the smallest and the largest possible value, if there are any.
    pub fn range(&self) -> Option<(f64, f64)> {
        (self.unit == Unit::Fraction).then_some((0.0, 1.0))
    }

    fn is(&self, name: &str) -> bool {
        let Some((before, rest)) = self.name.split_once('{') else { return name == self.name };
        let (word, after) = rest.split_once('}').unwrap_or((rest, ""));
        let middle = name.strip_prefix(before).and_then(|name| name.strip_suffix(after));
        middle.is_some_and(|middle| if word == "k" { middle.parse::<u32>().is_ok() } else { !middle.is_empty() })
    }
}

impl Direction {
    /// Returns the direction of the metric called `name`, if the program computes it.
    pub fn of(name: &str) -> Option<Self> {
        Metric::of(name)?.direction
    }
}

/// Returns the smallest and the largest value of the metric called `name`, where it is a fraction that the program
/// computes. An accuracy of a user's program may be in percent.
pub fn range_of_share(name: &str) -> Option<(f64, f64)> {
    Metric::of(name)?.range()
}

/// Returns the smallest value of the metric called `name`: 0 for a count, a length, a duration and a price.
pub fn least_value(name: &str) -> Option<f64> {
    Metric::of(name).filter(|metric| metric.unit != Unit::None).map(|_| 0.0)
}

/// Returns the position in tables of the metric called `name`.
pub fn rank(name: &str) -> Rank {
    Metric::of(name).map_or(Rank::Other, |metric| metric.rank)
}

/// The results that a line about a stage has room for, in this order. The weighted sum of an evaluation's rewards is
/// not among them, because variants have different mixes.
pub const HEADLINES: [&str; 4] = [ACCURACY, "eval/perplexity", "train/loss", "reward/mean"];

/// Returns a metric's name without common prefixes: `accuracy`, `semantic`, `loss`, and `reward` for the weighted sum.
pub fn short_name(name: &str) -> &str {
    match name {
        TOTAL | "reward/mean" => "reward",
        "train/loss" => "loss",
        _ => name.strip_prefix("eval/reward/").or_else(|| name.strip_prefix("eval/")).unwrap_or(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_direction_of_what_an_evaluation_measures_is_known() {
        for name in [
            ACCURACY,
            TOTAL,
            COMMON_SCORE,
            "eval/reward/semantic",
            "eval/pass_at_4",
            "eval/maj_at_4",
            "eval/format_valid",
        ] {
            assert_eq!(Direction::of(name), Some(Direction::Higher), "{name}");
        }
        for name in ["eval/perplexity", "eval/text_perplexity", "eval/truncated_frac"] {
            assert_eq!(Direction::of(name), Some(Direction::Lower), "{name}");
        }
    }

    #[test]
    fn lengths_and_counts_are_not_negative() {
        for name in ["eval/words_mean", "eval/tokens_mean", "eval/truncated_frac", "judge/gpt/calls"] {
            assert_eq!(least_value(name), Some(0.0), "{name}");
        }
        assert_eq!(["train/loss", "eval/reward/semantic", "latency"].map(least_value), [None; 3]);
    }

    #[test]
    fn nothing_is_read_out_of_the_names_of_programs() {
        for name in [
            "invalid_frac",
            "accuracy_loss",
            "accuracy",
            "eval/tokens_mean",
            "elo",
            "error_rate",
            "valid",
            "eval/pass_at_x",
        ] {
            assert_eq!(Direction::of(name), None, "{name}");
        }
    }

    #[test]
    fn fractions_end_at_0_and_1() {
        for name in [ACCURACY, "eval/loglikelihood_accuracy_norm", "eval/pass_at_4", "eval/truncated_frac"] {
            assert_eq!(range_of_share(name), Some((0.0, 1.0)), "{name}");
        }
        for name in ["accuracy", "eval/reward/accuracy", "eval/perplexity", "eval/words_mean", TOTAL] {
            assert_eq!(range_of_share(name), None, "{name}");
        }
    }

    #[test]
    fn names_are_short_where_that_is_clear() {
        assert_eq!(
            [ACCURACY, "eval/reward/rouge", TOTAL, COMMON_SCORE, "words", "reward/mean", "train/loss"].map(short_name),
            ["accuracy", "rouge", "reward", "common_score", "words", "reward", "loss"]
        );
    }

    #[test]
    fn a_fixed_ending_is_none_of_the_users() {
        let found = |name: &str| Metric::of(name).map(|metric| metric.name);
        assert_eq!(found("reward/std"), Some("reward/std"));
        assert_eq!(found("reward/my_judge_latency_s"), Some("reward/{component}_latency_s"));
        assert_eq!(found("reward/my_judge_failed_calls"), Some("reward/{component}_failed_calls"));
        assert_eq!(found("reward/my_judge"), Some("reward/{component}"));
        assert_eq!(found("judge/org/model/calls"), Some("judge/{model}/calls"));
        assert_eq!(found("something/else"), None);
    }

    #[test]
    fn every_row_finds_itself_and_accuracy_stands_first() {
        let mut names = BTreeSet::new();
        for metric in METRICS {
            assert!(names.insert(metric.name), "{} is there twice", metric.name);
            let example = metric.name.replace("{k}", "4").replace("{component}", "mine").replace("{model}", "org/m");
            assert_eq!(Metric::of(&example).map(|found| found.name), Some(metric.name));
        }
        let mut ranked = ["eval/words_mean", "eval/reward/rouge", TOTAL, COMMON_SCORE, "eval/format_valid", ACCURACY];
        ranked.sort_by_key(|name| rank(name));
        assert_eq!(
            ranked,
            [ACCURACY, "eval/format_valid", COMMON_SCORE, TOTAL, "eval/reward/rouge", "eval/words_mean"]
        );
    }
}
