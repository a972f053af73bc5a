//! `orchestrate samples RUN [STAGE]`.

use super::args::RunStagesArgs;
use super::condition::{Condition, Order};
use super::context::Context;
use super::error::CliError;
use super::find::{find_run, find_stages, past_runs, stage_title};
use super::output::Output;
use super::run_rows;
use crate::event::{Completion, ComponentScore};
use crate::history::{LoggedPlan, LoggedStage};
use crate::number::number;
use crate::printable::harmless;
use crate::report::{indented, side_by_side, terminal_width, text_width};
use crate::workspace::EventLog;
use clap::Args;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::ops::RangeInclusive;

/// Which completions.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows prompt, completion, reference and answer, and the value of each reward component. Without --step, it
shows the last step that has completions. When the stage is done, a Parquet file beside its result also has
all of them; --parquet prints its path.

A condition of --where is FIELD OPERATOR VALUE. Fields: step, row, index, tokens, stop_reason, reward,
advantage, prompt, completion, reference, answer and every reward component by its name. Numbers: = !=
< <= > >=. Texts: = != and ~ (contains). `reward=missing` finds completions without a reward.

Examples:
  orchestrate samples latest grpo --step 1 --limit 2
  orchestrate samples latest grpo --where 'reward<0.2' --where format=1 --side-by-side
  orchestrate samples latest grpo --step 100..200 --sort -tokens
  orchestrate samples latest eval --where correctness=0 --limit 0 --json | jq .completion
  duckdb -c \"SELECT step, avg(reward) FROM '$(orchestrate samples latest grpo --parquet)' GROUP BY step\"

--json prints {\"step\",\"row\",\"index\",\"prompt\",\"completion\",\"reference\",\"answer\",\"tokens\",\"stop_reason\",
\"reward\",\"advantage\",\"parts\":{NAME:{\"value\",\"weight\",\"missing\"}},\"run\",\"stage\",\"variant\",\"key\"}, one a line;
in an arena \"player\" too.")]
pub(super) struct SamplesArgs {
    #[command(flatten)]
    of: RunStagesArgs,
    /// Only completions of this step, or of the steps A..B, both included; `..` is all of them.
    #[arg(long, value_name = "N|A..B", value_parser = steps)]
    step: Option<RangeInclusive<u64>>,
    /// Only completions of this row of the data set.
    #[arg(long, value_name = "N")]
    row: Option<usize>,
    /// Only completions that match this condition, for instance 'reward<0.2'; can be repeated.
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<Condition>,
    /// Only completions that the length limit cut.
    #[arg(long)]
    truncated: bool,
    /// The smallest FIELD first, with `-` before it the largest [default: as they were sampled]
    #[arg(long, value_name = "[-]FIELD", allow_hyphen_values = true)]
    sort: Option<Order>,
    /// Largest number of completions of each stage; 0: all.
    #[arg(long, value_name = "N", default_value_t = 4)]
    limit: usize,
    /// Put each completion beside its reference.
    #[arg(long, conflicts_with = "json")]
    side_by_side: bool,
    /// Print the paths of the Parquet files that hold all completions, and nothing else.
    #[arg(long)]
    parquet: bool,
}

pub(super) fn samples(context: &Context, args: &SamplesArgs) -> Result<(), CliError> {
    let runs = past_runs(context)?;
    let past = find_run(&runs, &args.of.run)?;
    let plan = LoggedPlan::load(&past.log_dir)?;
    let stages = find_stages(&plan, args.of.stage.as_deref(), &args.of.variants)?;
    if args.parquet {
        return print_files(context, &plan, &stages);
    }
    let mut logs = Vec::new();
    let mut components = BTreeSet::new();
    for stage in stages {
        let log = run_rows::event_log(context, &stage.key)?;
        let first = log.completions(..)?.next().transpose()?;
        if let Some(first) = first {
            components.extend(first.parts.into_keys());
            logs.push((stage, log));
        }
    }
    if logs.is_empty() {
        return Err(CliError::nothing("no completion was sampled yet")
            .hint("stages of the kinds `grpo` and `eval` sample completions"));
    }
    args.conditions.iter().try_for_each(|condition| condition.check(&components))?;
    args.sort.iter().try_for_each(|order| order.check(&components))?;

    let mut out = Output::stdout();
    let mut found = false;
    for (stage, log) in &logs {
        for completion in picked(args, log)? {
            found = true;
            if context.json {
                let mut object = json!(completion);
                object["run"] = json!(past.run);
                object["stage"] = json!(stage.stage);
                object["variant"] = json!(stage.variants);
                object["key"] = json!(stage.key);
                out.json(&object)?;
            } else {
                print(&mut out, &stage_title(&plan, stage), &completion, args.side_by_side)?;
            }
        }
        if context.verbose
            && let Some(file) = run_rows::completions_file(context, &stage.key)?
        {
            let _ = writeln!(std::io::stderr(), "all completions of {}: {}", stage.stage, context.shown(&file));
        }
    }
    out.finish()?;
    if found {
        return Ok(());
    }
    let steps = logs.iter().flat_map(|(_, log)| log.completion_steps());
    let (first, last) = (steps.clone().min().unwrap_or(&0), steps.max().unwrap_or(&0));
    Err(CliError::nothing("no completion matches")
        .hint(format!("there are completions of the steps {first} to {last}; `--step ..` looks through all of them")))
}

/// Prints the paths of the stages' Parquet files.
fn print_files(context: &Context, plan: &LoggedPlan, stages: &[&LoggedStage]) -> Result<(), CliError> {
    let mut out = Output::stdout();
    let mut found = false;
    for stage in stages {
        if let Some(file) = run_rows::completions_file(context, &stage.key)? {
            found = true;
            if context.json {
                out.json(&json!({"stage": stage_title(plan, stage), "key": stage.key, "completions": file}))?;
            } else {
                out.line(context.shown(&file).to_string())?;
            }
        }
    }
    out.finish()?;
    if found {
        return Ok(());
    }
    Err(CliError::nothing("there is no Parquet file of completions")
        .hint("it is written when a stage of the kind `grpo` or `eval` ends"))
}

/// Returns the completions of `log` that `args` select. Holds at most twice as many as are shown.
fn picked(args: &SamplesArgs, log: &EventLog) -> Result<Vec<Completion>, CliError> {
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let is_wanted = |completion: &Completion| {
        args.row.is_none_or(|row| completion.row == row)
            && (!args.truncated || completion.stop_reason.truncated())
            && args.conditions.iter().all(|condition| condition.holds(completion))
    };
    // Without conditions, the last matching step is known beforehand.
    let unconditional = args.row.is_none() && !args.truncated && args.conditions.is_empty();
    let last = log.completion_steps().last().copied().filter(|_| unconditional);
    let steps = args.step.clone().or(last.map(|last| last..=last)).unwrap_or(0..=u64::MAX);
    let cut = |found: &mut Vec<Completion>| {
        if let Some(order) = &args.sort {
            found.sort_by(|a, b| order.compare(a, b));
        }
        found.truncate(limit);
    };
    let mut found: Vec<Completion> = Vec::new();
    for completion in log.completions(steps)? {
        let completion = completion?;
        if !is_wanted(&completion) {
            continue;
        }
        if args.step.is_none() && found.last().is_some_and(|known| known.step < completion.step) {
            found.clear();
        }
        if args.sort.is_some() || found.len() < limit {
            found.push(completion);
        } else if args.step.is_some() {
            break;
        }
        if found.len() >= limit.saturating_mul(2) {
            cut(&mut found);
        }
    }
    cut(&mut found);
    Ok(found)
}

/// Parses `N`, `A..B`, `A..`, `..B` or `..`.
fn steps(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number = |text: &str, absent: u64| if text.is_empty() { Some(absent) } else { text.parse().ok() };
    let ends = match text.split_once("..") {
        Some((first, last)) => number(first, 0).zip(number(last, u64::MAX)),
        None => text.parse().ok().map(|step| (step, step)),
    };
    match ends {
        Some((first, last)) if first <= last => Ok(first..=last),
        _ => Err("write a step, like 12, or a range of steps, like 10..20, 10.. or ..".to_owned()),
    }
}

fn print(out: &mut Output, title: &str, completion: &Completion, beside: bool) -> Result<(), CliError> {
    let Completion { step, row, index, tokens, stop_reason, .. } = completion;
    let cut = if stop_reason.truncated() { ", cut at the limit" } else { "" };
    let player = completion.player.as_ref().map(|player| format!(" {player}")).unwrap_or_default();
    out.line(format!("── {title}{player}  step {step}, row {row}, completion {index}, {tokens} tokens{cut}"))?;
    field(out, "prompt", Some(&completion.prompt))?;
    if beside {
        let reference = harmless(completion.reference.as_deref().unwrap_or("(none)"));
        let texts = [("completion", harmless(&completion.completion)), ("reference", reference)];
        let [left, right] = texts.each_ref().map(|(heading, text)| (*heading, text.as_str()));
        out.line(format!("\n{}\n", side_by_side(left, right, text_width())))?;
    } else {
        field(out, "completion", Some(&completion.completion))?;
        field(out, "reference", completion.reference.as_ref())?;
    }
    field(out, "answer", completion.answer.as_ref())?;
    let total = completion.reward.map_or_else(|| "missing".to_owned(), number);
    let advantage = completion.advantage.map(|value| format!("  advantage {}", number(value))).unwrap_or_default();
    let is_held_out = |part: &&ComponentScore| part.weight == 0.0;
    let summed = completion.parts.iter().filter(|(_, part)| !is_held_out(part));
    let summed: Vec<String> = summed.map(|(name, part)| format!("{name} {}", verdict(part))).collect();
    field(out, "reward", Some(&format!("{total}{advantage}  = {}", summed.join(" + "))))?;
    let held_out = completion.parts.iter().filter(|(_, part)| is_held_out(part));
    let held_out: Vec<String> = held_out.map(|(name, part)| format!("{name} {}", measured(part))).collect();
    if !held_out.is_empty() {
        field(out, "held out", Some(&held_out.join(", ")))?;
    }
    if let Some(choice) = completion.eval.as_ref().and_then(|eval| eval.choice.as_ref()) {
        let is_likeliest = |correct: bool| if correct { "the likeliest" } else { "not the likeliest" };
        let (plain, per_byte) = (is_likeliest(choice.correct), is_likeliest(choice.correct_norm));
        field(out, "options", Some(&format!("the right one is {plain}, {per_byte} per byte")))?;
    }
    out.line("")
}

/// Formats `0.72 x 1`, or the reason of a missing value.
fn verdict(part: &ComponentScore) -> String {
    let weight = if part.value.is_some() { format!(" x {}", part.weight) } else { String::new() };
    measured(part) + &weight
}

/// Formats `0.72`, or the reason of a missing value.
fn measured(part: &ComponentScore) -> String {
    match (part.value, &part.missing) {
        (Some(value), _) => number(value),
        (None, why) => format!("missing ({})", why.as_deref().unwrap_or("no reason given")),
    }
}

fn field(out: &mut Output, name: &str, text: Option<&String>) -> Result<(), CliError> {
    let Some(text) = text else { return Ok(()) };
    out.line(indented(name, &harmless(text.trim_end()), terminal_width()))
}
