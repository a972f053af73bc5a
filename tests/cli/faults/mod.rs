//! After every fault, nothing is lost or corrupt, and `resume` gives the digests of an undisturbed run.
//!
//! All processes are real: `orchestrate`, and this test binary as the worker. The worker follows the cache's protocol
//! through the same `Attempt` as the engine, and computes a chain of digests instead of training.

mod database;
mod disk;
mod force;
mod kill;
mod race;
mod worker;

use crate::env::{Ended, TestEnv};
use crate::harness::{signal, wait_until};
use orchestrate::workspace::{FAULT_VARIABLE, Manifest, Workspace};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// The command of every test: runs `base`, and `tuned`, which starts from it.
pub(crate) const RUN: [&str; 4] = ["run", "small.toml", "--only", "tuned"];

/// Creates a project whose workers follow the protocol.
fn project() -> TestEnv {
    let env = TestEnv::new();
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = inspect-data ]; then cat > /dev/null; exit 0; fi\nFAULTS_PROJECT=$(dirname \"$0\") FAULTS_ATTEMPT=$1 exec {} --exact faults::worker::worker --nocapture\n",
        exe.display()
    );
    env.write("worker.sh", &script);
    // Without retries, a stage that a fault ended stays ended.
    let recipe = fs_err::read_to_string(env.path("small.toml")).unwrap();
    env.write("small.toml", &format!("{recipe}\n[runtime.retries]\noom = 0\ncrash = 0\n"));
    env
}

/// Returns the digests of all outputs of the cached stages, by key and file.
fn outputs(env: &TestEnv) -> BTreeMap<String, String> {
    let cache = Workspace::open(&env.path("runs")).unwrap();
    let mut found = BTreeMap::new();
    for key in cache.keys().unwrap() {
        let manifest = Manifest::read(&cache.checkpoint_dir(&key)).unwrap().expect("what is visible is whole");
        manifest.check_digests(&cache.checkpoint_dir(&key)).unwrap();
        found.extend(manifest.outputs().map(|(name, file)| (format!("{key}/{name}"), file.sha256.to_string())));
    }
    found
}

/// Returns the outputs of an undisturbed run.
fn undisturbed() -> BTreeMap<String, String> {
    static MADE: Mutex<Option<BTreeMap<String, String>>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap();
    made.get_or_insert_with(|| {
        let env = project();
        env.run(&RUN).ends_with(0);
        outputs(&env)
    })
    .clone()
}

/// Asserts that the cache holds exactly the outputs of an undisturbed run, and that `cache verify` agrees.
#[track_caller]
fn holds_the_same(env: &TestEnv, after: &str) {
    assert_eq!(outputs(env), undisturbed(), "after {after}");
    env.run(&["cache", "verify"]).ends_with(0);
}

fn run_with_fault(env: &TestEnv, args: &[&str], fault: &str) -> Ended {
    env.run_with(args, FAULT_VARIABLE, fault)
}

/// Returns the process ids of the workers that began with `stage`, in order.
fn workers(env: &TestEnv, stage: &str) -> Vec<i32> {
    let text = fs_err::read_to_string(env.path(&format!("workers-{stage}"))).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Checks the cases, a few at a time.
fn each<T: Sync>(cases: &[T], check: impl Fn(&T) + Sync) {
    undisturbed();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    check(case);
                }
            });
        }
    });
}
