//! The assignment of a worker.

use crate::digest::Digest;
use crate::history::checkpoints::checkpoint_dir;
use crate::plan::{Plan, PlannedStage};
use crate::recipe::spec::{BestSpec, DataFile, DataSpec, Work};
use crate::recipe::{Device, GradientCheckpointing};
use crate::workspace::{Assignment, DeviceChoice, Runtime, SnapshotAssignment, Workspace};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Returns the assignment for a stage of `plan`.
pub fn assignment(planned: &PlannedStage, plan: &Plan, workspace: &Workspace) -> Assignment {
    let of_stage = |stage: usize| checkpoint_dir(workspace, &plan.stages[stage].key);
    Assignment {
        key: planned.key.clone(),
        stage: planned.name.clone(),
        spec: planned.spec.clone(),
        inputs: planned.inputs.clone(),
        parents: planned.checkpoints().iter().map(|&parent| of_stage(parent)).collect(),
        results: results(planned, of_stage),
        snapshots: snapshots(planned, plan),
        program: planned.program.clone(),
        runtime: Runtime {
            device: match planned.runtime.device {
                Device::Auto => DeviceChoice::Auto,
                Device::Cpu => DeviceChoice::Cpu,
                Device::Cuda(index) => DeviceChoice::Cuda(index),
            },
            threads: planned.runtime.threads,
            resume_interval_s: planned.runtime.resume_interval_s,
            keep_resume_points: planned.runtime.keep_resume_points,
            gradient_checkpointing: planned.runtime.gradient_checkpointing == GradientCheckpointing::On,
            bfloat16_products: planned.runtime.bfloat16_products,
            deterministic: planned.runtime.deterministic,
            cuda_graphs: planned.runtime.cuda_graphs,
            judges: planned.runtime.judges.clone(),
            endpoints: planned.runtime.endpoints.clone(),
        },
    }
}

/// Returns the snapshots that the worker of a training stage writes: those that wait for the stage, and those that wait
/// for one of them. They are in order, each after the stage that it follows.
fn snapshots(planned: &PlannedStage, plan: &Plan) -> BTreeMap<u64, SnapshotAssignment> {
    let mut found = BTreeMap::new();
    let mut writers: Vec<usize> = plan.stages.iter().position(|stage| stage.key == planned.key).into_iter().collect();
    for (index, stage) in plan.stages.iter().enumerate() {
        let (Some(step), Some(follows)) = (stage.spec.until, stage.follows) else { continue };
        if writers.contains(&follows) {
            writers.push(index);
            let (key, stage, key_json) = (stage.key.clone(), stage.name.clone(), stage.key_json());
            found.insert(step, SnapshotAssignment { key, stage, key_json });
        }
    }
    found
}

/// Returns the paths of the files that the stage reads in the results of other stages.
fn results(planned: &PlannedStage, of_stage: impl Fn(usize) -> PathBuf) -> BTreeMap<Digest, PathBuf> {
    let sources = planned.data_stages();
    let files = planned.spec.work.data_sets().into_iter().flat_map(DataSpec::all_files);
    let result = |file: &DataFile| match file {
        DataFile::Result { source, file: path, .. } => Some((file.id(), of_stage(*sources.get(*source)?).join(path))),
        DataFile::File { .. } => None,
    };
    let mut found: BTreeMap<Digest, PathBuf> = files.filter_map(result).collect();
    if let Work::Eval(eval) = &planned.spec.work
        && let Some(best) = &eval.best
    {
        // the evaluations by which a snapshot is chosen are the last sources
        let measured = &sources[sources.len() - best.steps.len()..];
        let of_snapshot =
            |(place, stage): (usize, &usize)| (BestSpec::measured(place), of_stage(*stage).join(BestSpec::MEASURED));
        found.extend(measured.iter().enumerate().map(of_snapshot));
    }
    found
}
