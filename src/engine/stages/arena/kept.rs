//! A cache of models' answers. With one more player, another judge or another choice of pairs, only new models answer.
//!
//! `runs/arena-answers/<digest>.json` holds the tokens of a batch of answers. The digest covers everything that they
//! depend on. If a file is lost, the answers are sampled again. `cache gc` removes old files.

use super::answers;
use crate::data::Example;
use crate::error::StageResult;
use crate::generation::Sampled;
use orchestrate_core::digest::{Digest, canonical_json};
use orchestrate_core::event::StopReason;
use orchestrate_core::recipe::spec::ArenaSpec;
use orchestrate_core::workspace::{Assignment, Attempt, Kept};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tch::Device;

/// Version of the sampling code, incremented whenever a model's answers change.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct KeptAnswer {
    ids: Vec<i64>,
    stop_reason: StopReason,
}

/// The cached answers of one model.
pub(super) struct KeptAnswers {
    dir: PathBuf,
    /// Everything that the answers depend on, except the questions.
    model: Value,
}

impl KeptAnswers {
    /// Returns the cache for the model that `player` loads ([`crate::policy::of_player`]).
    pub(super) fn of(attempt: &Attempt, player: &Assignment, spec: &ArenaSpec, device: Device) -> Self {
        let model = json!({
            "version": VERSION,
            "parent": player.parents.first().and_then(|dir| dir.file_name()).map(|key| key.to_string_lossy()),
            "model": player.spec.model,
            "sampling": spec.sampling,
            "batch_size": spec.batch_size,
            "seed": player.spec.seed,
            "device": if device == Device::Cpu { "cpu" } else { "cuda" },
        });
        Self { dir: attempt.arena_answers_dir(), model }
    }

    fn path(&self, questions: &[Example]) -> PathBuf {
        let asked: Vec<Value> = questions.iter().map(|q| json!([answers::named(q).digest, q.row])).collect();
        let all = canonical_json(&json!({ "model": self.model, "questions": asked }));
        self.dir.join(format!("{}.json", Digest::of(all.as_bytes())))
    }

    /// Returns the answers to `questions`, and whether they were cached. If they are not, `ask` samples them. Returns
    /// `None` if `ask` does.
    pub(super) fn or_ask(
        &self,
        questions: &[Example],
        ask: impl FnOnce() -> StageResult<Option<Vec<Sampled>>>,
    ) -> StageResult<Option<(Vec<Sampled>, bool)>> {
        let path = self.path(questions);
        if let Some(kept) = read(&path).filter(|kept| kept.len() == questions.len()) {
            return Ok(Some((kept, true)));
        }
        let Some(sampled) = ask()? else { return Ok(None) };
        let kept = sampled.iter().map(|s| KeptAnswer { ids: s.ids.clone(), stop_reason: s.stop_reason });
        let text = serde_json::to_vec(&kept.collect::<Vec<_>>()).expect("tokens serialize");
        Kept::write(&path, &text)?;
        Ok(Some((sampled, false)))
    }
}

fn read(path: &Path) -> Option<Vec<Sampled>> {
    let Kept::Whole(bytes) = Kept::read(path) else { return None };
    let kept: Vec<KeptAnswer> = serde_json::from_slice(&bytes).ok()?;
    let sampled =
        |KeptAnswer { ids, stop_reason }| Sampled { ids, logprobs: Vec::new(), entropies: Vec::new(), stop_reason };
    Some(kept.into_iter().map(sampled).collect())
}
