//! The interface between the run loop and its executor, used as by a cluster. Workers outlive the process that
//! submitted them. Their ends are known only from their files. A new process finds them by name.

mod project;

use orchestrate::event::FailureClass;
use orchestrate::exec::{Cancel, ExecError, Executor, JobState, Left, RUN_COMMAND_STAGE, Submission, SystemEnd};
use orchestrate::history::Invocation;
use orchestrate::host;
use orchestrate::plan::Plan;
use orchestrate::recipe::Overrides;
use orchestrate::run::{RunRequest, RunSummary, StageEnd, run};
use orchestrate::workspace::{JOB_VARIABLE, Job, SUPERVISOR_VARIABLE, Workspace};
use project::Project;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const RECIPE: &str = r#"
name = "programs"

[stages.one]
kind = "command"
command = ["sh", "-c", "echo one > $STAGE_OUTPUT/result"]

[stages.two]
kind = "command"
command = ["sh", "-c", "echo two > $STAGE_OUTPUT/result"]

[stages.both]
kind = "command"
after = ["one", "two"]
command = ["sh", "-c", "cat ${STAGE_PARENTS%%:*}/result > $STAGE_OUTPUT/result"]
"#;

/// Runs workers without a supervisor. `jobs` has a file for each job, named after it, with the process id.
struct Detached {
    jobs: PathBuf,
    /// Children of this process by job, which it must wait for so that they do not remain zombies.
    children: BTreeMap<Job, Child>,
    /// The sizes of the batches that were submitted here.
    batches: Vec<usize>,
    asked: Vec<Cancel>,
}

impl Detached {
    fn new(project: &Project) -> Self {
        let jobs = project.path().join("jobs");
        fs_err::create_dir_all(&jobs).unwrap();
        Self { jobs, children: BTreeMap::new(), batches: Vec::new(), asked: Vec::new() }
    }

    fn process(&self, job: &str) -> Option<u32> {
        let process = fs_err::read_to_string(self.jobs.join(job)).ok()?.parse().ok()?;
        host::start_ticks(process).map(|_| process)
    }

    fn start(&mut self, submission: &Submission) -> Result<(), ExecError> {
        let log = fs_err::File::create(submission.dir.join("worker.log")).map_err(ExecError::Log)?.into_file();
        let mut command = Command::new(env!("CARGO_BIN_EXE_orchestrate"));
        command.arg(RUN_COMMAND_STAGE).arg(&submission.dir).env(JOB_VARIABLE, submission.job.as_str());
        command.env_remove(SUPERVISOR_VARIABLE).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let path = PathBuf::from(command.get_program());
        let child = command.spawn().map_err(|source| ExecError::Start { path, source })?;
        fs_err::write(self.jobs.join(submission.job.as_str()), child.id().to_string()).unwrap();
        self.children.insert(submission.job.clone(), child);
        Ok(())
    }
}

impl Executor for Detached {
    fn submit(&mut self, batch: &[Submission]) -> Vec<Result<(), ExecError>> {
        if !batch.is_empty() {
            self.batches.push(batch.len());
        }
        batch.iter().map(|submission| self.start(submission)).collect()
    }

    fn poll(&mut self, jobs: &[Job]) -> Result<Vec<JobState>, ExecError> {
        // No exit code and no signal, as from a cluster without accounting.
        let state = |job: &Job| match self.process(job.as_str()) {
            Some(_) => JobState::Active,
            None => JobState::Ended(SystemEnd::default()),
        };
        Ok(jobs.iter().map(state).collect())
    }

    fn cancel(&mut self, jobs: &[Job], how: Cancel) {
        self.asked.push(how);
        for process in jobs.iter().filter_map(|job| self.process(job.as_str())) {
            let signal = if how == Cancel::Stop { Signal::TERM } else { Signal::KILL };
            let group = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
            kill_process_group(group, signal).unwrap();
        }
    }

    fn find(&mut self, attempt_dirs: &[&Path]) -> Vec<Option<Left>> {
        let names: Vec<String> =
            fs_err::read_dir(&self.jobs).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        let find = |dir: &&Path| {
            let key = dir.file_name().unwrap().to_str().unwrap();
            let of_key = |name: &&String| name.split('.').next() == Some(key);
            let name = names.iter().find(|name| of_key(name) && self.process(name).is_some())?;
            Some(Left::Job(serde_json::from_value(serde_json::json!(name)).unwrap()))
        };
        attempt_dirs.iter().map(find).collect()
    }

    fn changed<'a>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(tokio::time::sleep(Duration::from_millis(20)))
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        for (_, mut child) in std::mem::take(&mut self.children) {
            std::thread::spawn(move || child.wait()); // the worker continues, and is reaped when it ends
        }
    }
}

fn request(project: &Project) -> RunRequest {
    let recipes = project.load(&["programs.toml"], &Overrides::default());
    let recipes = recipes.unwrap_or_else(|error| panic!("{}", error.render(100, false)));
    RunRequest {
        plan: Plan::build(&recipes),
        invocation: Invocation::default(),
        files: Vec::new(),
        jobs: Some(2),
        fail_fast: false,
        forced: [].into(),
    }
}

async fn run_with(project: &Project, executor: &mut Detached) -> RunSummary {
    let runs = project.path().join("runs");
    let cache = Workspace::open(&runs).unwrap();
    run(&request(project), &cache, &runs, executor, &mut |_| {}).await.unwrap()
}

async fn wait_for(path: &Path) {
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn ready_stages_are_submitted_in_one_batch_and_their_ends_are_read_from_files() {
    let project = Project::new();
    project.write("programs.toml", &RECIPE.replace("echo two >", "exit 3 >"));
    let mut executor = Detached::new(&project);
    let summary = run_with(&project, &mut executor).await;
    assert_eq!(executor.batches, [2], "`one` and `two` together; `both` never, as `two` failed");
    let [StageEnd::Done { .. }, StageEnd::Failed(failed), StageEnd::Skipped] = &summary.ends[..] else {
        panic!("{:?}", summary.ends)
    };
    assert_eq!((failed.failure.class, failed.tries), (FailureClass::Program, 1));
    assert!(failed.failure.message.contains("exit code 3"), "{}", failed.failure.message);
}

#[tokio::test]
async fn a_job_that_outlived_its_dispatcher_is_followed_and_not_submitted_again() {
    let project = Project::new();
    let held = "touch begun; while [ ! -e go ]; do sleep 0.02; done; echo one >";
    project.write("programs.toml", &RECIPE.replace("echo one >", held));
    let (mut first, begun) = (Detached::new(&project), project.path().join("begun"));
    tokio::select! {
        _ = run_with(&project, &mut first) => panic!("`one` waits"),
        () = wait_for(&begun) => {}
    }
    let submitted = first.batches.iter().sum::<usize>();
    drop(first); // the first dispatcher is gone

    let mut second = Detached::new(&project);
    let released = async {
        // The pause lasts until the second dispatcher follows the worker.
        tokio::time::sleep(Duration::from_millis(300)).await;
        project.write("go", "");
    };
    let (summary, ()) = tokio::join!(run_with(&project, &mut second), released);
    let done = |end: &StageEnd| matches!(end, StageEnd::Done { .. } | StageEnd::Hit);
    assert!(summary.ends.iter().all(done), "{:?}", summary.ends);
    assert!(matches!(summary.ends[0], StageEnd::Done { .. }), "followed to its end: {:?}", summary.ends[0]);
    let resubmitted = second.batches.iter().sum::<usize>();
    assert_eq!(submitted + resubmitted, 3, "each stage was submitted once");
}

#[tokio::test]
async fn a_job_that_dies_without_a_word_is_a_crash_and_is_tried_again() {
    let project = Project::new();
    let dies = "if [ ! -e died ]; then touch died; kill -9 $PPID; sleep 5; fi; echo one >";
    project.write(
        "programs.toml",
        &format!("{}\n[runtime.retries]\nbackoff_s = 0.1\n", RECIPE.replace("echo one >", dies)),
    );
    let mut executor = Detached::new(&project);
    let summary = run_with(&project, &mut executor).await;
    let done = |end: &StageEnd| matches!(end, StageEnd::Done { .. });
    assert!(summary.ends.iter().all(done), "{:?}", summary.ends);
    assert_eq!(executor.batches.iter().sum::<usize>(), 4, "`one` twice");
}
