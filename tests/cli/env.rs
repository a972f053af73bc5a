//! A project in a temporary directory, and the binary that runs in it.

use crate::harness::wait_for_file;
use orchestrate::workspace::FAULT_VARIABLE;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Two chains without common stages: `base` -> `tuned`, and `other`.
pub(crate) const RECIPE: &str = r#"
name = "small"
seed = 1

[model]
path = "models/tiny"

[data.text]
path = "data/text.txt"

[data.rows]
path = "data/rows.jsonl"
prompt = "{{ q }}"
completion = "{{ a }}"

[stages.base]
kind = "cpt"
data = "text"
steps = 3

[stages.tuned]
kind = "sft"
after = "base"
data = "rows"
steps = 3

[stages.other]
kind = "cpt"
data = "text"
steps = 4
"#;

/// A lease of another process.
pub(crate) const LEASE: &str = r#"{"host": "elsewhere", "boot_id": "", "pid": 4242, "since": "2026-01-01T00:00:00Z"}"#;

/// The script worker. Its behaviour for a stage is in the file `behaviour/NAME`.
const WORKER: &str = include_str!("worker.sh");

pub(crate) struct TestEnv {
    dir: tempfile::TempDir,
}

impl TestEnv {
    /// Creates a project with [`RECIPE`] as `small.toml` and all files that it names.
    pub(crate) fn new() -> Self {
        let env = Self { dir: tempfile::tempdir().unwrap() };
        env.write("small.toml", RECIPE);
        env.write("data/text.txt", "The femur is the longest bone.\n\nThe tibia is next to it.\n");
        env.write("data/rows.jsonl", "{\"q\": \"Longest bone?\", \"a\": \"femur\"}\n");
        let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders/llama");
        env.write("models/tiny/config.json", &fs_err::read_to_string(golden.join("config.json")).unwrap());
        env.write("models/tiny/tokenizer.json", "{}");
        env.write("models/tiny/model.safetensors", "never read here");
        env.write("worker.sh", WORKER);
        fs_err::set_permissions(env.path("worker.sh"), PermissionsExt::from_mode(0o755)).unwrap();
        env
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    /// Sets the script worker's behaviour for the stage: `fail`, `crash`, `kill`, `wait`, `deaf`.
    pub(crate) fn behave(&self, stage: &str, behaviour: &str) {
        self.write(&format!("behaviour/{stage}"), behaviour);
    }

    fn command(&self, args: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_orchestrate")), args)
    }

    fn command_of(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir.path()).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("ORCHESTRATE_WORKER", self.path("worker.sh")).env("COLUMNS", "100");
        command.stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        Ended::from(self.command(args).output().unwrap())
    }

    /// Runs the binary with one more environment variable.
    pub(crate) fn run_with(&self, args: &[&str], name: &str, value: &str) -> Ended {
        Ended::from(self.command(args).env(name, value).output().unwrap())
    }

    /// Runs the binary with arguments that need not be UTF-8.
    pub(crate) fn run_os(&self, args: &[OsString]) -> Ended {
        Ended::from(self.command(&[]).args(args).output().unwrap())
    }

    /// Runs the binary with one more environment variable, whose value need not be UTF-8.
    pub(crate) fn run_with_os(&self, args: &[&str], name: &str, value: &OsStr) -> Ended {
        Ended::from(self.command(args).env(name, value).output().unwrap())
    }

    /// Starts the binary.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts the binary at the path `program`.
    pub(crate) fn start_as(&self, program: &Path, args: &[&str]) -> Child {
        self.command_of(program, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Returns the id of the newest run.
    pub(crate) fn newest_run(&self) -> String {
        let logs = fs_err::read_dir(self.path("runs/log")).unwrap();
        logs.map(|entry| entry.unwrap().file_name().into_string().unwrap()).max().unwrap()
    }

    /// Starts the binary with one more environment variable.
    pub(crate) fn start_with(&self, args: &[&str], name: &str, value: &str) -> Child {
        self.command(args).env(name, value).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits until the file exists.
    #[track_caller]
    pub(crate) fn wait_for(&self, relative: &str) {
        wait_for_file(&self.path(relative));
    }

    /// Starts the binary and holds it at the fault point until `there` has made its assertions.
    pub(crate) fn start_held_at(&self, point: &str, args: &[&str], there: impl FnOnce(&Child)) -> Child {
        let held = self.path("held");
        let child = self.start_with(args, FAULT_VARIABLE, &format!("hold:{point}:{}", held.display()));
        wait_for_file(&held);
        there(&child);
        fs_err::remove_file(held).unwrap();
        child
    }
}

/// The exit code and output of a finished process.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that stderr contains each of these.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "stderr lacks `{word}`:\n{}", self.stderr);
        }
        self
    }

    /// Parses stdout as one JSON value per line.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}
