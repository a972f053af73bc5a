//! Inputs that change between plan and reading: a stage uses the inputs in its key, or it fails.

use crate::project::Project;
use crate::resume::{result, run, uninterrupted_in, wait_for_event};
use orchestrate_core::workspace::FAULT_VARIABLE;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// An edit that keeps a file valid.
struct Edit {
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

const QUESTIONS: Edit = Edit { file: "data/mcq.jsonl", from: "pumps blood", to: "pumps water" };
const TEXT: Edit = Edit { file: "data/text.txt", from: "heart", to: "liver" };
const TOKENIZER: Edit =
    Edit { file: "models/tiny/tokenizer_config.json", from: "<|im_end|>\\n", to: "<|im_end|>\\n\\n" };
const ENCODER: Edit = Edit { file: "models/tiny-encoder/sentence_bert_config.json", from: "120", to: "20" };

impl Edit {
    fn apply(&self, project: &Project) {
        let text = fs_err::read_to_string(project.path(self.file)).unwrap();
        assert!(text.contains(self.from), "{} has no `{}`", self.file, self.from);
        project.write(self.file, &text.replace(self.from, self.to));
    }

    fn revert(&self, project: &Project) {
        Self { file: self.file, from: self.to, to: self.from }.apply(project);
    }

    /// Returns the input's name in messages; a model is named by its directory.
    fn named(&self) -> &str {
        if self.file.starts_with("models/") { self.file.rsplit_once('/').unwrap().0 } else { self.file }
    }
}

/// Edits an input of `stage` when its worker is at `point`. The run must fail with `reason` and leave nothing. `resume`
/// must plan again, and its result must be that of the edited files.
fn edited_at(point: &str, stage: &str, parent: Option<&str>, edit: &Edit, reason: &str) {
    let project = Project::new();
    if let Some(parent) = parent {
        project.succeed(&run(parent, &[]));
    }
    let other = project.copy();
    let alone = [&run(stage, &[])[..], &["--variant", "semantic"]].concat(); // one worker, which waits
    let held = project.path("held");
    let stderr = fs_err::File::create(project.path("stderr.txt")).unwrap().into_file();
    let mut child = project
        .command(&alone)
        .env(FAULT_VARIABLE, format!("hold:{point}:{}", held.display()))
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    while !held.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run of {stage} ended before `{point}`");
        assert!(Instant::now() < deadline, "{stage} never came to `{point}`");
        std::thread::sleep(Duration::from_millis(5));
    }
    edit.apply(&project);
    fs_err::remove_file(&held).unwrap();
    let code = child.wait().unwrap().code();
    let said = fs_err::read_to_string(project.path("stderr.txt")).unwrap();
    assert_eq!(code, Some(4), "{stage} at `{point}`: {said}");
    let line = said.lines().find(|line| line.contains(reason)).unwrap_or_else(|| panic!("no `{reason}` in: {said}"));
    assert!(line.contains(edit.named()), "{line}");
    assert!(result(&project, stage).is_none(), "{stage} committed what it made of a changed input");
    project.succeed(&["resume"]);
    let resumed = result(&project, stage);

    edit.apply(&other);
    other.succeed(&alone);
    let expected = result(&other, stage);
    assert!(resumed.is_some() && resumed == expected, "{stage} after `resume` is not what the edited files make");

    edit.revert(&project);
    let plan = project.plan();
    let planned = plan.iter().find(|line| line["stage"] == stage).unwrap();
    assert_eq!(planned["status"], "pending", "the key of what was there before has a result: {planned}");
}

const BEFORE: &str = "has changed since this stage was planned";
const WHILE: &str = "was written to while this stage read it";

#[test]
fn a_file_that_is_edited_after_the_plan_fails_the_stage() {
    edited_at("lease-taken", "cpt", None, &TEXT, BEFORE);
    edited_at("lease-taken", "sft", Some("cpt"), &QUESTIONS, BEFORE);
    edited_at("lease-taken", "sft", Some("cpt"), &TOKENIZER, BEFORE);
    edited_at("lease-taken", "grpo", Some("sft"), &ENCODER, BEFORE);
}

#[test]
fn a_file_that_is_edited_while_it_is_read_fails_the_stage() {
    edited_at("inputs-checked", "sft", Some("cpt"), &QUESTIONS, WHILE);
    edited_at("inputs-checked", "grpo", Some("sft"), &ENCODER, WHILE);
    edited_at("inputs-read", "cpt", None, &TOKENIZER, WHILE);
}

/// Covers the common case of data that are edited while the first stages of a sweep train.
#[test]
fn a_stage_that_has_read_its_data_is_not_concerned_and_the_next_one_fails() {
    let project = Project::new();
    let stderr = fs_err::File::create(project.path("stderr.txt")).unwrap().into_file();
    let long = ["stages.sft.steps=60"];
    let mut child = project.command(&run("grpo", &long)).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
    wait_for_event(&project, &mut child, "sft", "\"step\":{\"step\":2,");
    QUESTIONS.apply(&project);
    assert_eq!(child.wait().unwrap().code(), Some(4));
    let said = fs_err::read_to_string(project.path("stderr.txt")).unwrap();
    assert!(said.contains(&format!("data/mcq.jsonl` {BEFORE}")), "{said}");
    let trained = result(&project, "sft").expect("sft had read its rows");
    assert!(trained == uninterrupted_in(&Project::new(), "sft", &long), "sft is not what the rows of its key make");
    assert!(result(&project, "grpo").is_none());
}

/// An evaluation continues to sample for a long time after it has read its questions.
#[test]
fn an_evaluation_is_made_of_the_questions_that_it_read() {
    let measured = |project: &Project| fs_err::read(project.checkpoint("eval").join("metrics.json")).unwrap();
    let project = Project::new();
    project.succeed(&run("grpo", &[]));
    let one = [&run("eval", &[])[..], &["--variant", "semantic"]].concat();
    let mut child = project.command(&one).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for_event(&project, &mut child, "eval", "\"step\":{\"step\":1,");
    QUESTIONS.apply(&project);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    QUESTIONS.revert(&project);
    let edited = measured(&project);
    let other = Project::new();
    other.succeed(&run("eval", &[]));
    assert_eq!(edited, measured(&other));
}
