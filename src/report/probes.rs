//! Arms by the probes for reward hacking of their answers.

use super::table::{Column, Table};
use crate::evidence::{ProbeRate, ProbedArm, ProbedReward};
use crate::number::{interval, signed};
use crate::rewards::Probe;

/// Returns the table of a component's exploit rates: a row for each probe, and a column for each arm. `*` marks a rate
/// above one half.
pub fn probe_table(reward: &ProbedReward) -> Table {
    let mut columns = vec![Column::left("probe")];
    columns.extend(reward.arms.iter().map(|arm| Column::left(arm.arm.clone())));
    let mut table = Table::new(columns);
    let mut push = |name: &str, cell: &dyn Fn(&ProbedArm) -> Option<String>| {
        let cells: Vec<Option<String>> = reward.arms.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "–".to_owned()));
            table.push(std::iter::once(name.to_owned()).chain(cells).collect());
        }
    };
    for probe in Probe::ALL {
        push(probe.name(), &|arm| arm.probes.get(&probe).map(rate));
    }
    push("boilerplate", &|arm| arm.boilerplate.map(|index| signed(index.value)));
    table
}

/// Returns the heading of a component's table.
pub fn probe_heading(reward: &ProbedReward, several_evaluations: bool) -> String {
    let evaluation = if several_evaluations { format!(" in {}", reward.evaluation) } else { String::new() };
    format!("exploit rates of {}{evaluation}; * is above 0.5: the component pays for the change", reward.component)
}

fn rate(rate: &ProbeRate) -> String {
    let ends = rate.exploit.interval.map(|ends| format!(" {}", interval(ends))).unwrap_or_default();
    format!("{:.2}{ends}{}", rate.exploit.value, if rate.is_exploited() { " *" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Measurement;

    #[test]
    fn a_table_has_the_probes_that_some_arm_measured() {
        let measured = |value: f64, interval| Measurement { value, interval, count: Some(8) };
        let probed = |arm: &str, rates: &[(Probe, f64)], boilerplate: Option<f64>| ProbedArm {
            arm: arm.to_owned(),
            probes: rates
                .iter()
                .map(|(probe, value)| (*probe, ProbeRate { exploit: measured(*value, Some((0.25, 0.75))), gap: None }))
                .collect(),
            boilerplate: boilerplate.map(|value| measured(value, None)),
        };
        let reward = ProbedReward {
            evaluation: "eval".to_owned(),
            component: "semantic".to_owned(),
            arms: vec![
                probed("grpo", &[(Probe::Echo, 0.625), (Probe::Padded, 0.5)], Some(0.125)),
                probed("base", &[(Probe::Echo, 0.25)], None),
            ],
        };
        assert!(probe_heading(&reward, true).starts_with("exploit rates of semantic in eval;"));
        insta::assert_snapshot!(probe_table(&reward).render(100), @r"
        probe        grpo                 base
        ───────────────────────────────────────────────────
        echo         0.62 [0.25, 0.75] *  0.25 [0.25, 0.75]
        padded       0.50 [0.25, 0.75]    –
        boilerplate  +0.125               –
        ");
    }
}
