//! `orchestrate score`: selects the stage, the texts and the output.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind};
use crate::cli::planning;
use crate::event::FailureClass;
use crate::exec::{Answered, Input, ScoreRequest, ScoreTask, WorkerBinary, ask_score};
use crate::plan::Plan;
use crate::recipe::Overrides;
use crate::recipe::spec::StageSpec;
use crate::report::Counter;
use crate::run::assignment;
use crate::workspace::{Assignment, DeviceChoice, JUDGE_CACHE, Workspace};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

/// What is rated, and by which mix.
#[derive(Debug, Args)]
#[command(after_help = "\
Rates texts exactly as a stage of the kind `grpo` or `eval` would, without training. Input lines are
{\"prompt\",\"completion\"} and, where there is one, \"reference\" and \"answer\"; other fields are ignored, so the
output of `samples --json` can be rated again. Judges are asked as in a run, and their answers are kept with
those of runs; each command has the judges' whole budget. GRPO's length penalty is not included. Lines are
rated 64 at a time; the lines that share a batch may change the last bits of an encoder's values.

--credit cuts the text that a component reads into sentences, rates their combinations, and prints what each
sentence contributes (its Shapley value; they add up to the value), or the segments of the stage's own credit.

--calibrate rates the stage's own rows instead: each with its own completion, with another row's and with an
empty one. It prints how well every component separates them (AUC: 1 is full separation, 0.5 is chance) and its
share of the spread within a row. It warns of components that cannot teach or that dominate the others.

--probe rates eleven changes of the stage's own rows that a sound reward does not pay for: the question itself,
keywords, stock sentences, padding, repeats, negations, exchanged numbers and letters, half of the text, the
nearest row's reference, a reference without the answer, and sentences chosen to raise the component. It prints
for each component how often it prefers the change to the true text (exploit: 0 is sound, 0.5 cannot tell) and
the mean gain in standard deviations within a row's true, shuffled and empty texts. It warns of 0.5 and more.

--judges measures the judges themselves, on the lines of --input or, without it, on the stage's rows, each with
its own completion and another row's. It prints the spread of repeated answers (--repeats, each with its own
seed), how often a pair's verdict follows the position instead of the text, and the agreement of several judges
beyond chance. It also prints missing answers with reasons, calls, tokens and, with prices in
[runtime.judges.MODEL], the cost. Consecutive lines with the same prompt, reference and answer are a group.

--add measures one more component on the answers that the evaluations STAGE of a past RUN gave, for all of its
variants. Answers and values are kept, so no model is loaded and no other component is computed. A new run has
the results; `compare` and `report` read them.

Examples:
  orchestrate score recipes/demo.toml grpo --variant semantic --input texts.jsonl --explain --credit
  orchestrate samples latest grpo --limit 0 --json | orchestrate score recipes/demo.toml eval --input -
  orchestrate score recipes/demo.toml grpo --variant semantic --calibrate
  orchestrate score recipes/demo.toml grpo --variant semantic --probe --limit 50
  orchestrate score recipes/judged.toml grpo --judges --limit 20 --repeats 3
  orchestrate score recipes/demo.toml grpo --variant rouge --calibrate --set stages.grpo.rewards.rouge.weight=2
  orchestrate score latest eval --add repetition
  orchestrate score latest eval --add 'semantic@bge = { encoder = \"models/bge-small\" }'

--json prints {\"total\",\"parts\":{NAME:{\"value\",\"weight\",\"status\":\"ok\"|\"missing\",\"reason\",\"explanation\",
\"credit\":[{\"text\",\"credit\"}]}}}, one a line; with --calibrate {\"rows\",\"total\",\"components\":{NAME:{\"weight\",\"true\":{\"mean\",\"std\",\"count\"},\"shuffled\",
\"empty\",\"auc_shuffled\",\"auc_empty\",\"share\",\"missing\"}},\"warnings\":[..]}; with --probe
{\"rows\",\"total\",\"components\":{NAME:{\"weight\",\"probes\":{PROBE:{\"exploit\",\"low\",\"high\",\"equal\",\"gap\",\"true\",
\"probe\",\"rows\"}}}},\"warnings\":[..]}; with --judges {\"components\":{NAME:{\"mode\",
\"items\",\"repeats\",\"judges\":{MODEL:{\"mean\",\"std\",\"repeat\":{\"items\",\"std\",\"changed\"},\"position\":{\"pairs\",\"share\",
\"low\",\"high\",\"first\"},\"missing\":{REASON:N},\"calls\",\"cache_hits\",\"prompt_tokens\",\"completion_tokens\",
\"cost_usd\"}},\"agreement\":{\"measure\",\"value\",\"items\"}}}}; with --add {\"what\":\"value\",\"run\",\"evaluation\",\"arm\",
\"component\",\"seeds\":[..],\"value\",\"interval\",\"count\"}, one a line.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(in crate::cli) struct ScoreArgs {
    /// A recipe file; with --add a run: an id, the beginning or end of one, or `latest`.
    #[arg(value_name = "RECIPE|RUN")]
    recipe: PathBuf,
    /// One of its stages, of the kind `grpo` or `eval`.
    #[arg(value_name = "STAGE")]
    stage: String,
    /// Measure one more component on the answers of a past run: NAME, 'NAME={ KEY = VALUE }' or NAME.KEY=VALUE; can
    /// be repeated.
    #[arg(long, value_name = "COMPONENT", conflicts_with_all = ["input", "calibrate", "probe", "judges", "set", "variant", "explain", "limit", "device"])]
    add: Vec<String>,
    /// The variant of the sweep, where they differ in the stage's rewards.
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Change a key of the recipe, e.g. `--set stages.grpo.rewards.rouge.weight=2`; can be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A file of JSON lines; `-` is stdin.
    #[arg(long, value_name = "F.jsonl", required_unless_present_any = ["calibrate", "probe", "judges", "add"])]
    input: Option<PathBuf>,
    /// Say why each value is what it is.
    #[arg(long, conflicts_with_all = ["calibrate", "probe", "judges"])]
    explain: bool,
    /// Say which sentence earned each value: its Shapley value, by the components that can rate parts of a text.
    #[arg(long, requires = "explain")]
    credit: bool,
    /// Rate the stage's own rows: their completions, other rows', and empty ones.
    #[arg(long, conflicts_with = "input")]
    calibrate: bool,
    /// Rate texts that hack rewards, made from the stage's own rows, beside the true ones.
    #[arg(long, conflicts_with_all = ["input", "calibrate", "judges"])]
    probe: bool,
    /// Measure the stage's judges: consistency, position bias, agreement and cost
    #[arg(long, conflicts_with = "calibrate")]
    judges: bool,
    /// How often each judge is asked the same.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "judges", value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,
    /// Rows to calibrate with, to probe or to have judged, at most; 0: all [default: 200, for judges 20]
    #[arg(long, value_name = "N", conflicts_with = "input")]
    limit: Option<usize>,
    /// Where to compute: `auto`, `cpu` or `cuda:N` [default: as the recipe says]
    #[arg(long, value_parser = crate::cli::args::device)]
    device: Option<DeviceChoice>,
}

pub(in crate::cli) fn score(context: &Context, args: ScoreArgs) -> Result<(), CliError> {
    if !args.add.is_empty() {
        return super::add::add(context, &args.recipe.to_string_lossy(), &args.stage, &args.add);
    }
    let overrides = Overrides::with_process_environment(args.set.clone());
    let plan = planning::planned(context, std::slice::from_ref(&args.recipe), &overrides, &[])?.plan;
    let index = chosen(&plan, &args)?;
    let mut assignment: Assignment = assignment(&plan.stages[index], &plan, &Workspace::open(context.runs())?);
    if let Some(device) = args.device {
        assignment.runtime.device = device;
    }
    let input = args.input.map(|path| if path.as_os_str() == "-" { Input::Stdin } else { Input::File(path) });
    let limit = |default: usize| Some(args.limit.unwrap_or(default)).filter(|limit| *limit > 0);
    let task = match input {
        input if args.judges => ScoreTask::Judges { input, limit: limit(20), repeats: args.repeats },
        Some(input) => ScoreTask::Texts { input, explain: args.explain, credit: args.credit, repeat: !context.json },
        None if args.probe => ScoreTask::Probe { limit: limit(200) },
        None => ScoreTask::Calibrate { limit: limit(200) },
    };
    let request = ScoreRequest { assignment, judge_cache: context.runs().join(JUDGE_CACHE), task };
    match &request.task {
        ScoreTask::Texts { explain: false, .. } if !context.json => super::texts::print_table(context, &request),
        ScoreTask::Texts { explain, .. } => super::texts::print_each(context, &request, *explain),
        ScoreTask::Calibrate { .. } => super::calibration::print(context, &request),
        ScoreTask::Probe { .. } => super::probes::print(context, &request),
        ScoreTask::Judges { .. } => super::judges::print(context, &request),
    }
}

/// Returns the index of the planned stage that the arguments select.
pub(super) fn chosen(plan: &Plan, args: &ScoreArgs) -> Result<usize, CliError> {
    let mut found: Vec<(&str, usize)> = Vec::new();
    for variant in &plan.variants {
        if let Some((_, index)) = variant.stages.iter().find(|(name, _)| *name == args.stage) {
            found.push((&variant.name, *index));
        }
    }
    let quoted = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if found.is_empty() {
        let mut names: Vec<&str> = Vec::new();
        for (name, index) in plan.variants.iter().flat_map(|variant| &variant.stages) {
            if rated(&plan.stages[*index].spec).is_some() && !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let error = CliError::nothing(format!("no stage is called `{}`", args.stage));
        return Err(error.hint(format!("stages with rewards are {}", quoted(&names))));
    }
    let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
    if let Some(wanted) = &args.variant {
        found.retain(|(name, _)| name == wanted);
    }
    let Some(&(_, first)) = found.first() else {
        let wanted = args.variant.as_deref().unwrap_or_default();
        return Err(CliError::nothing(format!("no variant with the stage `{}` is called `{wanted}`", args.stage))
            .hint(format!("the variants are {}", quoted(&names))));
    };
    let Some(mix) = rated(&plan.stages[first].spec) else {
        let kind = plan.stages[first].spec.work.kind();
        return Err(CliError::new(
            Kind::Usage,
            format!("`{}` is a stage of the kind `{kind}`, without rewards", args.stage),
        )
        .hint("stages of the kinds `grpo` and `eval` rate texts"));
    };
    if found.iter().any(|(_, index)| rated(&plan.stages[*index].spec).as_ref() != Some(&mix)) {
        return Err(CliError::new(Kind::Usage, format!("the rewards of `{}` differ between variants", args.stage))
            .hint(format!("name one with `--variant`: {}", quoted(&names))));
    }
    Ok(first)
}

/// Returns the settings that determine how a stage rates its data; `None` if it rates nothing.
pub(super) fn rated(spec: &StageSpec) -> Option<Value> {
    Some(json!([spec.work.rewards()?, spec.work.prompts(), spec.seed]))
}

/// Sends the request to the worker, and passes every line of its answer to `each` as it arrives.
pub(super) fn answers(request: &ScoreRequest, each: impl FnMut(&str) -> Result<(), CliError>) -> Result<(), CliError> {
    match ask_score(&WorkerBinary::find()?, request, each)?? {
        Answered::Whole => Ok(()),
        Answered::Failed(failure) => {
            let kind = match failure.class {
                FailureClass::Input => Kind::Usage,
                FailureClass::JudgeUnavailable | FailureClass::JudgeBudget => Kind::StageFailed,
                _ => Kind::Internal,
            };
            let error = CliError::new(kind, failure.message);
            Err(failure.hint.into_iter().fold(error, CliError::hint))
        }
        Answered::Crashed(exit) => Err(CliError::new(Kind::Internal, exit.describe())),
    }
}

/// Returns the only line of the worker's answer that is not progress, as text and parsed. Progress is shown as a count
/// of `things`.
pub(super) fn result(
    context: &Context,
    request: &ScoreRequest,
    things: &'static str,
) -> Result<Option<(String, Value)>, CliError> {
    let counter = Counter::new(context.progress_mode(), things);
    let mut found = None;
    answers(request, |line| {
        let answer = parsed(line)?;
        match answer.get("progress") {
            Some(progress) => {
                let count = |key: &str| progress[key].as_u64().and_then(|count| usize::try_from(count).ok());
                counter.at(count("done").unwrap_or_default(), count("total"));
            }
            None => found = Some((line.to_owned(), answer)),
        }
        Ok(())
    })?;
    Ok(found)
}

/// Parses a line of the worker's answer.
pub(super) fn parsed(line: &str) -> Result<Value, CliError> {
    serde_json::from_str(line).map_err(|error| {
        CliError::new(Kind::Internal, format!("cannot parse the worker's answer: {error}"))
            .hint("check with `orchestrate doctor` that `orchestrate` and `orchestrate-worker` have the same version")
    })
}
