//! Tables that fit the terminal.

use crate::printable::harmless;
use tabled::builder::Builder;
use tabled::settings::object::{Columns, Object as _, Rows};
use tabled::settings::style::HorizontalLine;
use tabled::settings::{Alignment, Padding, Style};

/// Space between two columns.
const GAP: usize = 2;
/// Narrower than this, a shortened cell says nothing.
const SHORTEST: usize = 8;

/// Side on which a column's cells are flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A column's heading and what may be done to it when the table is too wide.
#[derive(Clone, Debug)]
pub struct Column {
    heading: String,
    align: Align,
    shorten: bool,
    drop_order: Option<u8>,
}

impl Column {
    /// A column of words.
    pub fn left(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), align: Align::Left, shorten: false, drop_order: None }
    }

    /// A column of numbers.
    pub fn right(heading: impl Into<String>) -> Self {
        Self { align: Align::Right, ..Self::left(heading) }
    }

    /// Its cells may be cut, with `…`.
    #[must_use]
    pub fn shortened(self) -> Self {
        Self { shorten: true, ..self }
    }

    /// It may go; the lowest `order` goes first.
    #[must_use]
    pub fn dropped(self, order: u8) -> Self {
        Self { drop_order: Some(order), ..self }
    }
}

/// Rows of text under headings. A column in which every cell is empty is not shown.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    ///
    /// If it has not one cell a column.
    pub fn push(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.columns.len(), "a row has one cell a column");
        self.rows.push(row.into_iter().map(|cell| harmless(&cell)).collect());
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Columns that the whole table takes, nothing shortened.
    pub fn natural_width(&self) -> usize {
        self.total(&self.shown())
    }

    /// The table in at most `width` columns: cells are shortened, then columns dropped, where their [`Column`] allows it.
    pub fn render(&self, width: usize) -> String {
        let mut shown = self.shown();
        let mut limits = self.shorten(&shown, width);
        while self.limited_total(&shown, &limits) > width {
            let Some(position) = self.next_to_drop(&shown) else { break };
            shown.remove(position);
            limits = self.shorten(&shown, width);
        }
        self.draw(&shown, &limits)
    }

    /// The table in at most `width` columns, nothing lost: columns that do not fit go into further tables below, each
    /// beginning with the first column again.
    pub fn render_wrapped(&self, width: usize) -> String {
        let shown = self.shown();
        let Some((&first, rest)) = shown.split_first() else { return String::new() };
        let mut blocks: Vec<Vec<usize>> = vec![vec![first]];
        for &column in rest {
            let block = blocks.last_mut().expect("there is always a block");
            block.push(column);
            if block.len() > 2 && self.total(block) > width {
                block.pop();
                blocks.push(vec![first, column]);
            }
        }
        let drawn: Vec<String> = blocks.iter().map(|block| self.draw(block, &self.shorten(block, width))).collect();
        drawn.join("\n\n")
    }

    /// Columns in which some cell holds text.
    fn shown(&self) -> Vec<usize> {
        (0..self.columns.len())
            .filter(|&i| self.rows.is_empty() || self.rows.iter().any(|r| !r[i].is_empty()))
            .collect()
    }

    fn column_width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| chars(&row[column]));
        cells.chain([chars(&self.columns[column].heading)]).max().unwrap_or(0)
    }

    fn total(&self, shown: &[usize]) -> usize {
        shown.iter().map(|&column| self.column_width(column)).sum::<usize>() + GAP * shown.len().saturating_sub(1)
    }

    fn limited_total(&self, shown: &[usize], limits: &[Option<usize>]) -> usize {
        let widths =
            shown.iter().zip(limits).map(|(&column, limit)| limit.unwrap_or_else(|| self.column_width(column)));
        widths.sum::<usize>() + GAP * shown.len().saturating_sub(1)
    }

    /// Cuts the widest shortenable column by one until everything fits or nothing more can be cut.
    fn shorten(&self, shown: &[usize], width: usize) -> Vec<Option<usize>> {
        let mut widths: Vec<usize> = shown.iter().map(|&column| self.column_width(column)).collect();
        let mut cut = vec![false; shown.len()];
        while widths.iter().sum::<usize>() + GAP * shown.len().saturating_sub(1) > width {
            let widest = (0..shown.len())
                .filter(|&i| {
                    let column = &self.columns[shown[i]];
                    column.shorten && widths[i] > SHORTEST.max(chars(&column.heading))
                })
                .max_by_key(|&i| widths[i]);
            let Some(i) = widest else { break };
            widths[i] -= 1;
            cut[i] = true;
        }
        widths.into_iter().zip(cut).map(|(width, cut)| cut.then_some(width)).collect()
    }

    fn next_to_drop(&self, shown: &[usize]) -> Option<usize> {
        (0..shown.len())
            .filter(|&i| self.columns[shown[i]].drop_order.is_some())
            .min_by_key(|&i| self.columns[shown[i]].drop_order)
    }

    fn draw(&self, shown: &[usize], limits: &[Option<usize>]) -> String {
        if shown.is_empty() {
            return String::new();
        }
        let mut builder = Builder::with_capacity(self.rows.len() + 1, shown.len());
        builder.push_record(shown.iter().map(|&column| self.columns[column].heading.clone()));
        for row in &self.rows {
            builder.push_record(shown.iter().zip(limits).map(|(&column, limit)| cut(&row[column], *limit)));
        }
        let mut table = builder.build();
        let rule = HorizontalLine::filled('─').remove_left().remove_right().remove_intersection();
        table.with(Style::empty().horizontals([(1, rule)]));
        table.with(Padding::new(0, GAP, 0, 0));
        table.modify(Columns::last(), Padding::zero());
        for (i, &column) in shown.iter().enumerate() {
            if self.columns[column].align == Align::Right {
                table.modify(Columns::one(i).intersect(Rows::new(0..)), Alignment::right());
            }
        }
        let drawn = table.to_string();
        let lines: Vec<&str> = drawn.lines().map(str::trim_end).collect();
        lines.join("\n")
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

fn cut(text: &str, limit: Option<usize>) -> String {
    match limit {
        Some(limit) if chars(text) > limit => text.chars().take(limit.saturating_sub(1)).chain(['…']).collect(),
        _ => text.to_owned(),
    }
}

/// Columns and rows as they are, for answers whose columns are not known before.
pub fn plain_table(columns: &[String], rows: &[Vec<String>]) -> String {
    let mut builder = Builder::default();
    builder.push_record(columns);
    for row in rows {
        builder.push_record(row.iter().map(|cell| harmless(cell)));
    }
    let mut table = builder.build();
    table.with(Style::psql());
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let mut table = Table::new(vec![
            Column::left("stage").shortened(),
            Column::left("note").dropped(1),
            Column::left("empty"),
            Column::right("seconds"),
        ]);
        table.push(vec!["continued pre-training".into(), "first".into(), String::new(), "12.5".into()]);
        table.push(vec!["grpo".into(), "second".into(), String::new(), "1234.5".into()]);
        table
    }

    #[test]
    fn numbers_stand_right_and_empty_columns_vanish() {
        insta::assert_snapshot!(example().render(100), @r"
        stage                   note    seconds
        ───────────────────────────────────────
        continued pre-training  first      12.5
        grpo                    second   1234.5
        ");
    }

    #[test]
    fn too_wide_a_table_shortens_cells_before_it_drops_columns() {
        insta::assert_snapshot!(example().render(30), @r"
        stage          note    seconds
        ──────────────────────────────
        continued pr…  first      12.5
        grpo           second   1234.5
        ");
        insta::assert_snapshot!(example().render(20), @r"
        stage        seconds
        ────────────────────
        continued …     12.5
        grpo          1234.5
        ");
    }

    #[test]
    fn wrapping_repeats_the_first_column_and_loses_nothing() {
        let mut table = Table::new(vec![Column::left("variant"), Column::right("accuracy"), Column::right("semantic")]);
        table.push(vec!["base".into(), "0.41 [0.33, 0.49]".into(), "0.7".into()]);
        insta::assert_snapshot!(table.render_wrapped(30), @r"
        variant           accuracy
        ──────────────────────────
        base     0.41 [0.33, 0.49]

        variant  semantic
        ─────────────────
        base          0.7
        ");
    }
}
