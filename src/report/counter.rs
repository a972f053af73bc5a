//! Progress through a list, as one moving line on a terminal's stderr.

use super::progress::ProgressMode;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;

/// The moving line; absent if stderr is not a terminal.
pub struct Counter {
    bar: Option<ProgressBar>,
}

impl Counter {
    /// Creates a line about `what`, a plural noun.
    pub fn new(mode: ProgressMode, what: &'static str) -> Self {
        let bar = (mode == ProgressMode::Auto && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_message(what);
            bar.with_style(style("{pos} {message}, {elapsed}"))
        });
        Self { bar }
    }

    /// Shows that `done` items of `total`, if known, are done.
    pub fn at(&self, done: usize, total: Option<usize>) {
        let Some(bar) = &self.bar else { return };
        if let Some(total) = total
            && bar.length().is_none()
        {
            bar.set_length(total as u64);
            bar.set_style(style("{wide_bar} {pos}/{len} {message}, {eta} left"));
        }
        bar.set_position(done as u64);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is a constant")
}
