//! The live display of downloads, on stderr: a moving bar on a terminal, otherwise a line now and then for long
//! downloads.

use super::progress::ProgressMode;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Without a terminal, shorter downloads are not reported.
const FIRST_LINE_AFTER: Duration = Duration::from_secs(1);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The live display of downloads, one at a time.
pub struct Downloads {
    mode: ProgressMode,
    on_terminal: bool,
    current: Option<Current>,
}

struct Current {
    name: String,
    bytes: Option<u64>,
    here: u64,
    next_line: Instant,
    bar: Option<ProgressBar>,
}

impl Downloads {
    /// Creates an empty display.
    pub fn new(mode: ProgressMode) -> Self {
        Self { mode, on_terminal: std::io::stderr().is_terminal(), current: None }
    }

    /// Begins the download of `name`. An earlier try received `here` of its `bytes`.
    pub fn begin(&mut self, name: String, bytes: Option<u64>, here: u64) {
        let bar = (self.mode == ProgressMode::Auto && self.on_terminal).then(|| {
            let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(style());
            bar.set_prefix(name.clone());
            bar.with_position(here)
        });
        self.current = Some(Current { name, bytes, here, next_line: Instant::now() + FIRST_LINE_AFTER, bar });
    }

    /// Adds received bytes.
    pub fn advance(&mut self, bytes: u64) {
        let Some(current) = &mut self.current else { return };
        current.here += bytes;
        if let Some(bar) = &current.bar {
            bar.inc(bytes);
        } else if self.mode == ProgressMode::Auto && Instant::now() >= current.next_line {
            current.next_line = Instant::now() + LINE_EVERY;
            let of = current.bytes.map(|bytes| format!(" of {}", HumanBytes(bytes))).unwrap_or_default();
            let line = format!("downloading {}: {}{of}", current.name, HumanBytes(current.here));
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// Ends the download.
    pub fn end(&mut self) {
        if let Some(bar) = self.current.take().and_then(|current| current.bar) {
            bar.finish_and_clear();
        }
    }

    /// Prints a note about a download.
    pub fn note(&mut self, text: &str) {
        self.end();
        if self.mode == ProgressMode::Auto {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("downloading {prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        .expect("the template is valid")
}
