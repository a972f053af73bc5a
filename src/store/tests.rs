use super::*;
use crate::event::{Completion, Event, EventKind, Part, Started, Step, StopReason};
use std::collections::BTreeMap;

fn event(kind: EventKind) -> Event {
    Event { at: Utc::now(), kind }
}

fn started(resumed_from_step: Option<u64>) -> Event {
    event(EventKind::Started(Started {
        host: "host".to_owned(),
        pid: 1,
        device: "cpu".to_owned(),
        libtorch: "2.11.0".to_owned(),
        threads: 1,
        resumed_from_step,
        total_steps: 3,
    }))
}

fn completion(step: u64, loss: f64) -> Completion {
    let parts = BTreeMap::from([("rouge".to_owned(), Part { value: Some(0.5), weight: 1.0, missing: None })]);
    Completion {
        step,
        row: 0,
        index: 0,
        prompt: "why?".to_owned(),
        completion: format!("because {loss}"),
        reference: None,
        answer: None,
        tokens: 2,
        stop_reason: StopReason::StopToken,
        reward: Some(0.5),
        advantage: Some(loss),
        parts,
    }
}

fn step(step: u64, loss: f64) -> [Event; 2] {
    let completion = completion(step, loss);
    let metrics = BTreeMap::from([("train/loss".to_owned(), loss)]);
    [event(EventKind::Completion(Box::new(completion))), event(EventKind::Step(Step { step, total_steps: 3, metrics }))]
}

async fn column(store: &Store, sql: &str) -> Vec<serde_json::Value> {
    store.query(sql).await.unwrap().rows.into_iter().map(|mut row| row.remove(0)).collect()
}

#[tokio::test]
async fn a_resumed_stage_takes_back_what_came_after_its_resume_point() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("history.db")).await.unwrap();
    let key = Digest::of(b"key");
    let mut events = vec![started(None)];
    events.extend((1..=3).flat_map(|n| step(n, 1.0)));
    events.push(started(Some(1)));
    events.extend((2..=3).flat_map(|n| step(n, 2.0)));
    for _ in 0..2 {
        // and replaying the file changes nothing
        store.record_events(&key, &events).await.unwrap();
        assert_eq!(column(&store, "SELECT value FROM metrics ORDER BY step").await, [1.0, 2.0, 2.0]);
        assert_eq!(column(&store, "SELECT advantage FROM completions ORDER BY step").await, [1.0, 2.0, 2.0]);
        assert_eq!(column(&store, "SELECT COUNT(*) FROM rewards").await, [3]);
    }
}

#[tokio::test]
async fn a_run_whose_process_is_gone_does_not_stay_running() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let store = Store::open(&path).await.unwrap();
    let stage = StageRecord {
        name: "sft".to_owned(),
        kind: "sft".to_owned(),
        key: Digest::of(b"key"),
        variants: vec!["demo/rouge".to_owned()],
    };
    store.begin_run("run", "host", &[stage]).await.unwrap();
    store.set_stage("run", 0, &StageState::Running).await.unwrap();
    store.end_dead_runs("host", |_| true).await.unwrap();
    assert_eq!(column(&store, "SELECT status FROM runs").await, ["running"]);
    store.end_dead_runs("another host", |_| false).await.unwrap();
    assert_eq!(column(&store, "SELECT status FROM runs").await, ["running"]);
    store.end_dead_runs("host", |_| false).await.unwrap();
    assert_eq!(column(&store, "SELECT status FROM runs").await, ["interrupted"]);
    assert_eq!(column(&store, "SELECT status FROM stages").await, ["interrupted"]);
}

#[tokio::test]
async fn a_question_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    assert!(matches!(Store::open_read_only(&path).await, Err(StoreError::Missing { .. })));
    Store::open(&path).await.unwrap();
    let store = Store::open_read_only(&path).await.unwrap();
    assert!(store.query("DELETE FROM runs").await.unwrap_err().to_string().contains("readonly"));
    assert_eq!(store.query("SELECT id FROM runs").await.unwrap(), query::Answer::default());
}

#[tokio::test]
async fn a_locked_database_is_an_error_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let holder = Store::open(&path).await.unwrap();
    let store = Store::open_with(&path, Duration::from_millis(20)).await.unwrap();
    holder.query("BEGIN IMMEDIATE").await.unwrap();
    let error = store.begin_run("run", "host", &[]).await.unwrap_err();
    assert!(error.to_string().contains("locked"), "{error}");
    assert!(error.hint().contains("another process"), "{}", error.hint());
}

#[tokio::test]
async fn a_history_from_before_stop_reasons_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let store = Store::open(&path).await.unwrap();
    // as 0001 left it
    for statement in [
        "ALTER TABLE completions DROP COLUMN truncated",
        "ALTER TABLE completions DROP COLUMN stop_reason",
        "ALTER TABLE completions ADD COLUMN truncated INTEGER NOT NULL DEFAULT 0",
        "DELETE FROM _sqlx_migrations WHERE version = 2",
        "INSERT INTO completions (id, key, step, row, idx, prompt, completion, tokens, truncated) \
         VALUES (1, 'k', 1, 0, 0, 'p', 'c', 2, 0), (2, 'k', 1, 0, 1, 'p', 'c', 9, 1)",
        "INSERT INTO rewards (completion, component, value, weight) VALUES (2, 'rouge', 0.5, 1.0)",
    ] {
        store.query(statement).await.unwrap();
    }
    assert_eq!(store.check().await.unwrap(), SchemaCheck::Older);
    store.pool.close().await;
    let store = Store::open(&path).await.unwrap();
    assert_eq!(store.check().await.unwrap(), SchemaCheck::Current);
    let reasons = column(&store, "SELECT stop_reason FROM completions ORDER BY id").await;
    assert_eq!(reasons, ["stop_token", "length"]);
    assert_eq!(column(&store, "SELECT truncated FROM completions ORDER BY id").await, [0, 1]);
    assert_eq!(column(&store, "SELECT value FROM rewards").await, [0.5]);
    let cut = Completion { stop_reason: StopReason::StopString, ..completion(2, 1.0) };
    store.record_events(&Digest::of(b"key"), &[event(EventKind::Completion(Box::new(cut)))]).await.unwrap();
    let sql = "SELECT stop_reason FROM completions WHERE step = 2 AND NOT truncated";
    assert_eq!(column(&store, sql).await, ["stop_string"]);
}
