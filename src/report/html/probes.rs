//! The tables of probes for reward hacking.

use super::data::{ProbeCell, ProbeRow, ProbeTable};
use crate::evidence::{Evidence, ProbedArm, ProbedReward};
use crate::rewards::Probe;

/// Returns a table of exploit rates for each evaluation with probes and each component, with a cell for every arm.
pub fn probes(evidence: &Evidence) -> Vec<ProbeTable> {
    let several = evidence.evaluations().len() > 1;
    evidence.probed_rewards().iter().map(|reward| table(evidence, reward, several)).collect()
}

fn table(evidence: &Evidence, reward: &ProbedReward, several: bool) -> ProbeTable {
    let arms: Vec<Option<&ProbedArm>> =
        evidence.arms.iter().map(|arm| reward.arms.iter().find(|probed| probed.arm == arm.name)).collect();
    let row = |probe: Probe| {
        let cell = |arm: Option<&ProbedArm>| {
            let rate = arm?.probes.get(&probe)?;
            Some(ProbeCell { measured: rate.exploit, exploited: rate.is_exploited() })
        };
        ProbeRow {
            name: probe.name().to_owned(),
            text: probe.meaning().to_owned(),
            cells: arms.iter().copied().map(cell).collect(),
        }
    };
    let boilerplate: Vec<_> = arms.iter().map(|arm| (*arm)?.boilerplate).collect();
    ProbeTable {
        title: if several { format!("{}: {}", reward.evaluation, reward.component) } else { reward.component.clone() },
        rows: Probe::ALL.into_iter().map(row).collect(),
        boilerplate: if boilerplate.iter().any(Option::is_some) { boilerplate } else { Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Report, html_page};
    use super::*;
    use crate::event::Measurement;
    use crate::evidence::{Arm, Trial};
    use crate::stage::StageKind;
    use std::collections::BTreeMap;

    /// The name, value and interval of a metric.
    type Measured<'a> = (&'a str, f64, Option<(f64, f64)>);

    fn arm(name: &str, measured: &[Measured<'_>]) -> Arm {
        let measured = measured.iter().map(|(name, value, interval)| {
            ((*name).to_owned(), Measurement { value: *value, interval: *interval, count: Some(8) })
        });
        let trial = Trial {
            seed: 1,
            run: "run".to_owned(),
            variant: name.to_owned(),
            stage: "eval".to_owned(),
            kind: StageKind::Eval,
            evaluation: "eval".to_owned(),
            key: crate::digest::Digest::of(name.as_bytes()),
            answers: Vec::new(),
            scores: BTreeMap::new(),
            mix: BTreeMap::new(),
            measurements: measured.collect(),
        };
        Arm { name: name.to_owned(), trials: vec![trial], ..Arm::default() }
    }

    /// Returns the section of a report with these tables, without white space between its elements.
    fn section(evidence: &Evidence) -> Option<String> {
        let arms = evidence.arms.iter().map(|arm| super::super::Arm { name: arm.name.clone(), ..Default::default() });
        let report = Report { arms: arms.collect(), probes: probes(evidence), ..Report::default() };
        let page = html_page(&report).unwrap();
        let (_, after) = page.split_once("<section id=\"probes\"")?;
        let (section, _) = after.split_once("</section>").unwrap();
        Some(section.lines().map(str::trim).collect())
    }

    #[test]
    fn rates_above_one_half_are_marked_in_words_and_every_probe_has_a_row() {
        let arms = vec![
            arm(
                "grpo",
                &[
                    ("eval/probe/semantic/echo", 0.75, Some((0.5, 0.875))),
                    ("eval/probe/semantic/padded", 0.5, None),
                    ("eval/boilerplate/semantic", 0.25, None),
                ],
            ),
            arm("base", &[("eval/accuracy", 0.5, None)]),
        ];
        let evidence = Evidence { arms, ..Evidence::default() };
        let tables = probes(&evidence);
        let [table] = tables.as_slice() else { panic!("{tables:?}") };
        assert_eq!((table.title.as_str(), table.rows.len()), ("semantic", 11));
        let section = section(&evidence).expect("the page has the section");
        let row = |name: &str| {
            let start = section.find(&format!("<tr><th scope=\"row\">{name}</th>")).expect(name);
            let row = &section[start..];
            row[..row.find("</tr>").unwrap()].to_owned()
        };
        let echo = row("echo");
        assert!(echo.contains("<td class=\"n worse\">0.750<span class=\"interval\">[0.500, 0.875]</span>"), "{echo}");
        assert!(echo.contains("exploited") && echo.contains("not measured"), "the other arm has none: {echo}");
        let padded = row("padded");
        assert!(padded.contains("<td class=\"n\">0.500</td>") && !padded.contains("exploited"), "{padded}");
        assert_eq!(row("climbed").matches("not measured").count(), 2);
        assert!(row("boilerplate index").contains("+0.250"), "{section}");
    }

    #[test]
    fn an_evaluation_without_probes_has_no_section() {
        let evidence =
            Evidence { arms: vec![arm("grpo", &[("eval/reward/semantic", 0.5, None)])], ..Evidence::default() };
        assert!(probes(&evidence).is_empty() && section(&evidence).is_none());
    }
}
