use super::*;
use crate::digest::Digest;
use crate::event::{
    Completion, ComponentScore, Event, EventKind, Failure, FailureClass, Measurement, Started, Step, StopReason,
};
use crate::run_event::{RunEvent, RunEventKind};
use crate::stage::{RunStatus, StageKind, StageStatus};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::sqlite::SqliteConnectOptions;
use std::collections::BTreeMap;
use std::time::Duration;

fn running(stage: &StageRecord, at: DateTime<Utc>) -> RunEvent {
    RunEvent { at, kind: RunEventKind::StageStarted { key: stage.key.clone() } }
}

fn event(kind: EventKind) -> Event {
    Event { at: DateTime::UNIX_EPOCH, kind, energy_j: None, peak_memory: None }
}

fn started(resumed_from_step: Option<u64>) -> Event {
    event(EventKind::Started(Started {
        host: "host".to_owned(),
        pid: 1,
        device: "cpu".to_owned(),
        libtorch: "2.11.0".to_owned(),
        threads: 1,
        instructions: None,
        bfloat16_products: None,
        gpu: None,
        deterministic: None,
        float32_products: None,
        resumed_from_step,
        total_steps: 3,
    }))
}

fn step(step: u64, loss: f64) -> [Event; 2] {
    let completion = Completion {
        step,
        row: 0,
        index: 0,
        prompt: "why?".to_owned(),
        completion: format!("because {loss}"),
        reference: None,
        answer: None,
        tokens: 2,
        stop_reason: StopReason::StopString,
        player: None,
        reward: Some(0.5),
        advantage: Some(loss),
        parts: BTreeMap::from([("rouge".to_owned(), ComponentScore { value: Some(0.5), weight: 1.0, missing: None })]),
        eval: None,
    };
    let metrics = BTreeMap::from([("train/loss".to_owned(), loss)]);
    [event(EventKind::Completion(Box::new(completion))), event(EventKind::Step(Step { step, total_steps: 3, metrics }))]
}

fn finished(value: f64) -> Event {
    let measured = Measurement { value, interval: Some((value - 0.1, value + 0.1)), count: Some(9) };
    event(EventKind::Finished(BTreeMap::from([("eval/accuracy".to_owned(), measured)])))
}

async fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("history.db"), BUSY_TIMEOUT).await.unwrap();
    (dir, store)
}

async fn column(store: &Store, sql: &str) -> Vec<serde_json::Value> {
    store.query(sql).await.unwrap().rows.into_iter().map(|mut row| row.remove(0)).collect()
}

fn record(stage: &str, kind: &str, key: &str) -> StageRecord {
    StageRecord {
        stage: stage.to_owned(),
        kind: kind.parse().unwrap(),
        key: Digest::of(key.as_bytes()),
        recipe: "demo".to_owned(),
        variant: format!("{key} shared"),
    }
}

#[tokio::test]
async fn a_resumed_stage_takes_back_what_came_after_its_resume_point() {
    let (_dir, store) = store().await;
    let mut events = vec![started(None)];
    events.extend((1..=3).flat_map(|n| step(n, 1.0)));
    events.extend([finished(0.1), started(Some(1))]);
    events.extend((2..=3).flat_map(|n| step(n, 2.0)));
    for _ in 0..2 {
        // Replaying the file changes nothing.
        let mut update = store.update().await.unwrap();
        let key = update.key(&Digest::of(b"key")).await.unwrap().id;
        for event in &events {
            update.record(key, event).await.unwrap();
        }
        update.commit().await.unwrap();
        assert_eq!(column(&store, "SELECT value FROM metrics ORDER BY step").await, [1.0, 2.0, 2.0]);
        assert_eq!(column(&store, "SELECT advantage FROM completions ORDER BY step").await, [1.0, 2.0, 2.0]);
        assert_eq!(column(&store, "SELECT COUNT(*) FROM rewards").await, [3]);
        assert_eq!(column(&store, "SELECT COUNT(*) FROM results").await, [0]);
        assert_eq!(column(&store, "SELECT at FROM metrics LIMIT 1").await, ["1970-01-01T00:00:00.000Z"]);
    }
}

#[tokio::test]
async fn a_change_that_is_not_committed_is_none() {
    let (_dir, store) = store().await;
    let mut update = store.update().await.unwrap();
    update.add_run("run", Utc::now(), &[record("sft", "sft", "a")], &[]).await.unwrap();
    drop(update);
    assert_eq!(column(&store, "SELECT COUNT(*) FROM runs").await, [0]);
}

#[tokio::test]
async fn a_question_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    assert!(matches!(Store::open_read_only(&path).await, Err(StoreError::Missing { .. })));
    Store::open(&path, BUSY_TIMEOUT).await.unwrap();
    let store = Store::open_read_only(&path).await.unwrap();
    assert!(store.query("DELETE FROM run_rows").await.unwrap_err().to_string().contains("readonly"));
    let temporary = Store::temporary().await.unwrap();
    temporary.forbid_writing().await.unwrap();
    assert!(temporary.query("DELETE FROM run_rows").await.unwrap_err().to_string().contains("readonly"));
    let nothing = store.query("SELECT run, status FROM runs").await.unwrap();
    assert_eq!(nothing, QueryResult { columns: vec!["run".to_owned(), "status".to_owned()], rows: Vec::new() });
}

#[tokio::test]
async fn a_locked_database_is_an_error_with_a_hint() {
    let (dir, holder) = store().await;
    let path = dir.path().join("history.db");
    let other = Store::open(&path, Duration::from_millis(20)).await.unwrap();
    let held = holder.update().await.unwrap();
    let error = other.update().await.unwrap_err();
    assert!(error.is_busy() && error.hint().contains("another process"), "{error}: {}", error.hint());
    // A reader does not wait.
    assert_eq!(column(&Store::open_read_only(&path).await.unwrap(), "SELECT COUNT(*) FROM runs").await, [0]);
    drop(held);
    other.update().await.unwrap();
}

#[test]
fn many_processes_may_make_the_same_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let opened = (0..12).map(|_| {
        let path = path.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { Store::open(&path, BUSY_TIMEOUT).await?.schema().await })
        })
    });
    for check in opened.collect::<Vec<_>>() {
        assert_eq!(check.join().unwrap().unwrap(), SchemaCheck::Current);
    }
}

#[tokio::test]
async fn a_database_of_an_earlier_version_is_emptied_and_read_from_the_files_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let old = Store::connect(&path, options).await.unwrap();
    for (n, text) in
        [include_str!("../../migrations/0001_history.sql"), include_str!("../../migrations/0002_stop_reason.sql")]
            .into_iter()
            .enumerate()
    {
        let migration = MIGRATIONS.iter().nth(n).unwrap();
        assert_eq!(migration.sql.as_str(), text);
        sqlx::raw_sql(text).execute(&old.pool).await.unwrap();
        sqlx::raw_sql(
            "CREATE TABLE IF NOT EXISTS _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
             installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL, \
             execution_time BIGINT NOT NULL)",
        )
        .execute(&old.pool)
        .await
        .unwrap();
        sqlx::query("INSERT INTO _sqlx_migrations VALUES (?, 'history', CURRENT_TIMESTAMP, TRUE, ?, 0)")
            .bind(migration.version)
            .bind(migration.checksum.as_ref())
            .execute(&old.pool)
            .await
            .unwrap();
    }
    old.query("INSERT INTO runs VALUES ('a', '2026-01-01', NULL, 'ok', 'host', 1, '0.1.0')").await.unwrap();
    assert_eq!(old.schema().await.unwrap(), SchemaCheck::Older);
    old.close().await;
    let store = Store::open(&path, BUSY_TIMEOUT).await.unwrap();
    assert_eq!(store.check().await.unwrap(), SchemaCheck::Current);
    assert_eq!(column(&store, "SELECT COUNT(*) FROM runs").await, [0]);
}

#[tokio::test]
async fn views_have_the_columns_that_are_documented() {
    let (_dir, store) = store().await;
    let views = column(&store, "SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY name").await;
    let mut documented: Vec<&str> = VIEWS.iter().map(|view| view.name).collect();
    documented.sort_unstable();
    assert_eq!(views, documented);
    for view in VIEWS {
        let columns = store.columns(&format!("SELECT * FROM {}", view.name)).await.unwrap();
        assert_eq!(columns, view.columns.iter().map(|column| column.name).collect::<Vec<_>>(), "{}", view.name);
    }
}

/// Creates two runs: in the older one `b` failed, in the newer one `a` was a hit.
async fn two_runs() -> (tempfile::TempDir, Store) {
    let (dir, store) = store().await;
    let mut update = store.update().await.unwrap();
    let now = Utc::now();
    let stages = [record("base", "cpt", "a"), record("eval", "eval", "b"), record("eval", "eval", "c")];
    for (run, at) in [("1", now - TimeDelta::days(5)), ("2", now)] {
        let running: Vec<RunEvent> = stages.iter().map(|stage| running(stage, at)).collect();
        update.add_run(run, at, &stages, &running).await.unwrap();
        for (stage, seconds) in stages.iter().zip([5.0, 1.0, 3.0]) {
            let key = stage.key.clone();
            let kind = match (run, stage.variant.as_str()) {
                ("1", "b shared") => {
                    let failure = Failure { class: FailureClass::Crash, message: "no".to_owned(), hint: None };
                    RunEventKind::StageFailed { key, seconds, failure }
                }
                _ => RunEventKind::StageDone { key, seconds, results: BTreeMap::new() },
            };
            update.change_stages(run, &[RunEvent { at, kind }]).await.unwrap();
        }
        update.end_run(run, RunStatus::Ok, at).await.unwrap();
    }
    let hit = RunEvent { at: now, kind: RunEventKind::StageHit { key: stages[0].key.clone() } };
    update.change_stages("2", &[hit]).await.unwrap();
    for (key, value) in [("b", 0.25), ("c", 0.5)] {
        let id = update.key(&Digest::of(key.as_bytes())).await.unwrap().id;
        update.record(id, &finished(value)).await.unwrap();
    }
    update.commit().await.unwrap();
    (dir, store)
}

#[tokio::test]
async fn history_is_filtered_sorted_and_cut() {
    let (_dir, store) = two_runs().await;
    let all = HistoryQuery::default();
    let shown = async |query: HistoryQuery| {
        let rows = store.history(&query).await.unwrap();
        assert_eq!(
            rows.len(),
            store
                .history_count(&HistoryQuery { limit: None, ..query.clone() }, 99)
                .await
                .unwrap()
                .min(query.limit.unwrap_or(99))
        );
        rows.iter().map(|row| format!("{}{}", row.run, &row.variant[..1])).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown(all.clone()).await, "2a 2b 2c 1a 1b 1c");
    assert_eq!(shown(HistoryQuery { limit: Some(2), ..all.clone() }).await, "2a 2b");
    assert_eq!(shown(HistoryQuery { variant: Some("b".to_owned()), ..all.clone() }).await, "2b 1b");
    assert_eq!(shown(HistoryQuery { variant: Some("share".to_owned()), ..all.clone() }).await, "");
    assert_eq!(shown(HistoryQuery { recipe: Some("demo".to_owned()), limit: Some(1), ..all.clone() }).await, "2a");
    assert_eq!(shown(HistoryQuery { kinds: vec![StageKind::Cpt], ..all.clone() }).await, "2a 1a");
    let statuses = vec![StageStatus::Failed, StageStatus::Cached];
    assert_eq!(shown(HistoryQuery { statuses, ..all.clone() }).await, "2a 1b");
    let since = Some(Utc::now() - TimeDelta::days(1));
    assert_eq!(shown(HistoryQuery { since, ..all.clone() }).await, "2a 2b 2c");
    let condition = |name: &str, comparison, bound| HistoryQuery {
        conditions: vec![MetricCondition { name: name.to_owned(), comparison, bound }],
        ..HistoryQuery::default()
    };
    assert_eq!(shown(condition("eval/accuracy", Comparison::Above, 0.25)).await, "2c 1c");
    // The failed stage has no result, whatever a later run of its key measured.
    assert_eq!(shown(condition("eval/accuracy", Comparison::AtMost, 0.25)).await, "2b");
    assert_eq!(shown(condition("eval/accuracy", Comparison::NotEqual, 0.25)).await, "2c 1c");
    assert_eq!(shown(condition("seconds", Comparison::AtLeast, 3.0)).await, "2c 1a 1c");
    let order = |by, descending| HistoryQuery { order: Some(Order { by, descending }), ..HistoryQuery::default() };
    assert_eq!(shown(order(OrderBy::Column("s.seconds"), true)).await, "1a 2c 1c 2b 1b 2a");
    let accuracy = || OrderBy::Result("eval/accuracy".to_owned());
    assert_eq!(shown(order(accuracy(), true)).await, "2c 1c 2b 2a 1a 1b");
    assert_eq!(shown(order(accuracy(), false)).await, "2b 2c 1c 2a 1a 1b");
    let by_key = |descending| order(OrderBy::Column("s.key"), descending);
    let keys = shown(by_key(false)).await;
    assert_eq!(keys.len(), "2a 1a 2b 1b 2c 1c".len());
    // With a limit an index is walked, with the same result.
    for (whole, query) in [
        ("2c 1c 2b 2a 1a 1b", order(accuracy(), true)),
        ("2b 2c 1c 2a 1a 1b", order(accuracy(), false)),
        (keys.as_str(), by_key(false)),
        (&shown(by_key(true)).await, by_key(true)),
    ] {
        for limit in 1..=6 {
            let first = whole.split(' ').take(limit).collect::<Vec<_>>().join(" ");
            assert_eq!(shown(HistoryQuery { limit: Some(limit), ..query.clone() }).await, first);
        }
    }
    let best = HistoryQuery { recipe: Some("other".to_owned()), limit: Some(1), ..order(accuracy(), true) };
    assert_eq!(shown(best).await, "");
    let rows = store.history(&all).await.unwrap();
    assert_eq!(
        rows[2].results["eval/accuracy"],
        Measurement { value: 0.5, interval: Some((0.4, 0.6)), count: Some(9) }
    );
    assert!(rows[4].results.is_empty() && rows[4].message.as_deref() == Some("no"));
    assert_eq!(store.result_names().await.unwrap(), ["eval/accuracy"]);
}

#[tokio::test]
async fn a_run_that_has_ended_has_no_running_stage() {
    let (_dir, store) = store().await;
    let mut update = store.update().await.unwrap();
    let stages = [record("base", "cpt", "a")];
    update.add_run("1", Utc::now(), &stages, &[running(&stages[0], Utc::now())]).await.unwrap();
    update.end_run("1", RunStatus::Interrupted, Utc::now()).await.unwrap();
    update.commit().await.unwrap();
    assert_eq!(column(&store, "SELECT status FROM stages").await, ["interrupted"]);
}

#[tokio::test]
async fn a_stage_that_never_began_is_pending_while_its_run_goes_on() {
    let (_dir, store) = store().await;
    let mut update = store.update().await.unwrap();
    let stages = [record("base", "cpt", "a"), record("sft", "sft", "b")];
    update.add_run("1", Utc::now(), &stages, &[running(&stages[0], Utc::now())]).await.unwrap();
    update.commit().await.unwrap();
    let statuses = "SELECT status FROM stages ORDER BY position";
    assert_eq!(column(&store, statuses).await, ["running", "pending"]);
    let mut update = store.update().await.unwrap();
    update.end_dead_run("1").await.unwrap();
    update.commit().await.unwrap();
    assert_eq!(column(&store, statuses).await, ["interrupted", "not run"]);
    for (status, count) in [(StageStatus::Pending, 0), (StageStatus::NotRun, 1), (StageStatus::Interrupted, 1)] {
        let query = HistoryQuery { statuses: vec![status], ..HistoryQuery::default() };
        assert_eq!(store.history_count(&query, 99).await.unwrap(), count, "{status}");
        assert!(store.history(&query).await.unwrap().iter().all(|row| row.status == status));
    }
    assert_eq!(column(&store, "SELECT ended_at IS NOT NULL FROM runs").await, [1]);
}
