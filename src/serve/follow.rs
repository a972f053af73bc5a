//! Follows the events of one stage while its worker writes them.

use crate::event::{Completion, Event, EventKind, Step};
use crate::report::StageLine;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// The number of bytes per read; a long history takes several reads.
const READ_BYTES: u64 = 8 << 20;

/// A stage's new events.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Steps, in order. Those of a resumed worker replace earlier ones of the same number.
    pub(super) steps: Vec<Step>,
    /// New completions.
    pub(super) completions: Vec<Completion>,
    /// Whether the file was read to its end.
    pub(super) complete: bool,
}

/// The reading position in a stage's events, and the stage's progress.
#[derive(Debug, Default)]
pub(super) struct Follower {
    offset: u64,
    line: StageLine,
}

impl Follower {
    /// Returns the stage's progress.
    pub(super) fn line(&self) -> &StageLine {
        &self.line
    }

    /// Reads the new events of `path`, which need not exist yet. An incomplete last line is left for the next time.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<News> {
        let mut file = match fs_err::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(News { complete: true, ..News::default() }),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        if length < self.offset {
            *self = Self::default(); // another attempt from the beginning
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.take(READ_BYTES).read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let complete = self.offset + bytes.len() as u64 >= length;
        self.offset += whole as u64;
        let mut news = News { complete, ..News::default() };
        for line in bytes[..whole].split_inclusive(|&byte| byte == b'\n') {
            // Unreadable lines are reported by other commands.
            let Ok(Event { at, kind, .. }) = serde_json::from_slice(line) else { continue };
            self.line.event(at, &kind);
            match kind {
                EventKind::Step(step) => news.steps.push(step),
                EventKind::Completion(completion) => news.completions.push(*completion),
                _ => {}
            }
        }
        Ok(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Write as _;

    fn step(step: u64) -> String {
        let step = Step { step, total_steps: 9, metrics: BTreeMap::new() };
        serde_json::to_string(&Event {
            at: chrono::Utc::now(),
            kind: EventKind::Step(step),
            energy_j: None,
            peak_memory: None,
        })
        .unwrap()
            + "\n"
    }

    #[test]
    fn only_what_is_new_is_reported_and_half_a_line_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut follower = Follower::default();
        assert!(follower.read(&path).unwrap().steps.is_empty());

        let second = step(2);
        fs_err::write(&path, step(1) + &second[..10]).unwrap();
        let numbers = |news: News| news.steps.iter().map(|step| step.step).collect::<Vec<_>>();
        assert_eq!(numbers(follower.read(&path).unwrap()), [1]);
        fs_err::OpenOptions::new().append(true).open(&path).unwrap().write_all(&second.as_bytes()[10..]).unwrap();
        assert_eq!(numbers(follower.read(&path).unwrap()), [2]);
        assert_eq!(numbers(follower.read(&path).unwrap()), [0; 0]);
        assert_eq!(follower.line().position(), (2, 9));

        fs_err::write(&path, step(7)).unwrap();
        assert_eq!(numbers(follower.read(&path).unwrap()), [7], "a shorter file is another attempt");
    }
}
