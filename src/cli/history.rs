//! `orchestrate history`.

use super::args::word;
use super::condition::Condition;
use super::context::{Context, block_on};
use super::error::{CliError, Kind};
use super::open_history;
use super::output::Output;
use super::run_rows::StageRow;
use crate::digest::Digest;
use crate::history::Scope;
use crate::number::{duration, measurement, number};
use crate::report::{Column, Table, headlines, width};
use crate::stage::{StageKind, StageStatus};
use crate::store::{HistoryQuery, HistoryRow, Order, OrderBy, Store};
use crate::suggestion::did_you_mean;
use chrono::{DateTime, Days, Local, NaiveDate, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use clap::Args;
use std::io::Write as _;

/// The columns, with their names in the database.
const COLUMNS: [(&str, &str); 11] = [
    ("run", "s.run"),
    ("started", "s.started_at"),
    ("stage", "s.stage"),
    ("recipe", "s.recipe"),
    ("variant", "s.variant"),
    ("kind", "s.kind"),
    ("key", "s.key"),
    ("status", "s.status"),
    ("time", "s.seconds"),
    ("seconds", "s.seconds"),
    ("result", "s.message"),
];
const DEFAULT_COLUMNS: [&str; 8] = ["run", "started", "stage", "variant", "key", "status", "time", "result"];

/// The maximum count of stages beyond a limit. Counting further would take longer than the query itself.
const MOST_COUNTED: usize = 10_000;

/// Which part of the past.
#[derive(Debug, Args)]
#[command(after_help = "\
A stage must pass all filters. --where compares a result, or `seconds`, with a number
by = != < <= > >=; a stage that did not measure it does not pass. Results are those of the stage's cache
key: a stage that was forced to run again shows its newest.

Columns: run, started, stage, recipe, variant, kind, key, status, time, seconds, result, and every
result by its name. --sort takes the same, with `-` before it the largest first.

Examples:
  orchestrate history
  orchestrate history --recipe demo --status failed --since 2d
  orchestrate history --kind eval --where 'eval/accuracy>0.3' --sort -eval/accuracy
  orchestrate history --kind grpo --columns variant,seconds,reward/mean,train/loss --limit 0
  orchestrate history --json | jq 'select(.kind == \"eval\") | [.variant, .metrics.\"eval/accuracy\"]'

--json prints {\"run\",\"recipe\",\"variant\",\"stage\",\"kind\",\"key\",\"status\",\"started_at\",\"seconds\",
\"metrics\":{NAME:{\"value\",\"interval\",\"count\"}},\"message\",\"tries\",\"memory\"}, one a line,
all of them without --limit. Only `show --json` fills in `memory`.")]
pub(super) struct HistoryArgs {
    /// Only stages of this recipe.
    #[arg(long, value_name = "NAME")]
    recipe: Option<String>,
    /// Only stages of this variant.
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Only stages of this kind (cpt, sft, grpo, eval, ...); can be repeated.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = word::<StageKind>())]
    kind: Vec<StageKind>,
    /// Only stages with this status; can be repeated.
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = word::<StageStatus>())]
    status: Vec<StageStatus>,
    /// Only runs that began since: 90m, 12h, 2d, 1w ago, or a date like 2026-11-01 or 2026-11-01T18:00.
    #[arg(long, value_name = "WHEN", value_parser = |text: &str| since(text, Utc::now()))]
    since: Option<DateTime<Utc>>,
    /// Only stages that match this condition, for instance 'eval/accuracy>0.3'; can be repeated.
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<Condition>,
    /// The smallest COLUMN first, with `-` before it the largest [default: the newest run first]
    #[arg(long, value_name = "[-]COLUMN", allow_hyphen_values = true)]
    sort: Option<String>,
    /// Columns of the table.
    #[arg(long, value_name = "COLUMN,..", value_delimiter = ',', conflicts_with = "json")]
    columns: Vec<String>,
    /// Largest number of rows; 0: all [default: 40, with --json all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

pub(super) fn history(context: &Context, args: &HistoryArgs) -> Result<(), CliError> {
    let limit = args.limit.unwrap_or(if context.json { 0 } else { 40 });
    let mut query = HistoryQuery {
        recipe: args.recipe.clone(),
        variant: args.variant.clone(),
        kinds: args.kind.clone(),
        statuses: args.status.clone(),
        since: args.since,
        conditions: args.conditions.iter().map(Condition::on_stages).collect::<Result<_, _>>()?,
        order: None,
        limit: (limit > 0).then_some(limit),
    };
    block_on(async {
        let store = open_history::open(context, Scope::Runs).await?;
        if store.is_empty().await? {
            if !context.quiet {
                // An empty history is not an error, so that a script gets an empty answer.
                let _ = writeln!(
                    std::io::stderr(),
                    "nothing has been run here yet\nhint: `orchestrate run RECIPE` runs a recipe"
                );
            }
            return Ok(());
        }
        for condition in &query.conditions {
            check_field(&store, &condition.name).await?;
        }
        query.order = order(&store, args.sort.as_deref()).await?;
        for column in &args.columns {
            check_field(&store, column).await?;
        }
        let rows: Vec<StageRow> = store.history(&query).await?.into_iter().map(StageRow::from).collect();
        if rows.is_empty() {
            return Err(no_match(&store, &query).await?);
        }
        let columns: Vec<&str> = args.columns.iter().map(String::as_str).collect();
        let mut rows = rows;
        let (found, limit) = (rows.len(), query.limit);
        let results: Vec<&str> =
            columns.iter().copied().filter(|name| COLUMNS.iter().all(|(column, _)| column != name)).collect();
        // Stages without any of the requested results are left out.
        rows.retain(|row| results.is_empty() || results.iter().any(|name| row.metrics.contains_key(*name)));
        print(context, &rows, if columns.is_empty() { &DEFAULT_COLUMNS } else { &columns })?;
        if Some(found) == limit && !context.quiet && !context.json {
            let most = MOST_COUNTED.max(rows.len());
            let all = store.history_count(&query, most + 1).await?;
            if rows.len() < all {
                let all = if all > most { format!("more than {most}") } else { all.to_string() };
                let _ = writeln!(std::io::stderr(), "{} of {all} stages; `--limit 0` shows all", rows.len());
            }
        }
        Ok(())
    })
}

async fn order(store: &Store, sort: Option<&str>) -> Result<Option<Order>, CliError> {
    let Some(sort) = sort else { return Ok(None) };
    let field = sort.trim_start_matches('-');
    check_field(store, field).await?;
    let column = COLUMNS.iter().find(|(name, _)| *name == field);
    let by = column.map_or_else(|| OrderBy::Result(field.to_owned()), |(_, column)| OrderBy::Column(column));
    Ok(Some(Order { by, descending: sort.starts_with('-') }))
}

/// Checks that `field` is known.
///
/// # Errors
/// The name is neither a column nor a result of any stage.
async fn check_field(store: &Store, field: &str) -> Result<(), CliError> {
    if COLUMNS.iter().any(|(name, _)| *name == field) || store.has_result(field).await? {
        return Ok(());
    }
    let results = store.result_names().await?;
    let columns = COLUMNS.iter().map(|(name, _)| *name);
    let known: Vec<&str> = columns.chain(results.iter().map(String::as_str)).collect();
    Err(CliError::new(Kind::Usage, format!("no stage has a `{field}`")).hint(did_you_mean(
        field,
        "columns and results",
        &known,
    )))
}

/// Returns an error that names the filters that match no stage.
async fn no_match(store: &Store, query: &HistoryQuery) -> Result<CliError, CliError> {
    let all = HistoryQuery::default();
    let alone = [
        ("--recipe", HistoryQuery { recipe: query.recipe.clone(), ..all.clone() }),
        ("--variant", HistoryQuery { variant: query.variant.clone(), ..all.clone() }),
        ("--kind", HistoryQuery { kinds: query.kinds.clone(), ..all.clone() }),
        ("--status", HistoryQuery { statuses: query.statuses.clone(), ..all.clone() }),
        ("--since", HistoryQuery { since: query.since, ..all.clone() }),
        ("--where", HistoryQuery { conditions: query.conditions.clone(), ..all }),
    ];
    for (name, filter) in alone {
        if filter.filters() && store.history_count(&filter, 1).await? == 0 {
            return Ok(CliError::nothing(format!("no stage passes `{name}`"))
                .hint("`orchestrate history` lists the newest stages"));
        }
    }
    Ok(CliError::nothing("no stage passes all the filters")
        .hint("each filter alone matches some stages; drop one of them"))
}

impl From<HistoryRow> for StageRow {
    fn from(row: HistoryRow) -> Self {
        let time = |text: &str| text.parse::<DateTime<Utc>>().ok();
        Self {
            run: row.run,
            recipe: row.recipe,
            variant: row.variant,
            stage: row.stage,
            kind: row.kind,
            key: Digest::parse(&row.key).expect("the history holds keys"),
            status: row.status,
            started_at: row.started_at.as_deref().and_then(time),
            seconds: row.seconds,
            metrics: row.results,
            message: row.message,
            tries: row.tries,
            memory: None,
        }
    }
}

/// Prints stages of runs, for this command and `show`.
pub(super) fn print_default(context: &Context, rows: &[StageRow]) -> Result<(), CliError> {
    print(context, rows, &DEFAULT_COLUMNS)
}

fn print(context: &Context, rows: &[StageRow], columns: &[&str]) -> Result<(), CliError> {
    let mut out = Output::stdout();
    if context.json {
        for row in rows {
            out.json(&row.to_json())?;
        }
        return out.finish();
    }
    if rows.is_empty() {
        return out.finish();
    }
    let mut table = Table::new(columns.iter().map(|name| heading(name)).collect());
    for row in rows {
        table.push(columns.iter().map(|name| cell(context, row, name)).collect());
    }
    out.line(table.render(width()))?;
    out.finish()
}

fn heading(name: &str) -> Column {
    match name {
        "key" => Column::left(name).dropped(1),
        "kind" => Column::left(name).dropped(2),
        "recipe" => Column::left(name).shortened().dropped(3),
        "started" => Column::left(name).dropped(4),
        // Columns that identify a row are never dropped.
        "variant" => Column::left(name).shortened(),
        "run" | "stage" | "status" => Column::left(name),
        "result" => Column::left(name).wrapped(),
        _ => Column::right(name),
    }
}

fn cell(context: &Context, row: &StageRow, column: &str) -> String {
    match column {
        "run" if context.verbose => row.run.clone(),
        "run" => short_run(&row.run).to_owned(),
        "started" => {
            let local = row.started_at.map(|at| at.with_timezone(&Local).format("%m-%d %H:%M").to_string());
            local.unwrap_or_default()
        }
        "stage" => row.stage.clone(),
        "recipe" => row.recipe.clone(),
        "variant" => row.variant.clone(),
        "kind" => row.kind.to_string(),
        "key" if context.verbose => row.key.as_str().to_owned(),
        "key" => row.key.short().to_owned(),
        "status" => row.status.to_string(),
        "time" => row.seconds.map(duration).unwrap_or_default(),
        "seconds" => row.seconds.map(number).unwrap_or_default(),
        "result" => result(row),
        name => {
            let found = row.metrics.get(name);
            found
                .map(|found| if found.interval.is_some() { measurement(found) } else { number(found.value) })
                .unwrap_or_default()
        }
    }
}

/// Returns the end of a run's id. Its beginning is the time, which runs of one hour share.
pub(super) fn short_run(run: &str) -> &str {
    &run[run.len().saturating_sub(6)..]
}

/// Returns the main results of a stage, or the reason of its failure.
fn result(row: &StageRow) -> String {
    if let Some(message) = &row.message {
        return message.clone();
    }
    headlines(&row.metrics).join("  ")
}

/// Parses `90m`, `12h`, `2d` or `1w` before `now`, or a date or a time of this machine's clock.
fn since(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let known = "write how long ago, like 90m, 12h, 2d or 1w, or a date like 2026-11-01 or 2026-11-01T18:00";
    if let Ok(at) = text.parse::<DateTime<Utc>>() {
        return Ok(at);
    }
    let local = |at: NaiveDateTime| Local.from_local_datetime(&at).earliest().map(|at| at.to_utc());
    if let Ok(date) = text.parse::<NaiveDate>() {
        return local(date.and_time(chrono::NaiveTime::MIN)).ok_or_else(|| known.to_owned());
    }
    for form in ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"] {
        if let Ok(at) = NaiveDateTime::parse_from_str(text, form) {
            return local(at).ok_or_else(|| known.to_owned());
        }
    }
    let ago = text.char_indices().last().and_then(|(end, unit)| {
        let amount: u32 = text[..end].parse().ok()?;
        match unit {
            'm' => now.checked_sub_signed(TimeDelta::minutes(amount.into())),
            'h' => now.checked_sub_signed(TimeDelta::hours(amount.into())),
            'd' => now.checked_sub_days(Days::new(amount.into())),
            'w' => now.checked_sub_days(Days::new(7 * u64::from(amount))),
            _ => None,
        }
    });
    ago.ok_or_else(|| known.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_duration_a_date_or_a_time() {
        let now: DateTime<Utc> = "2026-11-21T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("90m", "2026-11-21T10:30:00Z"),
            ("12h", "2026-11-21T00:00:00Z"),
            ("2d", "2026-11-19T12:00:00Z"),
            ("1w", "2026-11-14T12:00:00Z"),
            ("2026-11-01T18:00:00Z", "2026-11-01T18:00:00Z"),
            ("2026-11-01T18:00:00+02:00", "2026-11-01T16:00:00Z"),
        ] {
            assert_eq!(since(text, now), Ok(expected.parse().unwrap()), "{text}");
        }
        let midnight = Local.with_ymd_and_hms(2026, 11, 1, 0, 0, 0).unwrap().to_utc();
        assert_eq!(since("2026-11-01", now), Ok(midnight));
        assert_eq!(since("2026-11-01T18:00", now), Ok(midnight + TimeDelta::hours(18)));
        for text in ["", "d", "2", "2y", "-2d", "2.5d", "2026-13-01", "yesterday", "99999999999d", "4294967295w", "ä"]
        {
            assert!(since(text, now).is_err_and(|message| message.contains("2026-11-01")), "{text}");
        }
    }
}
