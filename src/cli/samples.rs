//! `orchestrate samples RUN [STAGE]`.

use super::context::Context;
use super::error::CliError;
use super::output::Output;
use super::records;
use super::runs::{find_run, find_stages, stage_title};
use crate::event::{Completion, Part};
use crate::orchestrate::{LoggedPlan, PastRun};
use crate::report::number;
use clap::Args;
use serde_json::json;

/// Which completions.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows prompt, completion, reference and answer, and what each reward component says of it. Without
--step: those of the last step.

Examples:
  orchestrate samples latest grpo
  orchestrate samples latest grpo --step 1 --limit 2
  orchestrate samples latest eval --json | jq 'select(.parts.format.value == 0) | .completion'")]
pub(super) struct SamplesArgs {
    /// A run's id, the beginning or end of one, or `latest`.
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
    /// Only this stage.
    #[arg(value_name = "STAGE")]
    stage: Option<String>,
    /// Only completions of this step.
    #[arg(long, value_name = "N")]
    step: Option<u64>,
    /// Completions at most, for each stage; 0: all.
    #[arg(long, value_name = "N", default_value_t = 4)]
    limit: usize,
}

pub(super) fn samples(context: &Context, args: &SamplesArgs) -> Result<(), CliError> {
    let runs = PastRun::all(context.runs())?;
    let past = find_run(&runs, &args.run)?;
    let plan = LoggedPlan::load(&past.log_dir)?;
    let mut out = Output::stdout();
    let mut found = false;
    for stage in find_stages(&plan, args.stage.as_deref())? {
        let completions = records::stage_record(context, &stage.key)?.completions;
        let Some(last) = completions.iter().map(|completion| completion.step).max() else { continue };
        let step = args.step.unwrap_or(last);
        let shown = completions.iter().filter(|completion| completion.step == step);
        let limit = if args.limit == 0 { usize::MAX } else { args.limit };
        for completion in shown.take(limit) {
            found = true;
            if context.json {
                let mut object = json!(completion);
                object["run"] = json!(past.run);
                object["stage"] = json!(stage.stage);
                object["variant"] = json!(stage.variants);
                out.json(&object)?;
            } else {
                print(&mut out, &stage_title(&plan, stage), completion)?;
            }
        }
    }
    out.finish()?;
    if found {
        return Ok(());
    }
    Err(CliError::nothing("no completion matches").hint("stages of the kinds `grpo` and `eval` sample completions"))
}

fn print(out: &mut Output, title: &str, completion: &Completion) -> Result<(), CliError> {
    let Completion { step, row, index, tokens, stop_reason, .. } = completion;
    let cut = if stop_reason.truncated() { ", cut at the limit" } else { "" };
    out.line(format!("── {title}  step {step}, row {row}, completion {index}, {tokens} tokens{cut}"))?;
    field(out, "prompt", Some(&completion.prompt))?;
    field(out, "completion", Some(&completion.completion))?;
    field(out, "reference", completion.reference.as_ref())?;
    field(out, "answer", completion.answer.as_ref())?;
    let total = completion.reward.map_or_else(|| "missing".to_owned(), number);
    let advantage = completion.advantage.map(|value| format!("  advantage {}", number(value))).unwrap_or_default();
    let parts: Vec<String> = completion.parts.iter().map(|(name, part)| format!("{name} {}", verdict(part))).collect();
    field(out, "reward", Some(&format!("{total}{advantage}  = {}", parts.join(" + "))))?;
    out.line("")
}

/// `0.72 x 1`, or why there is no value.
fn verdict(part: &Part) -> String {
    match (part.value, &part.missing) {
        (Some(value), _) => format!("{} x {}", number(value), part.weight),
        (None, why) => format!("missing ({})", why.as_deref().unwrap_or("no reason given")),
    }
}

/// A name and a text whose further lines are indented below its first.
fn field(out: &mut Output, name: &str, text: Option<&String>) -> Result<(), CliError> {
    let Some(text) = text else { return Ok(()) };
    let text = text.trim_end().replace('\n', "\n            ");
    out.line(format!("{name:>10}  {text}"))
}
