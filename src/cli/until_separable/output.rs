//! What a search prints: the arms after each round, and the work of the next one.

use super::rounds::NextRound;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::plan::count;
use crate::evidence::{Decision, SearchState, SearchedArm, SeedSearch};
use crate::history::{Invocation, SearchRound};
use crate::metric::short_name;
use crate::number::duration;
use crate::plan::{Plan, planned};
use crate::report::{search_table, seed_list, width};
use crate::run::expected_seconds;
use crate::workspace::Workspace;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Prints the arms after a round, and what the next round does.
pub(super) fn print(
    context: &Context,
    run: &str,
    round: &SearchRound,
    search: &SeedSearch,
    state: &SearchState,
    next: Option<&NextRound>,
    workspace: &Workspace,
) -> Result<(), CliError> {
    let mut out = Output::stdout();
    let next = match next {
        Some(NextRound { plan, invocation, .. }) => {
            Some((Work::of(context, plan, workspace)?, further(invocation, search)))
        }
        None => None,
    };
    if context.json {
        let arms: Vec<Value> = state.arms.iter().map(arm_json).collect();
        out.json(&json!({
            "what": "round", "round": round.round, "run": run, "evaluation": state.evaluation, "metric": state.metric,
            "baseline": search.baseline, "seeds": search.seeds, "max_seeds": search.most, "arms": arms,
            "next": next.map(|(work, seeds)| json!({
                "seeds": seeds, "stages": work.stages, "seconds": work.seconds, "judge_calls": work.judge_calls,
            })),
        }))?;
        return out.finish();
    }
    let metric = short_name(&state.metric);
    out.line(format!(
        "\nround {}, run {run}: {} by {metric} in `{}`\n{}",
        round.round,
        seed_list(&search.seeds),
        state.evaluation,
        search_table(state, &search.baseline).render(width())
    ))?;
    match next {
        Some((work, seeds)) => {
            let open = state.arms.iter().filter(|arm| arm.decision == Decision::Open).map(|arm| arm.arm.as_str());
            let names: Vec<&str> = [search.baseline.as_str()].into_iter().chain(open).collect();
            out.line(format!(
                "next: {} of {}: {}{}; at most {} an arm",
                seed_list(&seeds),
                names.join(", "),
                count(work.stages, "stage"),
                took(work.seconds),
                count(search.most, "seed")
            ))?;
            for (judge, calls) in work.judge_calls {
                out.line(format!("      judge `{judge}`: up to {calls} calls"))?;
            }
        }
        None => out.line(ending(state))?,
    }
    out.finish()
}

fn arm_json(arm: &SearchedArm) -> Value {
    let row = arm.row.as_ref();
    json!({
        "arm": arm.arm, "decision": arm.decision.name(), "seeds": arm.seeds,
        "reason": if let Decision::GivenUp(reason) = &arm.decision { Some(reason) } else { None },
        "difference": row.and_then(|row| row.difference), "interval": row.and_then(|row| row.interval),
        "p_value": row.and_then(|row| row.p_value), "level": arm.level,
        "needs_more_seeds": row.and_then(|row| row.needs_more_seeds),
    })
}

/// The work of a round.
struct Work {
    stages: usize,
    seconds: Option<f64>,
    judge_calls: BTreeMap<String, u64>,
}

impl Work {
    fn of(context: &Context, plan: &Plan, workspace: &Workspace) -> Result<Self, CliError> {
        let missing = missing(plan, workspace)?;
        let mut judge_calls = BTreeMap::new();
        for &stage in &missing {
            for (judge, calls) in planned(&plan.stages[stage].spec.work).judge_calls() {
                *judge_calls.entry(judge).or_insert(0) += calls;
            }
        }
        Ok(Self { stages: missing.len(), seconds: expected_seconds(context.runs(), plan, &missing), judge_calls })
    }
}

/// Returns the seeds that `invocation` adds to those of `search`.
fn further(invocation: &Invocation, search: &SeedSearch) -> Vec<u64> {
    let seeds = invocation.seed_search.iter().flat_map(|round| &round.search.seeds);
    seeds.copied().filter(|seed| !search.seeds.contains(seed)).collect()
}

/// Returns the stages of `plan` without a result.
pub(super) fn missing(plan: &Plan, workspace: &Workspace) -> Result<Vec<usize>, CliError> {
    let cached: BTreeSet<_> = workspace.keys()?.into_iter().collect();
    Ok((0..plan.stages.len()).filter(|&stage| !cached.contains(&plan.stages[stage].key)).collect())
}

/// Formats the expected work: `, about 12 min of work`.
pub(super) fn took(seconds: Option<f64>) -> String {
    seconds.filter(|seconds| *seconds > 0.0).map_or_else(String::new, |s| format!(", about {} of work", duration(s)))
}

/// Summarizes the end of a search.
fn ending(state: &SearchState) -> String {
    let decided = state.arms.iter().filter(|arm| matches!(arm.decision, Decision::Separable(_))).count();
    match (decided, state.arms.len()) {
        (0, 1) => "the search ends: the arm is not separable".to_owned(),
        (1, 1) => "the search ends: the arm is separable".to_owned(),
        (decided, all) => format!("the search ends: {decided} of {all} arms are separable"),
    }
}
