//! The assignment of a worker.

use crate::history::checkpoints::checkpoint_dir;
use crate::plan::{Plan, PlannedStage};
use crate::recipe::{Device, GradientCheckpointing};
use crate::workspace::{Assignment, DeviceChoice, Runtime, Workspace};

/// Returns the assignment for a stage of `plan`.
pub fn assignment(planned: &PlannedStage, plan: &Plan, workspace: &Workspace) -> Assignment {
    Assignment {
        key: planned.key.clone(),
        stage: planned.name.clone(),
        spec: planned.spec.clone(),
        inputs: planned.inputs.clone(),
        parents: planned.parents.iter().map(|&parent| checkpoint_dir(workspace, &plan.stages[parent].key)).collect(),
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
