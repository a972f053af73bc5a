//! Scoring of texts by a rubric.

use super::panel::{Panel, Questions};
use super::prompt::{Prompt, score_schema};
use super::verdict::{JudgeReply, shortened};
use super::{Case, JudgeError, JudgePool, is_blank};
use crate::rewards::{JudgeSampling, RubricScale};
use crate::rewards::{RewardError, RewardValue, Sample};
use serde_json::Value;

/// Judges with a rubric.
pub(super) struct Scorers {
    scale: RubricScale,
    schema: Value,
    prompt: Prompt,
    sampling: JudgeSampling,
    pub(super) panel: Panel,
}

impl Scorers {
    pub(super) fn new(
        scale: &RubricScale,
        sampling: JudgeSampling,
        judges: &[String],
        bench: &mut JudgePool<'_>,
    ) -> Result<Self, JudgeError> {
        let (schema, prompt) = (score_schema(scale), Prompt::new(&scale.prompt)?);
        Ok(Self { scale: scale.clone(), schema, prompt, sampling, panel: Panel::new(judges, bench)? })
    }

    /// Returns every judge's value of each text; the `repeat`th call uses a different seed.
    pub(super) fn measure(
        &mut self,
        samples: &[Sample<'_>],
        texts: &[Option<&str>],
        repeat: u32,
    ) -> Result<Vec<Case>, RewardError> {
        let sampling = again(self.sampling, repeat);
        let mut questions = Questions::new();
        let asked: Vec<Result<_, Case>> = samples
            .iter()
            .zip(texts)
            .map(|(sample, text)| {
                let Some(text) = text.filter(|text| !is_blank(text)) else {
                    return Err(Case::Settled(RewardValue::Value(0.0)));
                };
                let message = self.prompt.of_text(sample, text, &self.scale);
                let message = message.map_err(|reason| Case::Settled(RewardValue::Missing(reason)))?;
                Ok(self.panel.put(&message, sampling, &self.schema, &mut questions))
            })
            .collect();
        let answers = self.panel.answers(questions)?;
        let read = |asked: Result<Vec<_>, Case>| match asked {
            Ok(keys) => Case::Judged(self.panel.read(&keys, &answers, |answer| answer.value(&self.scale))),
            Err(settled) => settled,
        };
        Ok(asked.into_iter().map(read).collect())
    }

    /// Describes each judge's cached answer about `text`; sends no requests.
    pub(super) fn explain(&self, sample: &Sample<'_>, text: &str) -> Option<String> {
        let message = self.prompt.of_text(sample, text, &self.scale).ok()?;
        let keys = self.panel.put(&message, self.sampling, &self.schema, &mut Questions::new());
        let wrote = |(key, client): (_, &std::sync::Arc<super::client::Client>)| {
            let text = self
                .panel
                .kept(key)
                .map(|JudgeReply { refusal, content, .. }| shortened(&refusal.or(content).unwrap_or_default()));
            format!("`{}` wrote {}", client.model(), text.as_deref().unwrap_or("nothing that was kept"))
        };
        Some(keys.iter().zip(self.panel.judges()).map(wrote).collect::<Vec<_>>().join(", "))
    }
}

/// Returns the sampling parameters of the `repeat`th call: a different seed gives new answers, which are cached
/// separately.
pub(super) fn again(sampling: JudgeSampling, repeat: u32) -> JudgeSampling {
    JudgeSampling { seed: sampling.seed.wrapping_add(repeat), ..sampling }
}
