//! Tables that fit the terminal.

use crate::printable::harmless;
use tabled::builder::Builder;
use tabled::settings::object::{Columns, Object as _, Rows};
use tabled::settings::style::HorizontalLine;
use tabled::settings::{Alignment, Padding, Style};
use textwrap::core::display_width;

/// The space between two columns.
const GAP: usize = 2;
/// The minimum width of a shortened cell.
const SHORTEST: usize = 8;
/// The minimum width of wrapped text.
const NARROWEST: usize = 24;

/// The alignment of a column's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// For words.
    Left,
    /// For numbers.
    Right,
}

/// A column: its heading, and how it adapts when the table is too wide.
#[derive(Clone, Debug)]
pub struct Column {
    heading: String,
    align: Align,
    fit: Fit,
    drop_order: Option<u8>,
}

/// The treatment of a cell that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// Keeps the cell as it is.
    Whole,
    /// Cuts out the middle of the cell, because names differ at their ends.
    Cut,
    /// Wraps the cell.
    Wrap,
}

impl Column {
    /// Creates a column of words.
    pub fn left(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), align: Align::Left, fit: Fit::Whole, drop_order: None }
    }

    /// Creates a column of numbers.
    pub fn right(heading: impl Into<String>) -> Self {
        Self { align: Align::Right, ..Self::left(heading) }
    }

    /// Allows cells to be cut in the middle, with `…`.
    #[must_use]
    pub fn shortened(self) -> Self {
        Self { fit: Fit::Cut, ..self }
    }

    /// Allows cells to be wrapped.
    #[must_use]
    pub fn wrapped(self) -> Self {
        Self { fit: Fit::Wrap, ..self }
    }

    /// Allows the column to be dropped. The lowest `order` is dropped first.
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
    /// Creates a table without rows.
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    ///
    /// If the number of cells differs from the number of columns.
    pub fn push(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.columns.len(), "a row has one cell a column");
        self.rows.push(row.into_iter().map(|cell| harmless(&cell)).collect());
    }

    /// Whether the table has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the width of the whole table without shortening, in terminal columns.
    pub fn natural_width(&self) -> usize {
        self.total(&self.shown())
    }

    /// Renders the table in at most `width` columns. Text is wrapped first. Then columns are dropped where their
    /// [`Column`] allows it, first those with the same text in every row. Then cells are shortened.
    pub fn render(&self, width: usize) -> String {
        let mut shown = self.shown();
        let mut limits = self.limits(&shown, width, &[Fit::Wrap]);
        while self.limited_total(&shown, &limits) > width {
            let Some(position) = self.next_to_drop(&shown) else { break };
            shown.remove(position);
            limits = self.limits(&shown, width, &[Fit::Wrap]);
        }
        if self.limited_total(&shown, &limits) > width {
            limits = self.limits(&shown, width, &[Fit::Wrap, Fit::Cut]);
        }
        self.draw(&shown, &limits)
    }

    /// Renders the table in at most `width` columns without loss. Columns that do not fit go into further tables
    /// below, each of which repeats the first column.
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
        let drawn: Vec<String> =
            blocks.iter().map(|block| self.draw(block, &self.limits(block, width, &[Fit::Wrap, Fit::Cut]))).collect();
        drawn.join("\n\n")
    }

    /// Returns the columns in which some cell is not empty.
    fn shown(&self) -> Vec<usize> {
        (0..self.columns.len())
            .filter(|&i| self.rows.is_empty() || self.rows.iter().any(|r| !r[i].is_empty()))
            .collect()
    }

    fn column_width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| display_width(&row[column]));
        cells.chain([display_width(&self.columns[column].heading)]).max().unwrap_or(0)
    }

    fn total(&self, shown: &[usize]) -> usize {
        shown.iter().map(|&column| self.column_width(column)).sum::<usize>() + GAP * shown.len().saturating_sub(1)
    }

    fn limited_total(&self, shown: &[usize], limits: &[Option<usize>]) -> usize {
        let widths =
            shown.iter().zip(limits).map(|(&column, limit)| limit.unwrap_or_else(|| self.column_width(column)));
        widths.sum::<usize>() + GAP * shown.len().saturating_sub(1)
    }

    /// Returns the widths of columns that are narrower than their cells. Only columns whose fit is in `ways` are
    /// narrowed: always the widest, until the table fits or none can be narrowed.
    fn limits(&self, shown: &[usize], width: usize, ways: &[Fit]) -> Vec<Option<usize>> {
        let mut widths: Vec<usize> = shown.iter().map(|&column| self.column_width(column)).collect();
        let mut is_limited = vec![false; shown.len()];
        while widths.iter().sum::<usize>() + GAP * shown.len().saturating_sub(1) > width {
            let widest = (0..shown.len())
                .filter(|&i| {
                    let column = &self.columns[shown[i]];
                    let least = if column.fit == Fit::Wrap { NARROWEST } else { SHORTEST };
                    ways.contains(&column.fit) && widths[i] > least.max(display_width(&column.heading))
                })
                .max_by_key(|&i| widths[i]);
            let Some(i) = widest else { break };
            widths[i] -= 1;
            is_limited[i] = true;
        }
        widths.into_iter().zip(is_limited).map(|(width, is_limited)| is_limited.then_some(width)).collect()
    }

    fn next_to_drop(&self, shown: &[usize]) -> Option<usize> {
        let repeats = |column: usize| {
            let mut cells = self.rows.iter().map(|row| &row[column]);
            let first = cells.next();
            self.rows.len() > 1 && cells.all(|cell| Some(cell) == first)
        };
        (0..shown.len())
            .filter(|&i| self.columns[shown[i]].drop_order.is_some())
            .min_by_key(|&i| (!repeats(shown[i]), self.columns[shown[i]].drop_order))
    }

    fn draw(&self, shown: &[usize], limits: &[Option<usize>]) -> String {
        if shown.is_empty() {
            return String::new();
        }
        let mut builder = Builder::with_capacity(self.rows.len() + 1, shown.len());
        builder.push_record(shown.iter().map(|&column| self.columns[column].heading.clone()));
        for row in &self.rows {
            builder.push_record(shown.iter().zip(limits).map(|(&column, limit)| {
                let (cell, Some(limit)) = (&row[column], *limit) else { return row[column].clone() };
                if self.columns[column].fit == Fit::Wrap { textwrap::fill(cell, limit) } else { cut(cell, limit) }
            }));
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

/// Shortens `text` to at most `limit` columns by leaving out its middle.
fn cut(text: &str, limit: usize) -> String {
    if display_width(text) <= limit {
        return text.to_owned();
    }
    let kept = limit.saturating_sub(1);
    let head = fitting(text.chars(), kept.div_ceil(2));
    let tail = fitting(text.chars().rev(), kept / 2);
    head.into_iter().chain(['…']).chain(tail.into_iter().rev()).collect()
}

/// Returns the first characters that fit into `limit` columns. A Chinese, Japanese or Korean character takes two.
fn fitting(characters: impl Iterator<Item = char>, limit: usize) -> Vec<char> {
    let mut left = limit;
    let mut buffer = [0; 4];
    let fits = |character: &char| {
        let width = display_width(character.encode_utf8(&mut buffer));
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    characters.take_while(fits).collect()
}

/// Renders columns and rows unchanged, for queries whose columns are not known beforehand.
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

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(cut("心臓は血液を送り出す", 9), "心臓…出す");
        assert_eq!(cut("心臓は血液を送り出す", 8), "心臓…す");
        assert_eq!(display_width("心臓"), 4);
        let mut table = Table::new(vec![Column::left("stage"), Column::left("言葉").shortened(), Column::right("n")]);
        table.push(vec!["eval".into(), "心臓は血液を全身に送り出す".into(), "1".into()]);
        assert!(table.render(24).lines().all(|line| display_width(line) <= 24), "{}", table.render(24));
    }

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
    fn too_wide_a_table_drops_columns_before_it_cuts_names() {
        insta::assert_snapshot!(example().render(34), @r"
        stage                   seconds
        ───────────────────────────────
        continued pre-training     12.5
        grpo                     1234.5
        ");
        insta::assert_snapshot!(example().render(20), @r"
        stage        seconds
        ────────────────────
        conti…ining     12.5
        grpo          1234.5
        ");
    }

    #[test]
    fn a_column_that_says_the_same_everywhere_goes_first() {
        let columns = vec![Column::left("stage"), Column::left("kind").dropped(9), Column::left("key").dropped(1)];
        let mut table = Table::new(columns);
        table.push(vec!["a".into(), "eval".into(), "0123".into()]);
        table.push(vec!["b".into(), "eval".into(), "4567".into()]);
        assert!(table.render(12).contains("4567"));
        assert!(!table.render(12).contains("eval"));
    }

    #[test]
    fn text_goes_on_in_the_next_line() {
        let mut table = Table::new(vec![Column::left("stage"), Column::left("note").wrapped()]);
        table.push(vec!["eval".into(), "of eight answers two could not be read, so they are missing".into()]);
        table.push(vec!["grpo".into(), "fine".into()]);
        insta::assert_snapshot!(table.render(40), @r"
        stage  note
        ────────────────────────────────────────
        eval   of eight answers two could not be
               read, so they are missing
        grpo   fine
        ");
    }

    #[test]
    fn without_a_width_nothing_is_lost() {
        let drawn = example().render(usize::MAX);
        assert!(drawn.contains("continued pre-training  first      12.5"));
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
