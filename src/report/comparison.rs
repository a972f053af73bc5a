//! The table at the end of a run: the measurements of each variant.

use super::table::{Column, Table};
use crate::event::Measurement;
use crate::metric::{FORM_AGAIN, rank, short_name};
use crate::number::{duration, measurement};
use crate::recipe::spec::EvalSpec;
use crate::recipe::{Training, training_of};
use crate::slice::Slice;
use std::collections::{BTreeMap, BTreeSet};

/// The mark of a measurement that the variant was trained on.
const TRAINED: &str = "*";
const LEGEND: &str = "* this variant's training rewarded it; rewards and accuracies without * were held out";

/// One evaluation of one variant, or of an arm, which pools a variant's seeds.
#[derive(Clone, Debug, Default)]
pub struct ComparisonRow {
    /// The variant's label, or the arm's name.
    pub variant: String,
    /// For an arm of several seeds: the number of seeds with a result, and of planned seeds.
    pub seeds: Option<(usize, usize)>,
    /// The eval stage's name.
    pub stage: String,
    /// Whether the recipe marks its data set as out of domain.
    pub out_of_domain: bool,
    /// The evaluation's measurements.
    pub measurements: BTreeMap<String, Measurement>,
    /// Whether the variant's training rewarded each measurement, for those that training can reward.
    pub training: BTreeMap<String, Training>,
    /// Seconds that this run spent on the variant's stages.
    pub seconds: f64,
    /// The number of the variant's cached stages, and of all its stages.
    pub hits: (usize, usize),
}

impl ComparisonRow {
    /// Returns the row with the marks of `eval`, the evaluation that measured it: domain and training.
    #[must_use]
    pub fn marked(self, eval: &EvalSpec) -> Self {
        let training = |name: &String| training_of(eval, name).map(|training| (name.clone(), training));
        let training = self.measurements.keys().filter_map(training).collect();
        Self { out_of_domain: eval.out_of_domain, training, ..self }
    }
}

/// Variants side by side.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// The rows, one for each evaluation.
    pub rows: Vec<ComparisonRow>,
}

impl Comparison {
    /// Renders the table in at most `width` columns: variants in rows if that fits, else in columns, else in rows of
    /// several tables.
    pub fn render(&self, width: usize) -> String {
        let table = self.table(width);
        let is_marked = |row: &ComparisonRow| {
            row.training
                .iter()
                .any(|(name, training)| *training == Training::Trained && row.measurements.contains_key(name))
        };
        if !self.rows.iter().any(is_marked) {
            return table;
        }
        format!("{}\n\n{}", table.trim_end(), textwrap::fill(LEGEND, width.min(LEGEND.len())))
    }

    fn table(&self, width: usize) -> String {
        let down = self.variants_down();
        if down.natural_width() <= width {
            return down.render(width);
        }
        let across = self.variants_across();
        if across.natural_width() <= width { across.render(width) } else { down.render_wrapped(width) }
    }

    /// Returns the names of all shown measurements, in order.
    fn names(&self) -> Vec<&str> {
        let all: BTreeSet<&str> =
            self.rows.iter().flat_map(|row| row.measurements.keys()).map(String::as_str).collect();
        // The costs of judges are not a result of the variant.
        let has_accuracy = all.contains("eval/accuracy");
        let is_again = |name: &str| name == FORM_AGAIN || (has_accuracy && name == "eval/reward/correctness");
        let is_shown = |name: &&str| !name.starts_with("judge/") && !is_again(name) && Slice::of_metric(name).is_none();
        let mut names: Vec<&str> = all.into_iter().filter(is_shown).collect();
        names.sort_by_key(|name| (rank(name), *name));
        names
    }

    /// Returns the variant's title. It includes the stage's name if the variant has several evaluations, and a mark on
    /// a data set of another domain.
    fn title(&self, row: &ComparisonRow) -> String {
        let evaluations = self.rows.iter().filter(|other| other.variant == row.variant).count();
        let domain = if row.out_of_domain { " (out of domain)" } else { "" };
        let seeds = match row.seeds {
            None => String::new(),
            Some((there, planned)) if there == planned => format!(" ({there} seeds)"),
            Some((there, planned)) => format!(" ({there} of {planned} seeds)"),
        };
        let stage = if evaluations > 1 { format!(" {}", row.stage) } else { String::new() };
        format!("{}{stage}{domain}{seeds}", row.variant)
    }

    fn variants_down(&self) -> Table {
        let names = self.names();
        let mut columns = vec![Column::left("variant")];
        columns.extend(names.iter().map(|name| Column::right(short_name(name))));
        columns.extend([Column::right("time"), Column::right("cached")]);
        let mut table = Table::new(columns);
        for row in &self.rows {
            let mut cells = vec![self.title(row)];
            cells.extend(names.iter().map(|name| cell(row, name)));
            cells.extend([duration(row.seconds), cached(row)]);
            table.push(cells);
        }
        table
    }

    fn variants_across(&self) -> Table {
        let mut columns = vec![Column::left("")];
        columns.extend(self.rows.iter().map(|row| Column::right(self.title(row))));
        let mut table = Table::new(columns);
        let mut push = |title: &str, cell: &dyn Fn(&ComparisonRow) -> String| {
            table.push([title.to_owned()].into_iter().chain(self.rows.iter().map(cell)).collect());
        };
        for name in self.names() {
            push(short_name(name), &|row| cell(row, name));
        }
        push("time", &|row| duration(row.seconds));
        push("cached", &cached);
        table
    }
}

fn cell(row: &ComparisonRow, name: &str) -> String {
    let mark = if row.training.get(name) == Some(&Training::Trained) { TRAINED } else { "" };
    row.measurements.get(name).map(|found| format!("{mark}{}", measurement(found))).unwrap_or_default()
}

fn cached(row: &ComparisonRow) -> String {
    format!("{}/{}", row.hits.0, row.hits.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(variant: &str, hits: (usize, usize)) -> ComparisonRow {
        let names = ["eval/accuracy", "eval/perplexity", "eval/reward/cot", "eval/reward/format", "eval/reward/total"];
        let measured = |i: usize| {
            let value = 0.4 + i as f64 / 10.0;
            Measurement { value, interval: Some((value - 0.1, value + 0.1)), count: Some(100) }
        };
        ComparisonRow {
            variant: variant.into(),
            stage: "eval".into(),
            measurements: names.iter().enumerate().map(|(i, name)| ((*name).to_owned(), measured(i))).collect(),
            seconds: 185.0,
            hits,
            ..ComparisonRow::default()
        }
    }

    #[test]
    fn what_training_rewarded_is_told_from_what_was_held_out() {
        let training = |trained: &[&str]| -> BTreeMap<String, Training> {
            let names = ["eval/accuracy", "eval/reward/cot", "eval/reward/format"];
            let of = |name: &str| if trained.contains(&name) { Training::Trained } else { Training::HeldOut };
            names.into_iter().map(|name| (name.to_owned(), of(name))).collect()
        };
        let base = ComparisonRow { training: training(&[]), ..row("demo/base", (0, 4)) };
        let cot = ComparisonRow { training: training(&["eval/reward/cot"]), ..row("demo/cot", (2, 4)) };
        let far = ComparisonRow { stage: "far".to_owned(), out_of_domain: true, ..base.clone() };
        insta::assert_snapshot!(Comparison { rows: vec![base, far, cot] }.render(120), @r"
                       demo/base eval  demo/base far (out of domain)            demo/cot
        ────────────────────────────────────────────────────────────────────────────────
        accuracy    0.40 [0.30, 0.50]              0.40 [0.30, 0.50]   0.40 [0.30, 0.50]
        reward      0.80 [0.70, 0.90]              0.80 [0.70, 0.90]   0.80 [0.70, 0.90]
        cot         0.60 [0.50, 0.70]              0.60 [0.50, 0.70]  *0.60 [0.50, 0.70]
        format      0.70 [0.60, 0.80]              0.70 [0.60, 0.80]   0.70 [0.60, 0.80]
        perplexity  0.50 [0.40, 0.60]              0.50 [0.40, 0.60]   0.50 [0.40, 0.60]
        time                    3m05s                          3m05s               3m05s
        cached                    0/4                            0/4                 2/4

        * this variant's training rewarded it; rewards and accuracies without * were held out
        ");
    }

    #[test]
    fn an_arm_says_how_many_of_its_seeds_have_a_result() {
        let of = |seeds| ComparisonRow { seeds, ..row("cot", (0, 4)) };
        let comparison = Comparison { rows: vec![of(Some((3, 3))), of(Some((2, 3))), of(None)] };
        let titles: Vec<String> = comparison.rows.iter().map(|row| comparison.title(row)).collect();
        assert_eq!(titles, ["cot eval (3 seeds)", "cot eval (2 of 3 seeds)", "cot eval"]);
    }

    #[test]
    fn two_variants_stand_side_by_side_in_a_hundred_columns() {
        let comparison = Comparison { rows: vec![row("demo/base", (0, 4)), row("demo/rouge", (2, 4))] };
        insta::assert_snapshot!(comparison.render(100), @r"
                            demo/base         demo/rouge
        ────────────────────────────────────────────────
        accuracy    0.40 [0.30, 0.50]  0.40 [0.30, 0.50]
        reward      0.80 [0.70, 0.90]  0.80 [0.70, 0.90]
        cot         0.60 [0.50, 0.70]  0.60 [0.50, 0.70]
        format      0.70 [0.60, 0.80]  0.70 [0.60, 0.80]
        perplexity  0.50 [0.40, 0.60]  0.50 [0.40, 0.60]
        time                    3m05s              3m05s
        cached                    0/4                2/4
        ");
        assert!(comparison.render(200).starts_with("variant"));
    }

    #[test]
    fn many_variants_lose_nothing() {
        let rows = (0..9).map(|i| row(&format!("demo/seed={i}"), (2, 4))).collect();
        let drawn = Comparison { rows }.render(80);
        assert!(drawn.lines().all(|line| line.chars().count() <= 80), "{drawn}");
        for heading in ["accuracy", "reward", "cot", "format", "perplexity", "time", "cached"] {
            assert!(drawn.contains(heading), "{heading} is missing:\n{drawn}");
        }
    }
}
