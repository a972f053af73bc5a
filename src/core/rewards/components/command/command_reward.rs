//! The `command` component: questions to a program, and its answers.

use super::keys::CommandSpec;
use super::process::{Answers, Process};
use crate::digest::Digest;
use crate::event::FailureClass;
use crate::program::{Program, ProgramError};
use crate::rewards::remote::questions::{Extras, RewardQuestion, metrics, verdict_of_text};
use crate::rewards::text::explain::excerpt;
use crate::rewards::{ComponentMetric, Reward, RewardError, RewardValue, Sample, StopCheck};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The `command` component.
pub(in crate::rewards::components) struct Command {
    program: Program,
    timeout: Duration,
    stop: StopCheck,
    process: Option<Process>,
    starts: u64,
    /// The number of questions asked so far, which is the next question's `id`.
    asked: u64,
    /// The questions of the last batch with the program's answers.
    said: HashMap<String, Option<String>>,
    metrics: Vec<ComponentMetric>,
    extras: Extras,
    /// The program's own numbers for the last batch.
    sample_metrics: Vec<BTreeMap<String, f64>>,
    warnings: Vec<String>,
    /// Whether numbers that cannot be used have been reported.
    warned: bool,
}

impl Command {
    /// Prepares the command of `spec`. `place` finds its files, `variable` reads environment variables.
    pub(in crate::rewards::components) fn new(
        spec: &CommandSpec,
        extras: Extras,
        place: &dyn Fn(&Digest) -> Option<PathBuf>,
        variable: &dyn Fn(&str) -> Option<String>,
        stop: &StopCheck,
    ) -> Result<Self, ProgramError> {
        let CommandSpec { command, files, env, timeout_s, send: _ } = spec;
        Ok(Self {
            program: Program::new(command, files, env, place, variable)?,
            timeout: Duration::from_secs_f64(*timeout_s),
            stop: stop.clone(),
            process: None,
            starts: 0,
            asked: 0,
            said: HashMap::new(),
            metrics: Vec::new(),
            extras,
            sample_metrics: Vec::new(),
            warnings: Vec::new(),
            warned: false,
        })
    }

    /// The program, started if it is not running, or the reason why it cannot be started now.
    fn process(&mut self) -> Result<Result<&mut Process, String>, RewardError> {
        if !self.process.as_ref().is_some_and(Process::is_ready) {
            self.process = None;
            self.check_files()?;
            self.starts += 1;
            match Process::start(&mut self.program.command()) {
                Ok(process) => self.process = Some(process),
                Err(error) => return Ok(Err(format!("it cannot be started: {error}"))),
            }
        }
        Ok(Ok(self.process.as_mut().expect("it was started")))
    }

    /// Asks the program. After a failure the program is ended.
    fn ask(&mut self, questions: &[u8], ids: &Range<u64>, time: Duration) -> Result<Answers, RewardError> {
        let stop = self.stop.clone();
        let answers = match self.process()? {
            Ok(process) => process.ask(questions.to_vec(), ids, time, &stop),
            Err(reason) => Answers { lines: Vec::new(), failure: Some(reason), had_ended: false, interrupted: false },
        };
        if answers.interrupted {
            self.process = None;
            return Err(RewardError::interrupted());
        }
        if answers.failure.is_some() {
            self.process = None;
        }
        Ok(answers)
    }

    /// Returns the program's own numbers in an answer. The first that cannot be used is warned of.
    fn numbers(&mut self, line: &str) -> BTreeMap<String, f64> {
        let answer = serde_json::from_str(line).unwrap_or_default();
        metrics(&answer).unwrap_or_else(|reason| {
            if !std::mem::replace(&mut self.warned, true) {
                self.warnings.push(format!("numbers are left out: {reason}"));
            }
            BTreeMap::new()
        })
    }

    /// Checks that the files still have the digests in the cache key: else the result would be cached under a wrong
    /// key.
    fn check_files(&self) -> Result<(), RewardError> {
        self.program.check_files(digest_of).map_err(|changed| RewardError {
            message: changed.to_string(),
            hint: Some(changed.hint().to_owned()),
            class: FailureClass::Input,
        })
    }
}

/// Returns the question as a JSON object, without its `id`.
pub(super) fn question(sample: &Sample<'_>, text: Option<&str>) -> String {
    serde_json::to_string(&RewardQuestion::new(sample, text)).expect("a question serializes")
}

/// Returns the digest of the file's bytes.
pub(super) fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = fs_err::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_sha256(hasher)),
            count => hasher.update(&buffer[..count]),
        }
    }
}

impl Reward for Command {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        if samples.is_empty() {
            return Ok(Vec::new());
        }
        let questions = self.extras.questions(samples, texts);
        let questions: Vec<String> =
            questions.iter().map(|asked| serde_json::to_string(asked).expect("a question serializes")).collect();
        let first = self.asked;
        self.asked += samples.len() as u64;
        let ids = first..self.asked;
        let numbered = |(id, question): (u64, &String)| format!("{{\"id\":{id},{}\n", &question[1..]);
        let lines: String = ids.clone().zip(&questions).map(numbered).collect();
        let (began, starts) = (Instant::now(), self.starts);
        let time = self.timeout;
        let mut answers = self.ask(lines.as_bytes(), &ids, time)?;
        if answers.had_ended && self.starts == starts {
            answers = self.ask(lines.as_bytes(), &ids, time)?;
        }
        let Answers { lines, failure, .. } = answers;
        let restarts = self.starts.saturating_sub(starts.max(1));
        self.metrics = vec![
            ComponentMetric::count("restarts", restarts as f64),
            ComponentMetric::mean("latency_s", began.elapsed().as_secs_f64()),
        ];
        let mut verdicts: Vec<RewardValue> =
            lines.iter().map(|line| verdict_of_text(line).unwrap_or_else(RewardValue::Missing)).collect();
        let numbers: Vec<BTreeMap<String, f64>> = lines.iter().map(|line| self.numbers(line)).collect();
        self.sample_metrics = numbers;
        self.sample_metrics.resize(samples.len(), BTreeMap::new());
        let said = lines.into_iter().map(|line| Some(line.trim_end().to_owned())).chain(std::iter::repeat(None));
        let asked = samples.iter().zip(texts).map(|(sample, text)| question(sample, *text));
        self.said = asked.zip(said).collect();
        let reason = failure.unwrap_or_default();
        verdicts.resize(samples.len(), RewardValue::Missing(reason));
        Ok(verdicts)
    }

    fn explain(&mut self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let sent = RewardQuestion::new(sample, text).shown();
        Some(match self.said.get(&question(sample, text))? {
            Some(answer) => format!("it is sent {sent}, besides the `id`, and answers {}", excerpt(answer)),
            None => format!("it is sent {sent}, besides the `id`, and gives no answer"),
        })
    }

    fn metrics(&self) -> Vec<ComponentMetric> {
        self.metrics.clone()
    }

    fn set_step(&mut self, step: u64) {
        self.extras.set_step(step);
    }

    fn sample_metrics(&self) -> &[BTreeMap<String, f64>] {
        &self.sample_metrics
    }

    fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }
}
