//! A run's events as server-sent events.

use super::follow::Follower;
use super::{Site, snapshot};
use crate::digest::Digest;
use crate::history::{PastRun, events_dir};
use crate::stage::RunStatus;
use crate::stage::StageStatus;
use axum::response::sse::Event;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// How often files are checked.
const TICK: Duration = Duration::from_secs(1);

/// The state that one browser has received.
struct Watch {
    site: Arc<Site>,
    run: PastRun,
    sent: Value,
    sent_live: Value,
    followers: BTreeMap<Digest, Follower>,
}

/// Sends the events of `run` until the browser disconnects. For a run that has ended, sends its final state.
pub(super) fn follow(site: Arc<Site>, run: PastRun, permit: OwnedSemaphorePermit) -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let _permit = permit;
        let mut watch = Watch { site, run, sent: Value::Null, sent_live: Value::Null, followers: BTreeMap::new() };
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = sender.closed() => return,
            }
            let looked = tokio::task::spawn_blocking(move || {
                let news = watch.look();
                (watch, news)
            });
            let Ok((next, news)) = looked.await else { return };
            watch = next;
            let (events, is_over) = match news {
                Ok(events) => (events, watch.run.status != RunStatus::Running),
                Err(error) => (vec![event("problem", &json!(error.to_string()))], false),
            };
            for event in events {
                if sender.send(event).await.is_err() {
                    return;
                }
            }
            if is_over {
                // The browser would reconnect again and again if the connection ended.
                sender.closed().await;
                return;
            }
        }
    });
    receiver
}

fn event(name: &str, value: &Value) -> Event {
    Event::default().event(name).data(value.to_string())
}

impl Watch {
    /// Returns the events since the last call.
    fn look(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        if let Some(now) = PastRun::named(&self.site.runs, &self.run.run).map_err(io::Error::other)? {
            self.run = now;
        }
        let rows = self.run.stage_rows(&self.site.workspace)?;
        let is_first = self.sent.is_null();
        // A stage that has just ended still has its last steps sent.
        let mut followed: Vec<Digest> = self.followers.keys().cloned().collect();
        for row in rows.iter().filter(|row| row.status == StageStatus::Running) {
            if !followed.contains(&row.key) {
                followed.push(row.key.clone());
            }
        }
        for key in followed {
            let is_new = !self.followers.contains_key(&key);
            let path = events_dir(&self.site.workspace, &key).join("events.jsonl");
            let follower = self.followers.entry(key.clone()).or_default();
            loop {
                let news = follower.read(&path)?;
                // The page itself requests the earlier steps.
                if !(is_first && is_new) {
                    let steps = news.steps.iter().map(|step| json!({ "step": step.step, "metrics": step.metrics }));
                    if !news.steps.is_empty() {
                        events.push(event("steps", &json!({ "key": key, "steps": steps.collect::<Vec<_>>() })));
                    }
                    let last = &news.completions[news.completions.len().saturating_sub(snapshot::COMPLETIONS)..];
                    if !last.is_empty() {
                        events.push(event("completions", &json!({ "key": key, "completions": last })));
                    }
                }
                if news.complete {
                    break;
                }
            }
        }
        self.followers.retain(|key, _| rows.iter().any(|row| row.key == *key && row.status == StageStatus::Running));
        let run = snapshot::run(&self.run, &rows);
        if run != self.sent {
            events.push(event("run", &run));
            self.sent = run;
        }
        let live = snapshot::live(&self.followers);
        if live != self.sent_live {
            events.push(event("live", &live));
            self.sent_live = live;
        }
        Ok(events)
    }
}
