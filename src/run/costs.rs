//! Expected durations of stages, estimated from past ones.
//!
//! `runs/timings.jsonl` has a line for each stage that ran from its beginning to its end. It holds the stage's kind,
//! its size and its seconds. The size is [`PlannedWork::work_size`](crate::plan::PlannedWork::work_size) times the
//! weights.
//!
//! The expected pace of a stage is the median pace of the newest stages of its kind. A kind that never ran here has the
//! median pace of all kinds. The file is only a hint: without it, stages start in a less suitable order.

use crate::plan::{Plan, PlannedStage, planned};
use crate::stage::StageKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

const FILE: &str = "timings.jsonl";
/// The number of bytes that are read from the file's end: some hundred stages.
const TAIL_BYTES: u64 = 32 << 10;
/// Seconds for a size of 1 without any measurement: a few hundred tokens per second with weights of half a GB.
const GUESS: f64 = 1e-11;

/// The duration of a stage that ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Timing {
    kind: StageKind,
    size: f64,
    seconds: f64,
}

/// Returns the seconds that the `stages` of `plan` are expected to take one after another; `None` where a kind of stage
/// has not been measured here.
pub fn expected_seconds(runs: &Path, plan: &Plan, stages: &[usize]) -> Option<f64> {
    let costs = Costs::read(runs);
    let mut lengths = BTreeMap::new();
    stages
        .iter()
        .map(|&stage| &plan.stages[stage])
        .map(|stage| costs.knows(stage).then(|| costs.seconds(stage, &mut lengths)))
        .sum()
}

/// The measured pace of stages.
#[derive(Clone, Debug)]
pub(super) struct Costs {
    path: PathBuf,
    /// Seconds for a size of 1, by kind.
    paces: BTreeMap<StageKind, f64>,
    /// The median over all kinds, in seconds for a size of 1.
    pace: f64,
}

impl Costs {
    /// Reads the timings of earlier runs in `runs`. Lines that cannot be read are ignored.
    pub(super) fn read(runs: &Path) -> Self {
        let path = runs.join(FILE);
        let timings = tail(&path).unwrap_or_default();
        let mut by_kind: BTreeMap<StageKind, Vec<f64>> = BTreeMap::new();
        for timing in timings.lines().filter_map(|line| serde_json::from_str::<Timing>(line).ok()) {
            if timing.size > 0.0 && timing.seconds > 0.0 {
                by_kind.entry(timing.kind).or_default().push(timing.seconds / timing.size);
            }
        }
        let pace = median(by_kind.values().flatten().copied().collect()).unwrap_or(GUESS);
        let paces = by_kind.into_iter().filter_map(|(kind, paces)| Some((kind, median(paces)?))).collect();
        Self { path, paces, pace }
    }

    /// Whether stages of the same kind as `stage` have been measured here.
    pub(super) fn knows(&self, stage: &PlannedStage) -> bool {
        self.paces.contains_key(&stage.spec.work.kind())
    }

    /// Returns the expected milliseconds of each stage of `plan`.
    pub(super) fn expected_ms(&self, plan: &Plan) -> Vec<u64> {
        let mut lengths = BTreeMap::new();
        plan.stages.iter().map(|stage| milliseconds(self.seconds(stage, &mut lengths))).collect()
    }

    fn seconds<'a>(&self, stage: &'a PlannedStage, lengths: &mut BTreeMap<&'a Path, u64>) -> f64 {
        let pace = self.paces.get(&stage.spec.work.kind()).unwrap_or(&self.pace);
        pace * size(stage, lengths)
    }

    /// Records the duration of `stage`.
    ///
    /// # Errors
    /// The file cannot be written. That only affects the order of stages in the next run.
    pub(super) fn remember(&self, stage: &PlannedStage, seconds: f64) -> io::Result<()> {
        let kind = stage.spec.work.kind();
        let timing = Timing { kind, size: size(stage, &mut BTreeMap::new()), seconds };
        let mut line = serde_json::to_vec(&timing).map_err(io::Error::from)?;
        line.push(b'\n');
        fs_err::OpenOptions::new().create(true).append(true).open(&self.path)?.write_all(&line)
    }
}

/// Returns the amount of computation of `stage`. `lengths` caches the lengths of files.
fn size<'a>(stage: &'a PlannedStage, lengths: &mut BTreeMap<&'a Path, u64>) -> f64 {
    let data_bytes = stage.inputs.values().map(|path| {
        // A directory is a model.
        *lengths
            .entry(path)
            .or_insert_with(|| path.metadata().ok().filter(std::fs::Metadata::is_file).map_or(0, |m| m.len()))
    });
    let weights = stage.memory.estimate.map_or(1, |memory| memory.weights.max(1));
    planned(&stage.spec.work).work_size(data_bytes.sum()) * weights as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 1 and a century")]
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).clamp(1.0, 3e12) as u64
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = fs_err::File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(lines: &str) -> Costs {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs_err::write(dir.path().join(FILE), lines).expect("written");
        Costs::read(dir.path())
    }

    #[test]
    fn the_pace_of_a_kind_is_the_median_of_what_was_measured() {
        let costs = costs(
            "{\"kind\":\"cpt\",\"size\":10.0,\"seconds\":1.0}\n{\"kind\":\"cpt\",\"size\":10.0,\"seconds\":2.0}\n\
             {\"kind\":\"cpt\",\"size\":10.0,\"seconds\":90.0}\n{\"kind\":\"grpo\",\"size\":1.0,\"seconds\":5.0}\nhalf a li",
        );
        assert_eq!(costs.paces, BTreeMap::from([(StageKind::Cpt, 0.2), (StageKind::Grpo, 5.0)]));
        assert!((costs.pace - 5.0).abs() < 1e-12);
    }

    #[test]
    fn without_measurements_there_is_a_guess() {
        assert!((costs("").pace - GUESS).abs() < f64::EPSILON);
        assert!((Costs::read(Path::new("/nowhere")).pace - GUESS).abs() < f64::EPSILON);
    }
}
