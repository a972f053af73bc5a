//! Probes for reward hacking on the policy's own answers.

use super::super::scoring::{SampledCompletion, or_stopped, unrated};
use crate::data::Example;
use crate::error::StageResult;
use crate::seed;
use orchestrate_core::event::Measurement;
use orchestrate_core::recipe::spec::EvalSpec;
use orchestrate_core::rewards::{
    Boilerplate, ProbeTally, Probed, Probing, RewardMix, RewardScore, Sample, probe_warnings,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What probes measured so far, which a resume point holds.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct ProbesMeasured {
    tally: ProbeTally,
    boilerplate: Boilerplate,
}

/// The probes of an evaluation's answers.
pub(super) struct Probes {
    probing: Probing,
    /// Position of each question, by its row.
    positions: BTreeMap<usize, usize>,
    seed: u64,
}

impl Probes {
    /// Prepares the probes; `None` if the stage has none.
    pub(super) fn of(
        spec: &EvalSpec,
        reward_mix: &mut RewardMix,
        questions: &[Example],
        seed: u64,
    ) -> StageResult<Option<Self>> {
        if !spec.probes {
            return Ok(None);
        }
        let references: Vec<Option<&str>> = questions.iter().map(|question| question.reference.as_deref()).collect();
        let probing = Probing::new(reward_mix, &spec.rewards, &references).map_err(unrated)?;
        let positions = questions.iter().enumerate().map(|(position, question)| (question.row, position)).collect();
        Ok(Some(Self { probing, positions, seed }))
    }

    /// Rates the probes of a batch of answers; `None` if rating was requested to stop.
    pub(super) fn rate(
        &self,
        spec: &EvalSpec,
        reward_mix: &mut RewardMix,
        answers: &[SampledCompletion<'_>],
        scores: &[RewardScore],
    ) -> StageResult<Option<ProbesMeasured>> {
        let samples: Vec<Sample<'_>> = answers.iter().map(SampledCompletion::sample).collect();
        let mut measured = ProbesMeasured::default();
        let of_questions = answers.chunks(spec.samples_per_question).zip(samples.chunks(spec.samples_per_question));
        for ((answers, samples), scores) in of_questions.zip(scores.chunks(spec.samples_per_question)) {
            measured.tally.add_group(&scores.iter().collect::<Vec<_>>());
            let mut probed = Vec::with_capacity(answers.len());
            for ((answer, &sample), score) in answers.iter().zip(samples).zip(scores) {
                let row = answer.example.row;
                let seed = seed::derive(self.seed, &["probe", &row.to_string(), &answer.index.to_string()]);
                probed.push(Probed { row: self.positions[&row], seed, sample, score });
            }
            let rated = self.probing.add(reward_mix, &probed, &mut measured.tally);
            if or_stopped(rated.map_err(unrated))?.is_none() {
                return Ok(None);
            }
            measured.boilerplate.add(reward_mix, &spec.rewards, samples).map_err(unrated)?;
        }
        Ok(Some(measured))
    }
}

impl ProbesMeasured {
    /// Adds what another batch measured.
    pub(super) fn merge(&mut self, other: Self) {
        self.tally.merge(other.tally);
        self.boilerplate.merge(other.boilerplate);
    }

    /// Returns a warning for each component that probes exploit.
    pub(super) fn warnings(&self, spec: &EvalSpec) -> Vec<String> {
        probe_warnings(&spec.rewards, &self.tally.exploits())
    }

    /// Returns `eval/probe/COMPONENT/PROBE` with its interval, `eval/probe_gap/COMPONENT/PROBE`, and
    /// `eval/boilerplate/COMPONENT`.
    pub(super) fn results(&self) -> BTreeMap<String, Measurement> {
        let mut results = BTreeMap::new();
        for (component, probes) in self.tally.exploits() {
            for (probe, found) in probes {
                let (name, count) = (format!("{component}/{}", probe.name()), Some(found.rows as u64));
                let interval = found.low.zip(found.high);
                if let Some(gap) = found.gap {
                    let gap = Measurement { value: gap, interval: None, count };
                    results.insert(format!("eval/probe_gap/{name}"), gap);
                }
                results.insert(format!("eval/probe/{name}"), Measurement { value: found.exploit, interval, count });
            }
        }
        for (component, (value, prompts)) in self.boilerplate.indices() {
            let index = Measurement { value, interval: None, count: Some(prompts) };
            results.insert(format!("eval/boilerplate/{component}"), index);
        }
        results
    }
}
