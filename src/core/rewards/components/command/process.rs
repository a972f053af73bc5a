//! A program that answers line by line: it is started, asked in batches, and killed with its children.

use crate::program::ProgramProcess;
use crate::rewards::StopCheck;
use crate::rewards::components::judge::shortened;
use crate::rewards::remote::stop::HEARD_WITHIN;
use serde_json::Value;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::ops::Range;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The largest size of a line; a longer one is not an answer.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// The number of lines that wait to be read; a program that writes more is blocked.
const LINES: usize = 64;
/// The time after the last answer within which a surplus line is detected immediately.
const QUIET: Duration = Duration::from_millis(20);
/// The time that a program has to end by itself when it is no longer needed.
const GRACE: Duration = Duration::from_secs(1);
/// The time to wait for the exit status and the last line of standard error.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// A running program that answers questions.
pub(super) struct Process {
    program: ProgramProcess,
    stdin: Option<ChildStdin>,
    lines: Receiver<io::Result<String>>,
    errors: Errors,
    is_healthy: bool,
}

/// The result of one batch of questions.
#[derive(Debug)]
pub(super) struct Answers {
    /// The answers in the order of the questions, from the first one on.
    pub(super) lines: Vec<String>,
    /// The reason why answers are missing, or why the program cannot be asked again.
    pub(super) failure: Option<String>,
    /// Whether the program ended before it answered anything, perhaps because of the previous batch.
    pub(super) had_ended: bool,
    /// Whether rating was asked to stop before all answers arrived.
    pub(super) interrupted: bool,
}

/// The program's standard error.
struct Errors {
    last: Arc<Mutex<String>>,
    end: Receiver<()>,
}

impl Process {
    /// Starts `command` and copies its standard error to this process's.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut program = ProgramProcess::start(command)?;
        let child = program.child();
        let (sender, lines) = sync_channel(LINES);
        let output = child.stdout.take().expect("it is piped");
        std::thread::spawn(move || read_lines(output, &sender));
        let errors = Errors::follow(child.stderr.take().expect("it is piped"));
        let stdin = child.stdin.take();
        Ok(Self { program, stdin, lines, errors, is_healthy: true })
    }

    /// Whether the program is running and all its output has been read, so that it can be asked.
    pub(super) fn is_ready(&self) -> bool {
        self.is_healthy && self.program.has_ended().is_none() && self.lines.try_recv().is_err()
    }

    /// Writes `questions`, one per line with these `ids`, and reads as many lines, for at most `time`.
    pub(super) fn ask(&mut self, questions: Vec<u8>, ids: &Range<u64>, time: Duration, stop: &StopCheck) -> Answers {
        let count = usize::try_from(ids.end - ids.start).expect("a batch is in memory");
        let deadline = Instant::now() + time;
        let mut answers =
            Answers { lines: Vec::with_capacity(count), failure: None, had_ended: false, interrupted: false };
        let Some(mut stdin) = self.stdin.take() else {
            return Answers { failure: Some("it cannot be asked again".to_owned()), ..answers };
        };
        let (sender, written) = channel();
        // In a thread of its own, because the program may block until its output is read. A stuck thread is abandoned.
        std::thread::spawn(move || {
            let result = stdin.write_all(&questions).and_then(|()| stdin.flush());
            let _ = sender.send(result.map(|()| stdin));
        });
        for id in ids.clone() {
            let number = answers.lines.len() + 1;
            let Some(line) = self.next_line(deadline, stop) else {
                answers.interrupted = true;
                break;
            };
            answers.failure = match line {
                // a line that is not an object answers nothing, and it is unknown which question the next line answers
                Ok(Ok(line)) if !line.trim_start().starts_with('{') => {
                    Some(format!("line {number} of {count} is not a JSON object: {}", shortened(&line)))
                }
                Ok(Ok(line)) => {
                    let other = other_id(&line, id).map(|found| format!("its line {number} of {count} {found}"));
                    if other.is_none() {
                        answers.lines.push(line);
                    }
                    other
                }
                Ok(Err(error)) => Some(format!("its line {number} of {count} cannot be read: {error}")),
                Err(RecvTimeoutError::Timeout) => Some(format!(
                    "it has given {} of {count} answers within {} s (`timeout_s`; it must flush each line)",
                    number - 1,
                    time.as_secs_f64(),
                )),
                Err(RecvTimeoutError::Disconnected) => {
                    answers.had_ended = number == 1;
                    Some(format!("it {} after {} of {count} answers{}", self.end(), number - 1, self.errors.last()))
                }
            };
            if answers.failure.is_some() {
                break;
            }
        }
        if answers.failure.is_none() && !answers.interrupted {
            match self.lines.recv_timeout(QUIET) {
                // it is unknown which lines belong to which question
                Ok(_) => {
                    answers.lines.clear();
                    answers.failure = Some(format!("it writes more than {count} lines for {count} questions"));
                }
                // all questions are answered, so the answers are valid
                Err(RecvTimeoutError::Disconnected) => self.is_healthy = false,
                Err(RecvTimeoutError::Timeout) => match written.recv_timeout(QUIET) {
                    Ok(Ok(stdin)) => self.stdin = Some(stdin),
                    _ => self.is_healthy = false,
                },
            }
        }
        self.is_healthy &= answers.failure.is_none() && !answers.interrupted;
        answers
    }

    /// Returns the next line of the output, or the reason for its absence by the deadline; `None` when rating should
    /// stop first.
    fn next_line(&self, deadline: Instant, stop: &StopCheck) -> Option<Result<io::Result<String>, RecvTimeoutError>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(HEARD_WITHIN)) {
                Err(RecvTimeoutError::Timeout) if stop.is_due() => return None,
                Err(RecvTimeoutError::Timeout) if left > HEARD_WITHIN => {}
                line => return Some(line),
            }
        }
    }

    /// A description of the program's end, after its output has ended.
    fn end(&self) -> String {
        self.within(LAST_WORDS).unwrap_or_else(|| "closed its output".to_owned())
    }

    /// Returns a description of the program's end, if it ends within `time`.
    fn within(&self, time: Duration) -> Option<String> {
        let deadline = Instant::now() + time;
        loop {
            let end = self.program.has_ended().map(|end| end.to_string());
            if end.is_some() || Instant::now() >= deadline {
                return end;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stdin.take());
        if self.is_healthy {
            self.within(GRACE);
        }
    }
}

impl Errors {
    fn follow(errors: impl Read + Send + 'static) -> Self {
        let last = Arc::new(Mutex::new(String::new()));
        let (sender, end) = channel();
        let shared = Arc::clone(&last);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(errors);
            let mut line = Vec::new();
            while reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                // a full disk must not block the program
                let _ = io::stderr().write_all(&line);
                let text = String::from_utf8_lossy(&line);
                if !text.trim().is_empty() {
                    *shared.lock().unwrap_or_else(PoisonError::into_inner) = shortened(&text);
                }
                line.clear();
            }
            drop(sender);
        });
        Self { last, end }
    }

    /// The last line of standard error after `: `; empty if the program wrote none.
    fn last(&self) -> String {
        let _ = self.end.recv_timeout(LAST_WORDS);
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_empty() { String::new() } else { format!(": {last}") }
    }
}

/// Returns a description of the mismatch if `line` answers another question than `id`; `None` if it matches.
///
/// A surplus or missing line would shift all following answers. A line that is not JSON has no known id; the next line
/// reveals a shift.
fn other_id(line: &str, id: u64) -> Option<String> {
    let answer: Value = serde_json::from_str(line).ok()?;
    match answer.get("id") {
        Some(found) if found.as_u64() == Some(id) => None,
        Some(found) => Some(format!("has the `id` {found}, not that of its question, {id}: {}", shortened(line))),
        None => Some(format!("does not repeat the `id` of its question, {id}: {}", shortened(line))),
    }
}

/// Sends every line of `output` until it ends, cannot be read, or the receiver is gone.
fn read_lines(output: impl Read, sender: &SyncSender<io::Result<String>>) {
    let mut reader = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        let read = match reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if line.len() as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') => {
                Err(io::Error::other(format!("it is longer than {MAX_LINE_BYTES} bytes")))
            }
            Ok(_) => Ok(String::from_utf8_lossy(&line).into_owned()),
            Err(error) => Err(error),
        };
        let is_last = read.is_err();
        if sender.send(read).is_err() || is_last {
            return;
        }
    }
}
