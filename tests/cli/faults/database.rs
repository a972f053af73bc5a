//! The history is an index: without it, or with it locked, a run continues.

use super::{RUN, holds_the_same, project, run_with_fault};
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use std::collections::BTreeSet;

/// The number of runs while the database is held. It is held until they have ended, however long they wait.
const RUNS_WHILE_HELD: usize = 2;

#[test]
fn a_deleted_database_costs_no_result() {
    let env = project();
    run_with_fault(&env, &RUN, "stage-recorded");
    for name in ["history.db", "history.db-wal", "history.db-shm"] {
        let _ = fs_err::remove_file(env.path("runs").join(name)); // not all of them always exist
    }
    env.run(&["resume"]).ends_with(0);
    holds_the_same(&env, "a deleted database");
    let rows = env.run(&["history", "--json"]).ends_with(0).json();
    let of = |stage: &str, status: &str| rows.iter().any(|row| row["stage"] == stage && row["status"] == status);
    assert!(of("base", "cached") && of("tuned", "ok"), "the resumed run is not in the new history: {rows:?}");
}

fn runs_of(rows: &[Value]) -> BTreeSet<&str> {
    rows.iter().filter_map(|row| row["run"].as_str()).collect()
}

#[test]
fn a_locked_database_costs_the_history_of_the_run_and_says_so() {
    let env = project();
    env.run(&["run", "small.toml", "--only", "other"]).ends_with(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = SqliteConnectOptions::new().filename(env.path("runs/history.db"));
    let mut writer = runtime.block_on(options.connect()).unwrap();
    runtime.block_on(writer.execute("BEGIN EXCLUSIVE")).unwrap();
    let runs = 1 + RUNS_WHILE_HELD;
    for runs in 2..=runs {
        env.run(&RUN).ends_with(0).says(&["another process holds the history"]);
        let rows = env.run(&["history", "--json"]).ends_with(0).json();
        assert_eq!(runs_of(&rows).len(), runs, "a question is answered from the files meanwhile");
    }
    runtime.block_on(writer.execute("ROLLBACK")).unwrap();
    runtime.block_on(writer.close()).unwrap();
    let rows = env.run(&["history", "--json"]).ends_with(0).json();
    assert_eq!(runs_of(&rows).len(), runs, "{rows:?}");
    env.run(&["db", "rebuild"]).ends_with(0);
    assert_eq!(env.run(&["history", "--json"]).json(), rows);
    let plan = env.run(&["plan", "small.toml", "--json"]).json();
    assert!(plan.iter().all(|line| line["status"] == "cached"), "{plan:?}");
    let other = plan.iter().find(|line| line["stage"] == "other").unwrap();
    fs_err::remove_dir_all(env.path("runs/cache").join(other["key"].as_str().unwrap())).unwrap();
    holds_the_same(&env, "a locked database");
}
