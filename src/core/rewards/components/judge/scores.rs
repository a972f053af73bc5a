//! How good a text is, by a rubric.

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

    /// Every judge's value of each text; the `repeat`th asking draws with a seed of its own.
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

    /// What each judge wrote about `text`; no judge is asked.
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

/// How answers are drawn the `repeat`th time: with a seed of its own, so that they are others, and kept beside the first.
pub(super) fn again(sampling: JudgeSampling, repeat: u32) -> JudgeSampling {
    JudgeSampling { seed: sampling.seed.wrapping_add(repeat), ..sampling }
}
