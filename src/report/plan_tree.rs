//! The plan as a tree: each stage once, below the stage it starts from.

use super::table::{Column, Table};
use crate::number::gib;
use crate::plan::Plan;
use crate::stage::StageStatus;

/// The cache's status of a stage.
#[derive(Clone, Debug, Default)]
pub struct PlannedStatus {
    /// Whether its result is in the cache.
    pub hit: bool,
    /// Why it will run; empty on a hit.
    pub reasons: Vec<String>,
}

impl PlannedStatus {
    /// Returns the stage's status before a run.
    pub fn status(&self) -> StageStatus {
        if self.hit { StageStatus::Cached } else { StageStatus::Pending }
    }
}

/// Renders the table of `plan`'s stages in at most `width` columns. `statuses` has one entry for each stage.
///
/// # Panics
///
/// If `statuses` has another length than the plan.
pub fn plan_tree(plan: &Plan, statuses: &[PlannedStatus], width: usize, whole_keys: bool) -> String {
    assert_eq!(statuses.len(), plan.stages.len(), "one status a stage");
    let mut table = Table::new(vec![
        Column::left("stage"),
        Column::left("kind").dropped(2),
        Column::left("key").dropped(1),
        Column::left("status"),
        Column::right("memory").dropped(3),
        Column::left("why").wrapped(),
        Column::left("variants").shortened(),
    ]);
    let one_recipe = plan.variants.windows(2).all(|pair| pair[0].recipe == pair[1].recipe);
    for (stage, branch) in lines(plan) {
        let planned = &plan.stages[stage];
        let status = &statuses[stage];
        table.push(vec![
            format!("{branch}{}", planned.name),
            planned.spec.work.kind().to_string(),
            if whole_keys { planned.key.as_str() } else { planned.key.short() }.to_owned(),
            status.status().to_string(),
            planned.memory.estimate.filter(|_| !status.hit).map_or_else(String::new, |needed| gib(needed.total())),
            status.reasons.join("; "),
            variants_of(plan, stage, one_recipe),
        ]);
    }
    table.render(width)
}

/// Returns every stage once, in the order of the tree, with the branch before its name.
fn lines(plan: &Plan) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let all = 0..plan.stages.len();
    for root in all.clone().filter(|&stage| plan.stages[stage].parents.is_empty()) {
        lines.push((root, String::new()));
        draw_children(plan, root, "", &mut lines);
    }
    // An arena depends on stages of all variants alike.
    lines.extend(all.filter(|&stage| is_arena(plan, stage)).map(|arena| (arena, String::new())));
    lines
}

fn is_arena(plan: &Plan, stage: usize) -> bool {
    plan.stages[stage].spec.work.kind().fans_in()
}

/// Adds the stages whose first parent is `stage`.
fn draw_children(plan: &Plan, stage: usize, indent: &str, lines: &mut Vec<(usize, String)>) {
    let is_child = |&child: &usize| plan.stages[child].parents.first() == Some(&stage) && !is_arena(plan, child);
    let children: Vec<usize> = (0..plan.stages.len()).filter(is_child).collect();
    for (position, &child) in children.iter().enumerate() {
        let (corner, rest) = if position + 1 == children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push((child, format!("{indent}{corner}")));
        draw_children(plan, child, &format!("{indent}{rest}"), lines);
    }
}

/// Returns `all`, or the names of the variants that need the stage.
fn variants_of(plan: &Plan, stage: usize, one_recipe: bool) -> String {
    let labels = &plan.stages[stage].variants;
    if labels.len() == plan.variants.len() && labels.len() > 1 {
        return "all".into();
    }
    let names = plan.variants.iter().filter(|variant| labels.contains(&variant.label));
    let names: Vec<&str> =
        names.map(|variant| if one_recipe { variant.name.as_str() } else { variant.label.as_str() }).collect();
    names.join(" ")
}
