//! Requests to stop take effect within a step. The step is discarded, and its repetition gives the same bits.

use crate::harness::{signal_child, wait_for_file, wait_until};
use crate::project::Project;
use crate::resume::{result, run};
use orchestrate_core::workspace::{FAULT_VARIABLE, WITHIN_STEP};
use rustix::process::Signal;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The least time between two events about parts of a step.
const BETWEEN_PARTS: Duration = Duration::from_secs(1);

/// Interrupts the run of `stage` within `step`, at which its worker is held until the request has arrived. Returns the
/// time until the run ended, its stderr, and its result after a resume.
fn interrupted(stage: &str, settings: &[&str], step: u64) -> (Duration, String, Vec<u8>) {
    let project = Project::new();
    let (held, said) = (project.path("held"), project.path("stderr.txt"));
    let parent = if stage == "sft" { "cpt" } else { "sft" };
    project.succeed(&run(parent, settings));
    let mut child = project
        .command(&alone(stage, settings))
        .env(FAULT_VARIABLE, format!("hold:{WITHIN_STEP}{step}:{}", held.display()))
        .stdout(Stdio::null())
        .stderr(fs_err::File::create(&said).unwrap().into_file())
        .spawn()
        .unwrap();
    wait_for_file(&held);
    std::thread::sleep(BETWEEN_PARTS); // the next event about a part is due
    let asked = Instant::now();
    signal_child(&child, Signal::INT);
    wait_until("the worker is asked to stop", || fs_err::read_to_string(&said).unwrap().contains("stopping: "));
    fs_err::remove_file(&held).unwrap();
    let status = child.wait().unwrap();
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(130), "an interrupted run says so");
    assert!(result(&project, stage).is_none(), "an interrupted stage left a checkpoint");
    let events = events(&project);
    assert!(events.contains(&format!("\"step_part\":{{\"step\":{step},")), "no progress within the step: {events}");
    assert!(!events.contains(&format!("\"step\":{{\"step\":{step},")), "the step was not dropped: {events}");
    let said = fs_err::read_to_string(said).unwrap();
    project.succeed(&["resume"]);
    (took, said, result(&project, stage).expect("the resumed run committed"))
}

/// Returns the arguments that run `stage` in one worker.
fn alone<'a>(stage: &'a str, settings: &[&'a str]) -> Vec<&'a str> {
    [&run(stage, settings)[..], &["--variant", "semantic"]].concat()
}

/// Returns the result of `stage` in a project of its own.
fn uninterrupted(stage: &str, settings: &[&str]) -> Vec<u8> {
    let project = Project::new();
    project.succeed(&alone(stage, settings));
    result(&project, stage).expect("the run committed")
}

/// Returns the events of the attempts under `runs/work`.
fn events(project: &Project) -> String {
    let attempts = fs_err::read_dir(project.path("runs/work")).unwrap().map(|entry| entry.unwrap().path());
    attempts.map(|attempt| fs_err::read_to_string(attempt.join("events.jsonl")).unwrap_or_default()).collect()
}

#[track_caller]
fn check(stage: &str, settings: &[&str], step: u64) {
    let (took, said, resumed) = interrupted(stage, settings, step);
    assert!(took < Duration::from_secs(5), "{stage} ended {took:?} after it was asked to");
    assert!(said.contains(&format!("waiting for the resume point of `{stage}`, at most 1m00s")), "{said}");
    let expected = if step == 1 { "no step done".to_owned() } else { format!("resume point after step {}", step - 1) };
    assert!(said.contains(&expected), "no `{expected}` in: {said}");
    let whole = uninterrupted(stage, settings);
    assert!(resumed == whole, "{stage} interrupted within step {step} ended with other bytes");
}

#[test]
fn sft_drops_the_step_that_it_is_in() {
    let settings = ["stages.sft.steps=2", "stages.sft.global_batch_size=40", "stages.sft.micro_batch_size=1"];
    check("sft", &settings, 2);
}

#[test]
fn sft_in_its_first_step_begins_anew() {
    let settings = ["stages.sft.steps=1", "stages.sft.global_batch_size=40", "stages.sft.micro_batch_size=1"];
    check("sft", &settings, 1);
}

const ROLLOUTS: [&str; 4] = [
    "stages.grpo.steps=2",
    "stages.grpo.prompts_per_step=4",
    "stages.grpo.max_new_tokens=60",
    "stages.grpo.min_new_tokens=60",
];

#[test]
fn grpo_drops_a_rollout_that_it_is_in() {
    check("grpo", &ROLLOUTS, 2);
}

/// With several updates for each rollout, the newest resume point may be some steps back.
#[test]
fn grpo_within_the_updates_of_a_rollout_resumes_bitwise() {
    let settings = [
        &ROLLOUTS[1..],
        &["stages.grpo.steps=4", "stages.grpo.updates_per_rollout=2", "stages.grpo.micro_batch_size=1"],
    ]
    .concat();
    let (took, _, resumed) = interrupted("grpo", &settings, 2);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(resumed == uninterrupted("grpo", &settings));
}
