//! A stage that was killed and resumed ends with the bytes of one that was never stopped.

use crate::project::Project;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Waits until the only attempt under `runs/work` has reported `step`, and returns its worker's process id.
fn wait_for_step(project: &Project, child: &mut Child, kind: &str, step: u64) -> i32 {
    let deadline = Instant::now() + Duration::from_secs(120);
    let wanted = format!("\"resume_point\":{{\"step\":{step}}}");
    loop {
        if let Some((events, lease)) = attempt(&project.path("runs/work"), kind)
            && events.contains(&wanted)
        {
            return lease;
        }
        assert!(child.try_wait().unwrap().is_none(), "the run ended before step {step} of {kind}");
        assert!(Instant::now() < deadline, "step {step} of {kind} never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The events and the worker's process id of the attempt at the stage of this kind.
fn attempt(work: &Path, kind: &str) -> Option<(String, i32)> {
    let dirs: Vec<PathBuf> = fs_err::read_dir(work).ok()?.flatten().map(|entry| entry.path()).collect();
    dirs.into_iter().find_map(|dir| {
        let assignment = fs_err::read_to_string(dir.join("assignment.json")).ok()?;
        let assignment: serde_json::Value = serde_json::from_str(&assignment).ok()?;
        assignment["spec"]["work"].get(kind)?;
        let events = fs_err::read_to_string(dir.join("events.jsonl")).ok()?;
        let started = events.lines().rev().find(|line| line.contains("\"started\""))?;
        let started: serde_json::Value = serde_json::from_str(started).ok()?;
        Some((events.clone(), i32::try_from(started["kind"]["started"]["pid"].as_i64()?).ok()?))
    })
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn adapter(project: &Project, stage: &str) -> Vec<u8> {
    fs_err::read(project.checkpoint(stage).join("adapter_model.safetensors")).unwrap()
}

/// Kills the worker, and with it fails the run, at a few steps of `stage`; then resumes.
fn killed_and_resumed(stage: &str, steps: &[u64]) -> Vec<u8> {
    let project = Project::new();
    for (i, &step) in steps.iter().enumerate() {
        let args: &[&str] = if i == 0 { &["run", "recipes/tiny.toml", "--only", stage] } else { &["resume"] };
        let mut child = project.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        kill(wait_for_step(&project, &mut child, stage, step));
        assert!(!child.wait().unwrap().success(), "a run whose worker was killed does not succeed");
        assert!(!project.checkpoint(stage).exists(), "a killed worker left a checkpoint");
    }
    project.succeed(&["resume"]);
    adapter(&project, stage)
}

fn uninterrupted(stage: &str) -> Vec<u8> {
    let project = Project::new();
    project.succeed(&["run", "recipes/tiny.toml", "--only", stage]);
    adapter(&project, stage)
}

#[test]
fn killed_stage_resumes_bitwise() {
    // which steps: any will do, so they differ from run to run of this test
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    let random = |low: u64, high: u64| low + u64::from(nanos) % (high - low + 1);
    for (stage, steps) in [("sft", [random(1, 2), random(3, 5)]), ("grpo", [random(1, 2), random(3, 4)])] {
        let resumed = killed_and_resumed(stage, &steps);
        assert!(resumed == uninterrupted(stage), "{stage} killed after steps {steps:?} ended with other bytes");
    }
}

#[test]
fn an_interrupted_run_leaves_a_resume_point_and_resumes_bitwise() {
    let project = Project::new();
    let mut child = project
        .command(&["run", "recipes/tiny.toml", "--only", "grpo"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_step(&project, &mut child, "grpo", 2);
    let orchestrator = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(orchestrator, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    project.succeed(&["resume"]);
    assert!(adapter(&project, "grpo") == uninterrupted("grpo"), "interrupted and resumed, the bytes differ");
}

#[test]
fn a_killed_orchestrator_leaves_a_run_that_resumes_bitwise() {
    let project = Project::new();
    let mut child = project
        .command(&["run", "recipes/tiny.toml", "--only", "grpo"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_step(&project, &mut child, "grpo", 1);
    kill(i32::try_from(child.id()).unwrap());
    child.wait().unwrap();
    project.succeed(&["resume"]);
    assert!(adapter(&project, "grpo") == uninterrupted("grpo"), "the bytes differ");
    let history = project.succeed(&["history", "--json"]);
    assert!(!history.contains("\"running\""), "a dead run stays `running`:\n{history}");
}
