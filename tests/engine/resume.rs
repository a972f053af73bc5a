//! Stages that are killed and resumed. Their results have the same bytes as those of uninterrupted stages.

use crate::harness::{seed, signal};
use crate::project::{Project, RECIPE, json_lines};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Waits until the only attempt under `runs/work` has a resume point after `step`. Returns its worker's process id.
pub(crate) fn wait_for_step(project: &Project, child: &mut Child, kind: &str, step: u64) -> i32 {
    wait_for_event(project, child, kind, &format!("\"resume_point\":{{\"step\":{step}}}"))
}

/// Waits until the events of the only attempt under `runs/work` contain `wanted`. Returns its worker's process id.
pub(crate) fn wait_for_event(project: &Project, child: &mut Child, kind: &str, wanted: &str) -> i32 {
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        if let Some((events, lease)) = attempt(&project.path("runs/work"), kind)
            && events.contains(wanted)
        {
            return lease;
        }
        assert!(child.try_wait().unwrap().is_none(), "the run ended before {wanted} of {kind}");
        assert!(Instant::now() < deadline, "{wanted} of {kind} never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Returns the events and the worker's process id of the attempt at the stage of this kind.
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

pub(crate) fn kill(pid: i32) {
    signal(pid, rustix::process::Signal::KILL);
}

/// Returns the committed stage of this kind, in the recipe's own variant.
pub(crate) fn committed(project: &Project, kind: &str) -> Option<PathBuf> {
    let dirs = fs_err::read_dir(project.path("runs/cache")).ok()?.flatten().map(|entry| entry.path());
    let of_kind = |dir: &PathBuf| {
        let key = fs_err::read_to_string(dir.join("key.json")).unwrap();
        let key: serde_json::Value = serde_json::from_str(&key).unwrap();
        key["kind"] == kind && (kind == "generate" || key["spec"]["work"][kind]["rewards"]["rouge"].is_null())
    };
    dirs.into_iter().find(of_kind)
}

/// Returns the stage's results: all files of an arena; the answers of a stage that generates them; metrics and
/// completions of an evaluation; else an adapter or whole weights, followed by any completions.
pub(crate) fn result(project: &Project, kind: &str) -> Option<Vec<u8>> {
    let dir = committed(project, kind)?;
    if kind == "arena" {
        let files = ["arena.json", "metrics.json", "comparisons.jsonl", "completions.parquet"];
        return Some(files.iter().flat_map(|file| fs_err::read(dir.join(file)).unwrap()).collect());
    }
    if kind == "generate" {
        return Some(
            ["generations.jsonl", "completions.parquet"].map(|file| fs_err::read(dir.join(file)).unwrap()).concat(),
        );
    }
    if kind == "eval" {
        return Some(
            ["metrics.json", "completions.parquet"].map(|file| fs_err::read(dir.join(file)).unwrap()).concat(),
        );
    }
    let file = ["adapter_model.safetensors", "model.safetensors"].map(|name| dir.join(name));
    let mut bytes = fs_err::read(file.iter().find(|file| file.exists()).unwrap()).unwrap();
    if kind == "grpo" {
        bytes.extend(fs_err::read(dir.join("completions.parquet")).unwrap());
        bytes.extend(fs_err::read(dir.join("pass_rates.jsonl")).unwrap_or_default());
    }
    Some(bytes)
}

/// Returns the arguments that run `stage` with these settings.
pub(crate) fn run<'a>(stage: &'a str, settings: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["run", "recipes/tiny.toml", "--only", stage];
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    args
}

/// Kills the worker at each of these steps of `stage`, which makes the run fail; then resumes.
pub(crate) fn killed_and_resumed(project: &Project, stage: &str, settings: &[&str], steps: &[u64]) -> Vec<u8> {
    for (i, &step) in steps.iter().enumerate() {
        let args = if i == 0 { run(stage, settings) } else { vec!["resume"] };
        let mut child = project.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        kill(wait_for_step(project, &mut child, stage, step));
        assert!(!child.wait().unwrap().success(), "a run whose worker was killed does not succeed");
        assert!(result(project, stage).is_none(), "a killed worker left a checkpoint");
    }
    project.succeed(&["resume"]);
    result(project, stage).expect("the resumed run committed")
}

fn uninterrupted(stage: &str, settings: &[&str]) -> Vec<u8> {
    uninterrupted_in(&Project::new(), stage, settings)
}

pub(crate) fn uninterrupted_in(project: &Project, stage: &str, settings: &[&str]) -> Vec<u8> {
    project.succeed(&run(stage, settings));
    result(project, stage).expect("the run committed")
}

/// Returns a project whose recipe trains all weights.
fn without_adapters() -> Project {
    let project = Project::new();
    project.edit_recipe("lora = { rank = 4, alpha = 8, dropout = 0.1 }\n", "");
    project
}

/// Kills `stage` at two random steps well before its last, which the test's seed selects. Returns the project that was
/// not interrupted.
fn check_killed_stage_resumes_bitwise(new: fn() -> Project, stage: &str, settings: &[&str]) -> Project {
    let length = format!("stages.{stage}.steps=10");
    let settings = [settings, &[&length]].concat();
    let seed = seed();
    let random = |low: u64, high: u64| low + seed % (high - low + 1);
    let steps = [random(1, 2), random(3, 5)];
    let resumed = killed_and_resumed(&new(), stage, &settings, &steps);
    let project = new();
    let whole = uninterrupted_in(&project, stage, &settings);
    assert!(resumed == whole, "{stage} with {settings:?} killed after steps {steps:?} ended with other bytes");
    project
}

// the tiny recipe has dropout, accumulation over two micro-batches and, in CPT, packing

#[test]
fn killed_stage_resumes_bitwise() {
    check_killed_stage_resumes_bitwise(Project::new, "sft", &[]);
    check_killed_stage_resumes_bitwise(Project::new, "grpo", &[]);
}

/// Returns a project whose GRPO has one binary reward, so that some groups have no spread.
fn with_equal_rewards() -> Project {
    let project = Project::new();
    let (head, rest) = RECIPE.split_once("[stages.grpo.rewards.semantic]").unwrap();
    let eval = rest.find("[stages.eval]").unwrap();
    let (rest, _) = rest[eval..].split_once("[sweep]").unwrap();
    let reward = "[stages.grpo.rewards.cot]\nscope = \"completion\"\nmin_words = 2\n";
    project.write("recipes/tiny.toml", &format!("{head}{reward}{rest}"));
    project
}

/// Returns the values of a metric in the steps of the committed GRPO stage.
fn metric(project: &Project, name: &str) -> Vec<f64> {
    let events = fs_err::read_to_string(committed(project, "grpo").unwrap().join("events.jsonl")).unwrap();
    let steps = json_lines(&events).into_iter().filter_map(|event| event["kind"]["step"]["metrics"][name].as_f64());
    steps.collect()
}

#[test]
fn killed_grpo_that_replaces_groups_without_spread_resumes_bitwise() {
    let settings = ["stages.grpo.zero_std=\"resample\"", "stages.grpo.max_resampled_prompts=3"];
    let project = check_killed_stage_resumes_bitwise(with_equal_rewards, "grpo", &settings);
    let [resampled, flat, dropped] = ["resampled", "zero_std", "dropped"].map(|what| {
        let counts = metric(&project, &format!("grpo/{what}_groups"));
        assert_eq!(counts.len(), 10, "{what} is counted in every step");
        counts
    });
    assert!(resampled.iter().any(|&count| count > 0.0), "nothing was resampled: {resampled:?}");
    assert!(resampled.iter().any(|&count| count < 3.0), "no step found groups with spread: {resampled:?}");
    for ((resampled, flat), dropped) in resampled.iter().zip(&flat).zip(&dropped) {
        assert!((flat - resampled - dropped).abs() < 1e-9, "{flat} = {resampled} replaced and {dropped} dropped");
    }
}

#[test]
fn killed_grpo_that_draws_from_pools_resumes_bitwise() {
    let settings = [
        "stages.grpo.sampler=\"pools\"",
        "stages.grpo.pass_rate_of=\"cot\"",
        "stages.grpo.zero_std=\"resample\"",
        "stages.grpo.max_resampled_prompts=3",
    ];
    let project = check_killed_stage_resumes_bitwise(with_equal_rewards, "grpo", &settings);
    let sizes = ["easy", "normal", "hard", "unseen"].map(|pool| metric(&project, &format!("grpo/pool_{pool}")));
    let [easy, normal, hard, unseen] = &sizes;
    assert!(sizes.iter().all(|sizes| sizes.len() == 10), "{sizes:?}");
    assert!(easy.iter().chain(hard).any(|&size| size > 0.0), "no prompt was easy or hard: {sizes:?}");
    assert!(unseen[9] <= unseen[0], "prompts are known by their pass rates: {sizes:?}");
    let rates = fs_err::read_to_string(committed(&project, "grpo").unwrap().join("pass_rates.jsonl")).unwrap();
    let rates = json_lines(&rates);
    assert!((easy[9] + normal[9] + hard[9] - rates.len() as f64).abs() < 1e-9, "a line for each prompt");
    let in_pool = |pool: &str| rates.iter().filter(|line| line["pool"] == pool).count() as f64;
    assert_eq!((in_pool("easy"), in_pool("hard")), (easy[9], hard[9]));
    let draws: u64 = rates.iter().filter_map(|line| line["draws"].as_u64()).sum();
    let resampled: f64 = metric(&project, "grpo/resampled_groups").iter().sum();
    assert!((draws as f64 - 2.0 * 10.0 - resampled).abs() < 1e-9, "{draws} draws, {resampled} of them further ones");
}

#[test]
fn killed_grpo_with_length_penalty_entropy_terms_classifier_and_masked_truncations_resumes_bitwise() {
    let settings = [
        "stages.grpo.mask_truncated=true",
        "stages.grpo.overlong_buffer_tokens=16",
        "stages.grpo.overlong_penalty=0.5",
        "stages.grpo.entropy_coef=0.01",
        "stages.grpo.rewards.entropy={ target = 2.0, tolerance = 0.1, weight = 0.5 }",
        "stages.grpo.rewards.classifier={ model = \"models/classifier\", label = \"good\", weight = 0.5 }",
        "stages.grpo.reward_aggregation=\"normalize_then_sum\"",
        "stages.grpo.zero_std=\"drop\"",
    ];
    let project = check_killed_stage_resumes_bitwise(with_stops, "grpo", &settings);
    let truncated = metric(&project, "completion/truncated_frac");
    assert!(truncated.iter().any(|&share| share > 0.0 && share < 1.0), "some are cut, some are not: {truncated:?}");
    assert!(metric(&project, "reward/overlong").iter().any(|&mean| mean < 0.0), "the penalty was never felt");
    let entropies = metric(&project, "reward/entropy_nats");
    assert_eq!(entropies.len(), 10, "the entropy is measured in every step");
    assert!(entropies.iter().all(|&nats| nats > 0.0 && nats < 6.0), "{entropies:?}");
    let classified = metric(&project, "reward/classifier");
    assert!(classified.len() == 10 && classified.iter().all(|&mean| mean > 0.0 && mean < 1.0), "{classified:?}");
    assert!(metric(&project, "optim/grad_norm").iter().any(|&norm| norm > 0.0), "nothing was learned from");
}

/// Returns a project whose GRPO has weights that change, a random component and a shuffled one.
fn with_schedules() -> Project {
    let project = Project::new();
    let (recipe, _) = RECIPE.split_once("[sweep]").unwrap();
    let semantic = "[stages.grpo.rewards.semantic]\n";
    let cot = "[stages.grpo.rewards.cot]\n";
    assert!(recipe.contains(semantic) && recipe.contains(cot));
    let falling = format!("{semantic}weight = {{ from = 1.0, to = 0.0, over_steps = 4 }}\n");
    let shuffled = "kind = \"rouge\"\nscope = \"completion\"\nshuffle_references = true\n";
    let later =
        format!("[stages.grpo.rewards.random]\n[stages.grpo.rewards.shuffled]\n{shuffled}{cot}start_step = 4\n");
    project.write("recipes/tiny.toml", &recipe.replace(semantic, &falling).replace(cot, &later));
    project
}

/// Weights change at the steps at which the stage is killed, and the running deviations are in its resume points.
#[test]
#[allow(clippy::float_cmp, reason = "quarters are exact")]
fn killed_at_the_switch_of_a_weight_grpo_resumes_bitwise() {
    let settings = ["stages.grpo.reward_aggregation=\"normalize_then_sum\"", "stages.grpo.component_std=\"running\""];
    let project = check_killed_stage_resumes_bitwise(with_schedules, "grpo", &settings);
    assert_eq!(metric(&project, "reward/semantic_weight"), [1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(metric(&project, "reward/cot_weight"), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    let deviations = metric(&project, "reward/random_running_std");
    assert_eq!(deviations.len(), 10);
    // uniform draws have the deviation 0.29
    assert!(deviations.iter().all(|std| (0.05..0.6).contains(std)), "{deviations:?}");
    assert!(metric(&project, "optim/grad_norm").iter().any(|&norm| norm > 0.0), "nothing was learned from");
}

/// Returns a project whose model ends most completions early, since every 16th byte is a stop token.
fn with_stops() -> Project {
    let project = Project::new();
    project.write_classifier();
    let path = project.path("models/tiny/config.json");
    let mut config: serde_json::Value = serde_json::from_str(&fs_err::read_to_string(&path).unwrap()).unwrap();
    config["eos_token_id"] = std::iter::once(257).chain((0..256).step_by(16)).collect();
    fs_err::write(path, config.to_string()).unwrap();
    project
}

/// With four updates for each rollout and two mini-batches, a stage killed between updates resumes from the rollout's
/// beginning.
#[test]
fn killed_within_the_updates_of_a_rollout_grpo_resumes_bitwise() {
    let settings = ["stages.grpo.updates_per_rollout=4", "stages.grpo.mini_batches=2", "stages.grpo.steps=18"];
    // continues SFT's adapter, then starts a new one; these are the two kinds of reference
    for more in [&[][..], &["model.parent_adapter=\"merge\""]] {
        let settings = [&settings[..], more].concat();
        let seed = seed();
        let steps = [5, 9].map(|first| first + seed % 4);
        let project = Project::new();
        for (args, step) in [run("grpo", &settings), vec!["resume"]].into_iter().zip(steps) {
            let mut child = project.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            kill(wait_for_event(&project, &mut child, "grpo", &format!("\"step\":{{\"step\":{step},")));
            assert!(!child.wait().unwrap().success(), "a run whose worker was killed does not succeed");
        }
        let (events, _) = attempt(&project.path("runs/work"), "grpo").unwrap();
        let points = events.lines().filter(|line| line.contains("\"resume_point\""));
        for point in points {
            let point: serde_json::Value = serde_json::from_str(point).unwrap();
            let step = point["kind"]["resume_point"]["step"].as_u64().unwrap();
            assert!(step.is_multiple_of(4), "a resume point after step {step} is within a rollout");
        }
        project.succeed(&["resume"]);
        let resumed = result(&project, "grpo").expect("the resumed run committed");
        assert!(resumed == uninterrupted("grpo", &settings), "{more:?}, killed after steps {steps:?}: other bytes");
    }
}

#[test]
fn killed_cpt_of_all_weights_with_muon_resumes_bitwise() {
    let settings = ["stages.cpt.optimizer=\"muon\"", "model.dtype=\"bfloat16\""];
    check_killed_stage_resumes_bitwise(without_adapters, "cpt", &settings);
    let once =
        |checkpointing: &str| uninterrupted_in(&without_adapters(), "cpt", &[&settings[..], &[checkpointing]].concat());
    let kept = once("runtime.gradient_checkpointing=\"off\"");
    assert!(kept == once("runtime.gradient_checkpointing=\"on\""), "gradient checkpointing changed the weights");
}

#[test]
fn killed_packed_sft_with_checkpointing_resumes_bitwise() {
    let settings = ["stages.sft.packing=true", "stages.sft.seq_len=600", "runtime.gradient_checkpointing=\"on\""];
    check_killed_stage_resumes_bitwise(Project::new, "sft", &settings);
    let without = ["stages.sft.packing=true", "stages.sft.seq_len=600", "runtime.gradient_checkpointing=\"off\""];
    assert!(uninterrupted("sft", &settings) == uninterrupted("sft", &without), "checkpointing changed the adapter");
}

/// The number of completions decoded at a time determines when groups end and are rated, but no result.
#[test]
fn no_bit_of_grpo_depends_on_which_group_ends_first() {
    let with = |rows: &str| {
        let project = with_stops();
        let result = uninterrupted_in(&project, "grpo", &[&format!("stages.grpo.rollout_batch_size={rows}")]);
        (result, metric(&project, "completion/tokens_mean"))
    };
    let (all_at_once, lengths) = with("0");
    assert!(lengths.iter().any(|mean| mean.fract() > 0.0), "completions differ in length: {lengths:?}");
    for rows in ["1", "3"] {
        assert!(with(rows).0 == all_at_once, "{rows} at a time gave other bytes");
    }
}

#[test]
fn checkpointing_changes_no_bit_of_grpo() {
    let with = |how: &str| uninterrupted("grpo", &[&format!("runtime.gradient_checkpointing=\"{how}\"")]);
    assert!(with("on") == with("off"));
}

#[test]
fn the_last_resume_points_are_kept_and_a_half_written_one_is_passed_over() {
    let project = Project::new();
    let settings = ["stages.sft.steps=12"];
    let mut child =
        project.command(&run("sft", &settings)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    kill(wait_for_step(&project, &mut child, "sft", 4));
    assert!(!child.wait().unwrap().success());
    let work = fs_err::read_dir(project.path("runs/work")).unwrap().next().unwrap().unwrap().path();
    let mut points: Vec<PathBuf> =
        fs_err::read_dir(work.join("resume")).unwrap().map(|entry| entry.unwrap().path()).collect();
    points.sort();
    let whole = |dir: &&PathBuf| dir.join("manifest.json").exists();
    assert!((1..=2).contains(&points.iter().filter(whole).count()), "`keep_resume_points` is 2: {points:?}");
    // the state after a kill in the middle of a write, or after a failure of the disk
    let newest = points.iter().rfind(whole).unwrap();
    let tensors = fs_err::read(newest.join("trainable.safetensors")).unwrap();
    fs_err::write(newest.join("trainable.safetensors"), &tensors[..tensors.len() / 2]).unwrap();
    project.succeed(&["resume"]);
    assert!(result(&project, "sft").unwrap() == uninterrupted("sft", &settings), "the bytes differ");
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
    assert!(
        result(&project, "grpo").unwrap() == uninterrupted("grpo", &[]),
        "interrupted and resumed, the bytes differ"
    );
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
    assert!(result(&project, "grpo").unwrap() == uninterrupted("grpo", &[]), "the bytes differ");
    let history = project.succeed(&["history", "--json"]);
    assert!(!history.contains("\"running\""), "a dead run stays `running`:\n{history}");
}
