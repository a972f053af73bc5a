//! The coverage of intervals and the error rate of verdicts, by simulation:
//! `statistics > benches/results/statistics.md`.
//!
//! Every row of a table simulates data with a known truth and calls `orchestrate_core::stats` as an evaluation,
//! `compare` and `report` do. Seeds are fixed, so the tables are the same on every machine.

#![expect(clippy::print_stdout, reason = "the table is the program's output")]

use orchestrate_core::stats::{
    Design, Document, bounded_interval, crossed_tests, mean, mean_interval, perplexity_interval,
};
use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::f64::consts::PI;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope};

/// Number of experiments of a row.
const EXPERIMENTS: usize = 4000;
/// Resamples of a bootstrap. Fewer than the 10,000 of an evaluation, but they determine its ends to a hundredth of the
/// width.
const RESAMPLES: u32 = 2000;

fn main() {
    println!(
        "# Coverage of intervals, and how often verdicts are wrong\n\n\
         By simulation (`just bench-statistics`), {EXPERIMENTS} experiments a cell: a rate of 5% is known to 0.7%, one of 95% too. The draws \
         are of fixed seeds.\n"
    );
    println!("## How often a 95% interval holds the truth\n");
    table(&["metric", "seeds", "questions", "covered", "below", "above"], &coverage_cells(), coverage);
    println!(
        "\n`below` and `above`: the interval lies below or above the truth. With one seed the truth is that of the seed, with several that \
         of all seeds.\n"
    );
    println!("## How often arms that are alike are called better or worse\n");
    println!("p below 0.05, before the correction over arms. With one seed the arms are alike on that seed.\n");
    table(
        &[
            "scores",
            "seeds",
            "questions",
            "variance between seeds",
            "of arms by question",
            "called",
            "interval disagrees",
        ],
        &null_cells(),
        null,
    );
    println!("\n## How often a difference is found\n");
    println!(
        "A difference of 0.1 of scores that vary by 0.3 between questions, by 0.3 at random, and by the share between seeds.\n"
    );
    table(&["seeds", "questions", "standard deviation between seeds", "found"], &power_cells(), power);
}

/// Prints a row for each of `cells`, which all cores compute.
fn table<C: Sync>(heading: &[&str], cells: &[C], row: impl Fn(&C) -> Vec<String> + Sync) {
    println!("| {} |\n|{}", heading.join(" | "), " --- |".repeat(heading.len()));
    let threads = available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let rows: Vec<OnceLock<Vec<String>>> = cells.iter().map(|_| OnceLock::new()).collect();
    scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(cell) = cells.get(place) else { break };
                    rows[place].set(row(cell)).expect("a cell is computed once");
                }
            });
        }
    });
    for row in rows.into_iter().filter_map(OnceLock::into_inner) {
        println!("| {} |", row.join(" | "));
    }
}

fn normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (2.0 * PI * rng.random::<f64>()).cos()
}

fn percent(count: usize) -> String {
    format!("{:.1}%", 100.0 * count as f64 / EXPERIMENTS as f64)
}

/// The distribution of scores.
#[derive(Clone, Copy)]
enum Metric {
    /// Right or wrong, with this fraction of right answers for an average question.
    Binary(f64),
    /// Between 0 and 1, most of them near 1.
    Rating,
    /// Any number, symmetric about the mean.
    Normal,
    /// Positive, with a long tail.
    Lognormal,
    /// Perplexity of documents of different lengths.
    Perplexity,
}

impl Metric {
    fn name(self) -> String {
        match self {
            Self::Binary(share) => format!("right answers, {share} of them"),
            Self::Rating => "ratings from 0 to 1, mean 0.9".to_owned(),
            Self::Normal => "normal".to_owned(),
            Self::Lognormal => "lognormal".to_owned(),
            Self::Perplexity => "perplexity of documents".to_owned(),
        }
    }

    fn range(self) -> Option<(f64, f64)> {
        matches!(self, Self::Binary(_) | Self::Rating).then_some((0.0, 1.0))
    }

    /// Draws the score of a question. `shift` is the sum of the question's and the seed's effects.
    fn score(self, shift: f64, rng: &mut impl Rng) -> f64 {
        match self {
            Self::Binary(share) => {
                f64::from(u8::from(rng.random::<f64>() < logistic((share / (1.0 - share)).ln() + shift)))
            }
            Self::Rating => logistic(2.2 + shift + 0.5 * normal(rng)),
            Self::Normal => shift + normal(rng),
            Self::Lognormal | Self::Perplexity => (shift + normal(rng)).exp(),
        }
    }
}

fn logistic(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

/// Standard deviation of the effects of seeds, on the scale of [`Metric::score`].
const BETWEEN_SEEDS: f64 = 0.3;
const BETWEEN_QUESTIONS: f64 = 0.8;

fn coverage_cells() -> Vec<(Metric, usize, usize)> {
    let mut cells = Vec::new();
    for metric in [Metric::Binary(0.5), Metric::Binary(0.9), Metric::Binary(0.97), Metric::Rating] {
        for seeds in [1, 3, 5] {
            cells.extend([30, 100].map(|questions| (metric, seeds, questions)));
        }
    }
    for seeds in [1, 3, 5] {
        cells.extend([Metric::Normal, Metric::Lognormal].map(|metric| (metric, seeds, 50)));
    }
    cells.extend([20, 50, 200].map(|documents| (Metric::Perplexity, 1, documents)));
    cells
}

fn coverage(&(metric, seeds, questions): &(Metric, usize, usize)) -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(1000 + 10 * seeds as u64 + questions as u64);
    let (mut covered, mut below, mut above) = (0, 0, 0);
    let mut count = |interval: Option<(f64, f64)>, truth: f64| match interval {
        Some((_, high)) if high < truth => below += 1,
        Some((low, _)) if low > truth => above += 1,
        Some(_) => covered += 1,
        None => {}
    };
    if let Metric::Perplexity = metric {
        let document = |rng: &mut ChaCha8Rng| {
            let tokens = 20 + rng.random_range(0..400_u64);
            Document { nll: tokens as f64 * (2.5 + 0.4 * normal(rng)), tokens }
        };
        for experiment in 0..EXPERIMENTS {
            let documents: Vec<Document> = (0..questions).map(|_| document(&mut rng)).collect();
            let found = perplexity_interval(&documents, RESAMPLES, experiment as u64);
            count(found.map(|found| (found.low, found.high)), 2.5_f64.exp());
        }
    } else if seeds == 1 {
        let truth = truth(metric, BETWEEN_QUESTIONS);
        for experiment in 0..EXPERIMENTS {
            let values: Vec<f64> =
                (0..questions).map(|_| metric.score(BETWEEN_QUESTIONS * normal(&mut rng), &mut rng)).collect();
            let found = mean_interval(&values, metric.range(), RESAMPLES, experiment as u64);
            count(found.map(|found| (found.low, found.high)), truth);
        }
    } else {
        let truth = truth(metric, BETWEEN_QUESTIONS.hypot(BETWEEN_SEEDS));
        let rows: Vec<Vec<Vec<f64>>> = (0..EXPERIMENTS)
            .map(|_| {
                let of_question: Vec<f64> = (0..questions).map(|_| BETWEEN_QUESTIONS * normal(&mut rng)).collect();
                (0..seeds)
                    .map(|_| {
                        let of_seed = BETWEEN_SEEDS * normal(&mut rng);
                        of_question.iter().map(|shift| metric.score(shift + of_seed, &mut rng)).collect()
                    })
                    .collect()
            })
            .collect();
        let zeros = vec![vec![0.0; questions]; seeds];
        let designs: Vec<Design> = rows.iter().map(|rows| Design::paired(rows, &zeros)).collect();
        for (rows, test) in rows.iter().zip(crossed_tests(&designs)) {
            let value = mean(&rows.concat()).expect("there are scores");
            let half = test.and_then(|test| test.interval).map_or(0.0, |interval| (interval.high - interval.low) / 2.0);
            let interval = match metric.range() {
                Some(range) => bounded_interval(value, half, range, questions).map(|found| (found.low, found.high)),
                None => Some((value - half, value + half)),
            };
            count(interval, truth);
        }
    }
    let cells = [covered, below, above].map(percent);
    [vec![metric.name(), seeds.to_string(), questions.to_string()], cells.to_vec()].concat()
}

/// Returns the mean over all questions and seeds: exact if possible, else by many draws.
fn truth(metric: Metric, spread: f64) -> f64 {
    const DRAWS: usize = 4_000_000;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    match metric {
        Metric::Normal => 0.0,
        Metric::Lognormal => f64::midpoint(1.0, spread * spread).exp(),
        Metric::Binary(share) => {
            let centre = (share / (1.0 - share)).ln();
            (0..DRAWS).map(|_| logistic(centre + spread * normal(&mut rng))).sum::<f64>() / DRAWS as f64
        }
        Metric::Rating | Metric::Perplexity => {
            (0..DRAWS).map(|_| metric.score(spread * normal(&mut rng), &mut rng)).sum::<f64>() / DRAWS as f64
        }
    }
}

/// Two arms with equal distributions of scores.
struct Null {
    binary: bool,
    seeds: usize,
    questions: usize,
    between_seeds: f64,
    interaction: f64,
}

fn null_cells() -> Vec<Null> {
    let mut cells = Vec::new();
    for binary in [true, false] {
        for seeds in [1, 2, 3, 5] {
            for questions in [30, 200] {
                for between_seeds in if seeds == 1 { &[0.0][..] } else { &[0.0, 0.1, 0.5] } {
                    for interaction in [0.0, 0.5] {
                        cells.push(Null { binary, seeds, questions, between_seeds: *between_seeds, interaction });
                    }
                }
            }
        }
    }
    cells
}

/// Draws the scores of an arm, by seed and question.
fn arm(cell: &Null, of_question: &[f64], lead: f64, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
    let own: Vec<f64> = of_question.iter().map(|shift| shift + cell.interaction * normal(rng)).collect();
    (0..cell.seeds)
        .map(|_| {
            let of_seed = lead + cell.between_seeds * normal(rng);
            own.iter()
                .map(|shift| {
                    if cell.binary {
                        f64::from(u8::from(rng.random::<f64>() < logistic(shift + of_seed)))
                    } else {
                        shift + of_seed + normal(rng)
                    }
                })
                .collect()
        })
        .collect()
}

fn designs(cell: &Null, lead: f64, of: u64) -> Vec<Design> {
    let mut rng = ChaCha8Rng::seed_from_u64(of);
    (0..EXPERIMENTS)
        .map(|_| {
            let of_question: Vec<f64> = (0..cell.questions).map(|_| normal(&mut rng)).collect();
            let (a, b) = (arm(cell, &of_question, lead, &mut rng), arm(cell, &of_question, 0.0, &mut rng));
            Design::paired(&a, &b)
        })
        .collect()
}

fn null(cell: &Null) -> Vec<String> {
    let (mut called, mut disagreeing) = (0, 0);
    for test in crossed_tests(&designs(cell, 0.0, 17)).into_iter().flatten() {
        let is_called = test.p_value.is_some_and(|p| p < 0.05);
        let leaves_out_zero = test.interval.is_some_and(|interval| interval.low > 0.0 || interval.high < 0.0);
        called += usize::from(is_called);
        disagreeing += usize::from(is_called != leaves_out_zero);
    }
    vec![
        if cell.binary { "right or wrong" } else { "normal" }.to_owned(),
        cell.seeds.to_string(),
        cell.questions.to_string(),
        format!("{:.2}", cell.between_seeds * cell.between_seeds),
        format!("{:.2}", cell.interaction * cell.interaction),
        percent(called),
        disagreeing.to_string(),
    ]
}

fn power_cells() -> Vec<Null> {
    let mut cells = Vec::new();
    for seeds in [2, 3, 5, 8] {
        for between_seeds in [0.0, 0.1, 0.2] {
            cells.push(Null { binary: false, seeds, questions: 200, between_seeds, interaction: 0.0 });
        }
    }
    cells
}

/// Returns a row of the table of power. Scores are scaled so that answers have a random standard deviation of 1 in
/// place of 0.3.
fn power(cell: &Null) -> Vec<String> {
    let scaled = Null { between_seeds: cell.between_seeds / 0.3, ..*cell };
    let tests = crossed_tests(&designs(&scaled, 0.1 / 0.3, 19));
    let found = tests.iter().flatten().filter(|test| test.p_value.is_some_and(|p| p < 0.05)).count();
    vec![cell.seeds.to_string(), cell.questions.to_string(), format!("{}", cell.between_seeds), percent(found)]
}
