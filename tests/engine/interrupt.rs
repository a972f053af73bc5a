//! Requests to stop take effect within a step. The step is discarded, and its repetition gives the same bits.

use crate::project::Project;
use crate::resume::{result, run, uninterrupted_in, wait_for_event};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Interrupts the run of `stage` a second into `step`. Returns the time until it ended, its stderr, and its result
/// after a resume.
fn interrupted(stage: &str, settings: &[&str], step: u64) -> (Duration, String, Vec<u8>) {
    let project = Project::new();
    let stderr = fs_err::File::create(project.path("stderr.txt")).unwrap().into_file();
    let mut child = project.command(&run(stage, settings)).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
    wait_for_event(&project, &mut child, stage, &format!("\"step_part\":{{\"step\":{step},"));
    let asked = Instant::now();
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let status = child.wait().unwrap();
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(130), "an interrupted run says so");
    assert!(result(&project, stage).is_none(), "an interrupted stage left a checkpoint");
    let said = fs_err::read_to_string(project.path("stderr.txt")).unwrap();
    project.succeed(&["resume"]);
    (took, said, result(&project, stage).expect("the resumed run committed"))
}

#[track_caller]
fn check(stage: &str, settings: &[&str], step: u64) {
    let (took, said, resumed) = interrupted(stage, settings, step);
    assert!(took < Duration::from_secs(5), "{stage} ended {took:?} after it was asked to");
    assert!(said.contains(&format!("waiting for the resume point of `{stage}`, at most 1m00s")), "{said}");
    let expected = if step == 1 { "no step done".to_owned() } else { format!("resume point after step {}", step - 1) };
    assert!(said.contains(&expected), "no `{expected}` in: {said}");
    let whole = uninterrupted_in(&Project::new(), stage, settings);
    assert!(resumed == whole, "{stage} interrupted within step {step} ended with other bytes");
}

#[test]
fn sft_drops_the_step_that_it_is_in() {
    // a step of many small batches takes some seconds
    let settings = ["stages.sft.steps=2", "stages.sft.global_batch_size=600", "stages.sft.micro_batch_size=1"];
    check("sft", &settings, 2);
}

#[test]
fn sft_in_its_first_step_begins_anew() {
    let settings = ["stages.sft.steps=1", "stages.sft.global_batch_size=600", "stages.sft.micro_batch_size=1"];
    check("sft", &settings, 1);
}

const LONG_ROLLOUTS: [&str; 4] = [
    "stages.grpo.steps=2",
    "stages.grpo.prompts_per_step=18",
    "stages.grpo.max_new_tokens=250",
    "stages.grpo.min_new_tokens=250",
];

#[test]
fn grpo_drops_a_rollout_that_it_is_in() {
    check("grpo", &LONG_ROLLOUTS, 2);
}

/// With several updates for each rollout, the newest resume point may be some steps back.
#[test]
fn grpo_within_the_updates_of_a_rollout_resumes_bitwise() {
    // enough completions that an update alone takes longer than the second between two events of its progress
    let settings = [
        &LONG_ROLLOUTS[2..],
        &["stages.grpo.steps=4", "stages.grpo.updates_per_rollout=2", "stages.grpo.prompts_per_step=48"],
        &["stages.grpo.micro_batch_size=1"],
    ]
    .concat();
    let (took, _, resumed) = interrupted("grpo", &settings, 2);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(resumed == uninterrupted_in(&Project::new(), "grpo", &settings));
}
