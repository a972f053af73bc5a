//! The live display of a run, on stderr.
//!
//! On a terminal, each running stage has a moving line, and each stage that ended has a permanent one. Elsewhere,
//! plain lines appear at every change of phase, and every ten seconds or tenth of the way.

use super::paint::Paint;
use super::stage_line::StageLine;
use crate::event::{Event, EventKind};
use crate::number::duration;
use crate::printable::harmless;
use crate::run_update::{Retry, RunUpdate};
use chrono::{DateTime, Utc};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// The minimum seconds between plain lines...
const PLAIN_EVERY_S: f64 = 10.0;
/// ... or, for a quick stage, the fraction of its steps between them, but at most one line per second.
const PLAIN_SHARE: f64 = 0.1;
const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// The amount of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressMode {
    /// Moving lines on a terminal, plain lines elsewhere.
    Auto,
    /// Failures and warnings only.
    Quiet,
}

/// The live display.
pub struct Progress {
    mode: ProgressMode,
    bars: Option<MultiProgress>,
    paint: Paint,
    titles: Vec<String>,
    title_width: usize,
    live: BTreeMap<usize, Live>,
    /// The line about the whole run, below the others.
    overall: Option<ProgressBar>,
    began: Instant,
    /// The number of ended stages in the last plain line about the run.
    reported: usize,
}

struct Live {
    line: StageLine,
    bar: Option<ProgressBar>,
    plain_at: DateTime<Utc>,
    plain_step: u64,
}

impl Progress {
    /// Creates a display of the stages with these titles. Stages are identified by their index.
    pub fn new(mode: ProgressMode, titles: Vec<String>) -> Self {
        let bars = (mode == ProgressMode::Auto && std::io::stderr().is_terminal())
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        let title_width = titles.iter().map(|title| title.chars().count()).max().unwrap_or(0);
        Self {
            mode,
            bars,
            paint: Paint::for_stderr(),
            titles,
            title_width,
            live: BTreeMap::new(),
            overall: None,
            began: Instant::now(),
            reported: 0,
        }
    }

    /// Shows an update of a run.
    pub fn update(&mut self, update: &RunUpdate) {
        let now = Utc::now();
        match update {
            RunUpdate::Cached { stages } => self.hits(stages),
            RunUpdate::Started { stage } => self.started(*stage, now),
            RunUpdate::Waiting { stage, owner } => self.waiting(*stage, owner),
            RunUpdate::Worked { stage, events } => {
                for event in events {
                    self.event(*stage, event);
                }
            }
            RunUpdate::Retried { stage, failure, retry, .. } => self.retrying(*stage, &failure.message, *retry),
            RunUpdate::Done { stage, seconds, .. } => self.finished(*stage, *seconds),
            RunUpdate::Failed { stage, failure, .. } => self.failed(*stage, &failure.message),
            RunUpdate::Stopped { stage, step, .. } => self.stopped(*stage, *step),
            RunUpdate::Skipped { stage, because } => self.skipped(*stage, because),
            RunUpdate::Note { stage: Some(stage), message } => self.stage_note(*stage, message),
            RunUpdate::Note { stage: None, message } => self.note(message),
            RunUpdate::Warning { message } => self.warn(message),
            RunUpdate::Stopping { stages, grace_s } => self.note(&stopping(stages, *grace_s)),
            RunUpdate::Overall { ended, stages, eta_s } => self.overall(*ended, *stages, *eta_s),
            RunUpdate::Tick => self.tick(now),
            RunUpdate::Ended => self.clear(),
            RunUpdate::Energy { .. } | RunUpdate::Memory { .. } => {}
        }
    }

    /// Shows cache hits. All lines are one write, because there may be thousands of them.
    fn hits(&mut self, stages: &[usize]) {
        if stages.is_empty() || self.mode == ProgressMode::Quiet {
            return;
        }
        let word = self.paint.dim(" cached");
        let lines: Vec<String> = stages.iter().map(|&stage| self.line(&word, stage, "")).collect();
        self.write(&lines.join("\n"));
    }

    /// Shows that a worker started on the stage.
    fn started(&mut self, stage: usize, now: DateTime<Utc>) {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = ProgressBar::new(1).with_style(bar_style());
            let bar = match &self.overall {
                Some(overall) => bars.insert_before(overall, bar),
                None => bars.add(bar),
            };
            bar.set_prefix(self.padded_title(stage));
            bar.enable_steady_tick(REDRAW_EVERY);
            bar.set_message("starting");
            bar
        });
        if bar.is_none() {
            self.plain(stage, "started");
        }
        self.live.insert(stage, Live { line: StageLine::default(), bar, plain_at: now, plain_step: 0 });
    }

    /// Shows that another process, `owner`, works on the stage.
    fn waiting(&mut self, stage: usize, owner: &str) {
        let message = format!("waiting for {owner}, which works on the same stage");
        self.end_live(stage);
        let word = self.paint.yellow("waiting");
        self.stay(&word, stage, &message);
    }

    /// Shows an event of the stage's worker.
    fn event(&mut self, stage: usize, event: &Event) {
        let Some(live) = self.live.get_mut(&stage) else { return };
        let phase_before = live.line.phase().map(str::to_owned);
        live.line.event(event.at, &event.kind);
        match &event.kind {
            EventKind::Started(_) => {
                if let Some(step) = live.line.resumed_from_step() {
                    self.note_of(stage, &format!("goes on after step {step}"));
                }
            }
            EventKind::Phase(phase) if live.bar.is_none() && phase_before.as_ref() != Some(phase) => {
                self.plain(stage, phase);
            }
            EventKind::StepPart(_)
                if live.bar.is_none() && (event.at - live.plain_at).as_seconds_f64() >= PLAIN_EVERY_S =>
            {
                live.plain_at = event.at;
                let line = live.line.progress(event.at);
                self.plain(stage, &line);
            }
            EventKind::Step(step) => {
                let since_s = (event.at - live.plain_at).as_seconds_f64();
                let share = step.step.saturating_sub(live.plain_step) as f64 / step.total_steps.max(1) as f64;
                if live.bar.is_none() && (since_s >= PLAIN_EVERY_S || (share >= PLAIN_SHARE && since_s >= 1.0)) {
                    live.plain_at = event.at;
                    live.plain_step = step.step;
                    let line = live.line.progress(event.at);
                    self.plain(stage, &line);
                }
            }
            EventKind::Warning(warning) => {
                let word = self.paint.yellow("warning");
                self.always(&word, stage, warning);
            }
            _ => {}
        }
    }

    /// Shows the progress of the whole run: the number of ended stages, and the seconds left, if known.
    fn overall(&mut self, ended: usize, stages: usize, eta_s: Option<f64>) {
        // Plain lines appear once for each ended stage.
        let is_news = self.bars.is_some() || (self.mode == ProgressMode::Auto && ended > self.reported);
        if stages < 2 || !is_news {
            return; // the line of a single stage shows it
        }
        let left = eta_s.map_or_else(String::new, |seconds| format!(", about {} left", duration(seconds)));
        let line = format!("{ended} of {stages} stages, {}{left}", duration(self.began.elapsed().as_secs_f64()));
        let line = self.paint.dim(&line);
        let Some(bars) = &self.bars else {
            self.reported = ended;
            if ended < stages {
                self.note(&format!("         {line}"));
            }
            return;
        };
        let style = || ProgressStyle::with_template("      {msg}").expect("the template is valid");
        let overall = self.overall.get_or_insert_with(|| bars.add(ProgressBar::new(1).with_style(style())));
        overall.set_message(line);
    }

    /// Removes the moving lines.
    fn clear(&mut self) {
        for stage in self.live.keys().copied().collect::<Vec<_>>() {
            self.end_live(stage);
        }
        if let Some(overall) = self.overall.take() {
            overall.finish_and_clear();
        }
    }

    /// Updates the moving lines.
    fn tick(&self, now: DateTime<Utc>) {
        for live in self.live.values() {
            if let Some(bar) = &live.bar {
                let (step, total) = live.line.position();
                bar.set_length(total.max(1));
                bar.set_position(step);
                bar.set_message(harmless(&live.line.progress(now)));
            }
        }
    }

    /// Shows that the stage's checkpoint is committed.
    fn finished(&mut self, stage: usize, seconds: f64) {
        let summary = self.end_live(stage).map(|line| line.summary()).unwrap_or_default();
        let word = self.paint.green("     ok");
        self.stay(&word, stage, &format!("{:>7}  {summary}", duration(seconds)));
    }

    /// Shows that the stage failed.
    fn failed(&mut self, stage: usize, message: &str) {
        self.end_live(stage);
        let word = self.paint.red(" failed");
        self.always(&word, stage, message);
    }

    /// Shows that a try at the stage failed and will be repeated.
    fn retrying(&mut self, stage: usize, message: &str, Retry { after, checkpointing }: Retry) {
        self.end_live(stage);
        let pause = if after.is_zero() { String::new() } else { format!(" in {} s", after.as_secs_f64()) };
        let how = if checkpointing { " with gradient checkpointing" } else { "" };
        let word = self.paint.yellow("  retry");
        self.always(&word, stage, &format!("{message}; tried again{pause}{how}"));
    }

    /// Shows a note about one stage.
    fn stage_note(&self, stage: usize, message: &str) {
        let word = self.paint.yellow("   note");
        self.stay(&word, stage, message);
    }

    /// Shows that the stage stopped on request after `step`.
    fn stopped(&mut self, stage: usize, step: Option<u64>) {
        self.end_live(stage);
        let message = match step {
            None | Some(0) => "no step done".to_owned(),
            Some(step) => format!("resume point after step {step}"),
        };
        let word = self.paint.yellow("stopped");
        self.stay(&word, stage, &message);
    }

    /// Shows that the stage is skipped because of another.
    fn skipped(&mut self, stage: usize, because: &str) {
        let word = self.paint.yellow("skipped");
        self.stay(&word, stage, because);
    }

    /// Shows a note about the whole run.
    fn note(&self, message: &str) {
        if self.mode != ProgressMode::Quiet {
            self.write(&harmless(message));
        }
    }

    /// Shows a warning about the whole run, even in quiet mode.
    fn warn(&self, message: &str) {
        self.write(&format!("{} {}", self.paint.yellow("warning:"), harmless(message)));
    }

    fn note_of(&self, stage: usize, message: &str) {
        let word = self.paint.dim("resumed");
        self.stay(&word, stage, message);
    }

    fn end_live(&mut self, stage: usize) -> Option<StageLine> {
        let live = self.live.remove(&stage)?;
        if let Some(bar) = &live.bar {
            bar.finish_and_clear();
            if let Some(bars) = &self.bars {
                bars.remove(bar);
            }
        }
        Some(live.line)
    }

    fn plain(&self, stage: usize, message: &str) {
        let word = self.paint.dim("running");
        self.stay(&word, stage, message);
    }

    fn stay(&self, word: &str, stage: usize, message: &str) {
        if self.mode != ProgressMode::Quiet {
            self.always(word, stage, message);
        }
    }

    fn always(&self, word: &str, stage: usize, message: &str) {
        self.write(&self.line(word, stage, message));
    }

    fn line(&self, word: &str, stage: usize, message: &str) -> String {
        let title = &self.titles[stage];
        let mut line = format!("{word}  {title:<width$}  {}", harmless(message), width = self.title_width);
        line.truncate(line.trim_end().len());
        line
    }

    fn padded_title(&self, stage: usize) -> String {
        format!("{:<width$}", self.titles[stage], width = self.title_width)
    }

    /// A closed terminal must not stop training, so failures to write are ignored.
    fn write(&self, line: &str) {
        let _ = match &self.bars {
            Some(bars) => bars.println(line),
            None => std::io::stderr().write_all(format!("{line}\n").as_bytes()), // one write
        };
    }
}

/// Formats the stages that a request to stop waits for, and the time limit.
fn stopping(stages: &[String], grace_s: f64) -> String {
    if stages.is_empty() {
        return "stopping".to_owned();
    }
    let names: Vec<String> = stages.iter().map(|name| format!("`{name}`")).collect();
    let s = if names.len() == 1 { "" } else { "s" };
    format!(
        "stopping: waiting for the resume point{s} of {}, at most {} (Ctrl-C again: kill now)",
        names.join(", "),
        duration(grace_s)
    )
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("      {spinner}  {prefix}  {bar:12} {wide_msg}")
        .expect("the template is valid")
        .progress_chars("━╸─")
}
