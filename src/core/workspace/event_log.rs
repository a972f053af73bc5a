//! The events of an attempt or a checkpoint. They are read one by one, because a stage may have a million completions.

use super::attempt::EVENTS;
use super::error::WorkspaceError;
use crate::event::{Completion, Event, EventKind, Measurement, Started, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Take};
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};

pub use crate::stage::COMPLETIONS;

/// The valid events of a stage: steps that a resumed worker repeated count only once (see [`crate::event`]).
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    /// The length of the file in bytes when it was opened.
    length: u64,
    /// The starts of all workers on the stage.
    starts: Vec<Started>,
    /// The last valid step after the first `i` starts; a later start invalidates further steps.
    limits: Vec<u64>,
    completion_steps: BTreeSet<u64>,
    /// The results that the stage reported last.
    results: BTreeMap<String, Measurement>,
}

/// A line, parsed as far as necessary.
enum Line<'a> {
    /// A completion of this step, which [`parsed`] parses fully.
    Completion(u64, &'a [u8]),
    Event(Event),
}

impl EventLog {
    /// Scans the events in the directory `dir`, which may not exist. An incomplete last line is ignored.
    pub fn open(dir: &Path) -> Result<Self, WorkspaceError> {
        let path = dir.join(EVENTS);
        let length = match fs_err::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error.into()),
        };
        let mut log = Self {
            path,
            length,
            starts: Vec::new(),
            limits: Vec::new(),
            completion_steps: BTreeSet::new(),
            results: BTreeMap::new(),
        };
        let mut lines = log.lines()?;
        while let Some(line) = lines.next_line()? {
            match line {
                Line::Completion(step, _) => {
                    log.completion_steps.insert(step);
                }
                Line::Event(Event { kind: EventKind::Started(started), .. }) => {
                    // Steps count from 1.
                    log.completion_steps.split_off(&(resumed_from(&started) + 1));
                    log.starts.push(started);
                }
                Line::Event(Event { kind: EventKind::Finished(results), .. }) => log.results = results,
                Line::Event(_) => {}
            }
        }
        log.limits = vec![u64::MAX; log.starts.len() + 1];
        for (i, started) in log.starts.iter().enumerate().rev() {
            log.limits[i] = log.limits[i + 1].min(resumed_from(started));
        }
        Ok(log)
    }

    /// Returns the starts of all workers on the stage, in order.
    pub fn starts(&self) -> &[Started] {
        &self.starts
    }

    /// Returns the steps that have completions.
    pub fn completion_steps(&self) -> &BTreeSet<u64> {
        &self.completion_steps
    }

    /// Returns the stage's results; empty where it has not finished.
    pub fn results(&self) -> &BTreeMap<String, Measurement> {
        &self.results
    }

    /// Returns the completions of these steps, in order.
    pub fn completions(
        &self,
        steps: impl RangeBounds<u64>,
    ) -> Result<impl Iterator<Item = Result<Completion, WorkspaceError>>, WorkspaceError> {
        // a stage without completions is not read again to find none
        let lines = if self.completion_steps.is_empty() { self.no_lines() } else { self.lines()? };
        Ok(self.pick(lines, move |line, limit, path| match line {
            Line::Completion(step, bytes) if step <= limit && steps.contains(&step) => match parsed(bytes, path) {
                Ok(Event { kind: EventKind::Completion(completion), .. }) => Some(Ok(*completion)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            },
            _ => None,
        }))
    }

    /// Returns the steps with their metrics, in order.
    pub fn steps(&self) -> Result<impl Iterator<Item = Result<Step, WorkspaceError>>, WorkspaceError> {
        Ok(self.pick(self.lines()?, |line, limit, _| match line {
            Line::Event(Event { kind: EventKind::Step(step), .. }) if step.step <= limit => Some(Ok(step)),
            _ => None,
        }))
    }

    /// Applies `wanted` to the lines, each with the last step that is valid there, and returns the values it selects.
    fn pick<T>(
        &self,
        mut lines: Lines,
        wanted: impl Fn(Line<'_>, u64, &Path) -> Option<Result<T, WorkspaceError>>,
    ) -> impl Iterator<Item = Result<T, WorkspaceError>> {
        let mut starts = 0;
        std::iter::from_fn(move || {
            loop {
                match lines.next_line() {
                    Ok(None) => return None,
                    Err(error) => return Some(Err(error)),
                    Ok(Some(Line::Event(Event { kind: EventKind::Started(_), .. }))) => starts += 1,
                    Ok(Some(line)) => {
                        if let Some(found) = wanted(line, self.limits[starts], &self.path) {
                            return Some(found);
                        }
                    }
                }
            }
        })
    }

    fn no_lines(&self) -> Lines {
        Lines { path: self.path.clone(), file: None, line: Vec::new() }
    }

    fn lines(&self) -> Result<Lines, WorkspaceError> {
        let file = if self.length == 0 { None } else { Some(fs_err::File::open(&self.path)?.take(self.length)) };
        Ok(Lines { path: self.path.clone(), file: file.map(BufReader::new), line: Vec::new() })
    }
}

struct Lines {
    path: PathBuf,
    file: Option<BufReader<Take<fs_err::File>>>,
    line: Vec<u8>,
}

impl Lines {
    fn next_line(&mut self) -> Result<Option<Line<'_>>, WorkspaceError> {
        let Some(file) = &mut self.file else { return Ok(None) };
        self.line.clear();
        file.read_until(b'\n', &mut self.line)?;
        if !self.line.ends_with(b"\n") {
            return Ok(None);
        }
        if let Some(step) = step_of_completion(&self.line) {
            return Ok(Some(Line::Completion(step, &self.line)));
        }
        Ok(Some(match parsed(&self.line, &self.path)? {
            Event { kind: EventKind::Completion(completion), .. } => Line::Completion(completion.step, &self.line),
            event => Line::Event(event),
        }))
    }
}

fn parsed(line: &[u8], path: &Path) -> Result<Event, WorkspaceError> {
    serde_json::from_slice(line).map_err(|source| WorkspaceError::Malformed { path: path.to_owned(), source })
}

fn resumed_from(started: &Started) -> u64 {
    started.resumed_from_step.unwrap_or(0)
}

/// Returns the step of a completion from the beginning of its line, in the form that `Attempt::append` writes.
fn step_of_completion(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"{\"at\":\"")?;
    let rest = &rest[rest.iter().position(|&byte| byte == b'"')?..];
    let rest = rest.strip_prefix(b"\",\"kind\":{\"completion\":{\"step\":")?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ComponentScore, StopReason};

    fn line(kind: EventKind) -> String {
        serde_json::to_string(&Event { at: chrono::Utc::now(), kind, energy_j: None, peak_memory: None }).unwrap()
            + "\n"
    }

    fn started(resumed_from_step: Option<u64>) -> String {
        line(EventKind::Started(Started {
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
            total_steps: 9,
        }))
    }

    fn completion(step: u64, text: &str) -> String {
        line(EventKind::Completion(Box::new(Completion {
            step,
            row: 0,
            index: 0,
            prompt: "\",\"kind\":{\"started\":".to_owned(),
            completion: text.to_owned(),
            reference: None,
            answer: None,
            tokens: 3,
            stop_reason: StopReason::StopToken,
            player: None,
            reward: Some(0.5),
            advantage: None,
            parts: BTreeMap::from([(
                "format".to_owned(),
                ComponentScore { value: Some(0.5), weight: 1.0, missing: None },
            )]),
            eval: None,
        })))
    }

    fn step(step: u64, loss: f64) -> String {
        let metrics = BTreeMap::from([("train/loss".to_owned(), loss)]);
        line(EventKind::Step(Step { step, total_steps: 9, metrics }))
    }

    fn open(lines: &[String]) -> (tempfile::TempDir, EventLog) {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join(EVENTS), lines.concat()).unwrap();
        let log = EventLog::open(dir.path()).unwrap();
        (dir, log)
    }

    fn texts(log: &EventLog, steps: impl RangeBounds<u64>) -> Vec<String> {
        log.completions(steps).unwrap().map(|completion| completion.unwrap().completion).collect()
    }

    #[test]
    fn what_a_resumed_worker_did_again_is_taken_back() {
        let lines = [
            vec![started(None), completion(1, "1"), step(1, 1.0), completion(2, "2"), step(2, 2.0)],
            vec![completion(3, "3"), step(3, 3.0), completion(4, "4")],
            vec![started(Some(2)), completion(3, "3 again"), step(3, 3.5), completion(4, "4 again"), step(4, 4.5)],
            vec![started(Some(3)), completion(4, "4 at last"), step(4, 4.75)],
        ]
        .concat();
        let (_dir, log) = open(&lines);
        assert_eq!(texts(&log, ..), ["1", "2", "3 again", "4 at last"]);
        assert_eq!(texts(&log, 2..=3), ["2", "3 again"]);
        assert_eq!(log.completion_steps(), &BTreeSet::from([1, 2, 3, 4]));
        let losses: Vec<f64> = log.steps().unwrap().map(|step| step.unwrap().metrics["train/loss"]).collect();
        assert_eq!(losses, [1.0, 2.0, 3.5, 4.75]);
        assert_eq!(log.starts().len(), 3);
    }

    #[test]
    fn a_start_from_the_beginning_takes_back_everything() {
        let (_dir, log) = open(&[started(None), completion(1, "1"), completion(2, "2"), started(None)]);
        assert_eq!(texts(&log, ..), [""; 0]);
        assert!(log.completion_steps().is_empty());
    }

    #[test]
    fn an_unfinished_line_is_no_event_and_no_file_is_no_events() {
        let half = completion(2, "2");
        let (_dir, log) = open(&[completion(1, "1"), half[..half.len() - 5].to_owned()]);
        assert_eq!(texts(&log, ..), ["1"]);
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(texts(&EventLog::open(empty.path()).unwrap(), ..), [""; 0]);
    }

    #[test]
    fn fields_in_another_order_are_read_too_and_a_broken_line_is_an_error() {
        let written = completion(7, "7");
        let mut value: serde_json::Value = serde_json::from_str(&written).unwrap();
        let at = value["at"].take();
        let turned = serde_json::json!({"kind": value["kind"], "at": at}).to_string() + "\n";
        assert_eq!((step_of_completion(turned.as_bytes()), step_of_completion(written.as_bytes())), (None, Some(7)));
        let (_dir, log) = open(&[turned]);
        assert_eq!(texts(&log, 7..=7), ["7"]);
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join(EVENTS), "{\"at\":\n").unwrap();
        assert!(matches!(EventLog::open(dir.path()), Err(WorkspaceError::Malformed { .. })));
    }
}
