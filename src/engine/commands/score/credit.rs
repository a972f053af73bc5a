//! The credit of the segments of texts: which sentence earned the value of a component.

use super::mix::Mix;
use super::texts::Text;
use crate::error::StageResult;
use crate::stages::unrated;
use orchestrate_core::exec::ScoreRequest;
use orchestrate_core::recipe::spec::{CreditSpec, RewardSpec, Work};
use orchestrate_core::rewards::credit::{CoalitionRule, Cut, OwenSpec, Segmentation, Sign, unfit};
use orchestrate_core::rewards::{Sample, place};
use serde::Serialize;
use std::collections::BTreeMap;

/// A segment of a text with its credit.
#[derive(Debug, Serialize)]
pub(super) struct Credited {
    text: String,
    credit: f64,
}

/// Returns the credits of the segments of each text, by component. Components that cannot value parts of a text, and
/// texts of one segment, have none.
pub(super) fn credits(
    request: &ScoreRequest,
    rewards: &BTreeMap<String, RewardSpec>,
    mix: &mut Mix,
    texts: &[Text],
) -> StageResult<Vec<BTreeMap<String, Vec<Credited>>>> {
    let mut found: Vec<BTreeMap<String, Vec<Credited>>> = texts.iter().map(|_| BTreeMap::new()).collect();
    for (name, reward) in rewards.iter().filter(|(_, reward)| unfit(reward.component.measure()).is_none()) {
        let settings = settings(request, name);
        for (text, found) in texts.iter().zip(&mut found) {
            let sample = text.sample();
            let Some(part) = place(sample.completion, &reward.scope).map(|place| &sample.completion[place]) else {
                continue;
            };
            let Some(cut) = Cut::of(part, &settings, request.assignment.spec.seed) else { continue };
            let samples: Vec<Sample<'_>> = vec![sample; cut.coalitions.len()];
            let coalitions: Vec<&str> = cut.coalitions.iter().map(String::as_str).collect();
            let values = mix.reward_mix.values_of_texts(name, &samples, &coalitions).map_err(unrated)?;
            let Some(values) = values.into_iter().collect::<Option<Vec<f64>>>() else { continue };
            let segments = cut.segments.iter().map(|segment| part[segment.clone()].trim().to_owned());
            let credited = segments.zip(cut.credits(&values)).map(|(text, credit)| Credited { text, credit });
            found.insert(name.clone(), credited.collect());
        }
    }
    Ok(found)
}

/// Returns the settings of the stage's own credit, or else sentences with Shapley values, which add up to the value.
fn settings(request: &ScoreRequest, of: &str) -> OwenSpec {
    if let Work::Grpo(grpo) = &request.assignment.spec.work
        && let Some(CreditSpec::Owen(owen)) = &grpo.credit
        && owen.of == of
    {
        return owen.clone();
    }
    OwenSpec {
        of: of.to_owned(),
        segments: Segmentation::Sentences,
        coalitions: CoalitionRule::All,
        max_coalitions: 64,
        floor: 0.0,
        sign: Sign::Signed,
    }
}
