//! Tables and charts for papers.

use crate::event::Measurement;
use crate::number::{number, signed};
use crate::report::chart::{HeatCell, Shade, Whisker, curve_chart, forest_chart, graph_chart, heat_chart};
use crate::report::html::{Report, ScoreCell, p_value};
use std::fmt::Write as _;

/// A table as rows of words. The first row is the heading; the first column has the names.
struct Paper {
    caption: String,
    rows: Vec<Vec<String>>,
}

/// Returns the tables of `report`.
fn tables(report: &Report) -> Vec<Paper> {
    let mut tables = Vec::new();
    let names: Vec<&str> = report.arms.iter().map(|arm| arm.name.as_str()).collect();
    for verdict in &report.verdicts {
        let heading = ["arm", "seeds", verdict.title.as_str(), "difference", "p (Holm)", "verdict"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        for row in &verdict.rows {
            let remark = if row.remark.is_empty() { String::new() } else { format!(", {}", row.remark) };
            rows.push(vec![
                names[row.arm].to_owned(),
                report.arms[row.arm].seeds.len().to_string(),
                row.value.as_ref().map_or_else(String::new, |value| measured(value, number)),
                row.difference.as_ref().map_or_else(String::new, |value| measured(value, signed)),
                row.p_value.map_or_else(String::new, p_value),
                format!("{}{remark}", row.word),
            ]);
        }
        let caption = format!("{} with 95% intervals. {}", verdict.title, verdict.sentences.join(" "));
        tables.push(Paper { caption: caption.trim().to_owned(), rows });
    }
    if !report.scores.components.is_empty() {
        let heading = report.scores.components.iter().map(|component| {
            if component.held_out { format!("{} (held out)", component.name) } else { component.name.clone() }
        });
        let mut rows = vec![std::iter::once("arm".to_owned()).chain(heading).collect::<Vec<_>>()];
        for (name, cells) in names.iter().zip(&report.scores.rows) {
            let cell = |cell: &Option<ScoreCell>| {
                cell.as_ref().map_or_else(String::new, |cell| measured(&cell.measured, number))
            };
            rows.push(std::iter::once((*name).to_owned()).chain(cells.iter().map(cell)).collect());
        }
        tables.push(Paper { caption: "Every component of every arm, with 95% intervals".into(), rows });
    }
    for rating in &report.ratings {
        let mut rows = vec![["arm", "Elo", "95% interval"].map(str::to_owned).to_vec()];
        for row in &rating.rows {
            rows.push(vec![
                row.name.clone(),
                format!("{:.0}", row.value),
                format!("{:.0} to {:.0}", row.low, row.high),
            ]);
        }
        tables.push(Paper { caption: format!("Elo ratings, {}", rating.title), rows });
    }
    tables
}

fn measured(value: &Measurement, write: fn(f64) -> String) -> String {
    match value.interval {
        Some((low, high)) => format!("{} [{}, {}]", write(value.value), number(low), number(high)),
        None => write(value.value),
    }
}

/// Formats the tables in Markdown, problems first.
pub(super) fn markdown(report: &Report) -> String {
    let mut out = format!("# {}\n", markdown_text(&report.title));
    for problem in &report.problems {
        let _ = write!(out, "\n> **{}** {}\n", problem.severity.word(), markdown_text(&problem.what));
        for line in &problem.details {
            let _ = writeln!(out, "> - {}", markdown_text(line));
        }
    }
    for table in tables(report) {
        let _ = write!(out, "\n{}\n\n", markdown_text(&table.caption));
        for (i, row) in table.rows.iter().enumerate() {
            let cells: Vec<String> = row.iter().map(|cell| markdown_text(cell)).collect();
            let _ = writeln!(out, "| {} |", cells.join(" | "));
            if i == 0 {
                let rule: Vec<&str> = (0..row.len()).map(|column| if column == 0 { "---" } else { "--:" }).collect();
                let _ = writeln!(out, "| {} |", rule.join(" | "));
            }
        }
    }
    out
}

/// Escapes `text` for Markdown.
fn markdown_text(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() => {}
            '\\' | '`' | '*' | '_' | '|' | '<' | '>' | '[' | ']' | '#' | '~' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// Formats the tables in LaTeX, for a document with `\usepackage{booktabs}`. Problems precede them as comments.
pub(super) fn latex(report: &Report) -> String {
    let mut out = String::from("% \\usepackage{booktabs}\n");
    for problem in &report.problems {
        for line in std::iter::once(&problem.what).chain(&problem.details) {
            let _ = writeln!(out, "% {}: {}", problem.severity.word(), one_line(line));
        }
    }
    for table in tables(report) {
        let columns = table.rows.first().map_or(0, Vec::len);
        let _ = write!(
            out,
            "\n\\begin{{table}}\n  \\centering\n  \\caption{{{}}}\n  \\begin{{tabular}}{{l{}}}\n    \\toprule\n",
            latex_text(&table.caption),
            "r".repeat(columns.saturating_sub(1))
        );
        for (i, row) in table.rows.iter().enumerate() {
            let cells: Vec<String> = row.iter().map(|cell| latex_text(cell)).collect();
            let _ = writeln!(out, "    {} \\\\", cells.join(" & "));
            if i == 0 {
                out.push_str("    \\midrule\n");
            }
        }
        out.push_str("    \\bottomrule\n  \\end{tabular}\n\\end{table}\n");
    }
    out
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Escapes `text` for LaTeX.
fn latex_text(text: &str) -> String {
    let mut out = String::new();
    for c in one_line(text).chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '<' => out.push_str("\\textless{}"),
            '>' => out.push_str("\\textgreater{}"),
            '[' => out.push_str("{[}"), // after `\\` it would be an argument
            ']' => out.push_str("{]}"),
            c => out.push(c),
        }
    }
    out
}

/// Returns the charts of `report` with their file names.
pub(super) fn charts(report: &Report) -> Vec<(String, String)> {
    let baseline = report.arms.iter().position(|arm| arm.is_baseline);
    let mut charts = Vec::new();
    for verdict in &report.verdicts {
        let rows = verdict.rows.iter().filter_map(|row| {
            let difference = row.difference?;
            let (low, high) = difference.interval?;
            Some(Whisker { name: report.arms[row.arm].name.clone(), value: difference.value, low, high })
        });
        let rows: Vec<Whisker> = rows.collect();
        if !rows.is_empty() {
            let label = format!("Differences in {} from the baseline", verdict.title);
            let name = format!("difference-{}.svg", file_word(&verdict.title));
            charts.push((name, forest_chart(&label, &rows, Some(0.0))));
        }
    }
    for rating in &report.ratings {
        let label = format!("Elo ratings, {}", rating.title);
        charts.push((format!("elo-{}.svg", file_word(&rating.title)), forest_chart(&label, &rating.rows, None)));
    }
    if !report.scores.components.is_empty() {
        charts.push(("components.svg".to_owned(), components(report)));
    }
    for curve in &report.curves {
        let name = format!("curve-{}-{}.svg", file_word(&curve.stage), file_word(&curve.metric));
        charts.push((name, curve_chart(&format!("{} over steps", curve.metric), &curve.lines, baseline)));
    }
    charts.push(("stages.svg".to_owned(), graph_chart("Stages", &report.stages.nodes)));
    charts
}

fn components(report: &Report) -> String {
    let cell = |cell: &Option<ScoreCell>| {
        let cell = cell.as_ref()?;
        let shade = match cell.verdict.as_str() {
            "better" => Shade::Better,
            "worse" => Shade::Worse,
            _ => Shade::None,
        };
        Some(HeatCell { text: number(cell.measured.value), shade })
    };
    let cells: Vec<Vec<Option<HeatCell>>> =
        report.scores.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let arms: Vec<String> = report.arms.iter().map(|arm| arm.name.clone()).collect();
    let columns: Vec<String> = report.scores.components.iter().map(|component| component.name.clone()).collect();
    heat_chart("Components by arm", &arms, &columns, &cells)
}

/// Converts `text` to a part of a file name.
fn file_word(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || ".-=,".contains(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_in_markdown_and_latex() {
        assert_eq!(markdown_text("a|b_<c>\n[d]"), "a\\|b\\_\\<c\\> \\[d\\]");
        assert_eq!(latex_text("50% & a_b\\c ~[x]"), "50\\% \\& a\\_b\\textbackslash{}c \\textasciitilde{}{[}x{]}");
    }
}
