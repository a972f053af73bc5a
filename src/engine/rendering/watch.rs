//! A limit on the memory for rendering one text.
//!
//! The template engine counts steps, not bytes, and a text that is doubled forty times takes only forty steps. A thread
//! therefore watches the process while texts are rendered. It ends the process when a text takes too much memory.

use orchestrate_core::exec::exit;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::time::Duration;

/// Maximum memory for rendering one text, in bytes. No conversation and no row needs as much.
const LIMIT: u64 = 1 << 30;
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Hint for users whose template took too much memory.
pub(crate) const HINT: &str =
    "look for a loop that makes a text longer and longer, in the recipe's templates or the model's chat template";

/// A function that reports why the process ends.
type Tell = dyn Fn(&str) + Send + Sync;

static TELL: OnceLock<Box<Tell>> = OnceLock::new();
/// The texts that are being rendered, by number, with the process's memory when they were first seen.
static RENDERED: Mutex<Rendered> = Mutex::new(Rendered { next: 0, memory_at: BTreeMap::new() });

struct Rendered {
    next: u64,
    memory_at: BTreeMap<u64, Option<u64>>,
}

/// Registers the function that reports why the process ends if a template takes too much memory.
pub(crate) fn on_too_much_memory(tell: impl Fn(&str) + Send + Sync + 'static) {
    let _ = TELL.set(Box::new(tell)); // the first call wins, since a process runs one stage
}

/// A guard that registers a text while it is rendered.
pub(super) struct Watched(u64);

impl Watched {
    pub(super) fn new() -> Self {
        static STARTED: Once = Once::new();
        STARTED.call_once(|| drop(std::thread::spawn(watch)));
        let mut rendered = lock();
        let number = rendered.next;
        rendered.next += 1;
        rendered.memory_at.insert(number, None);
        Self(number)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock().memory_at.remove(&self.0);
    }
}

fn watch() {
    loop {
        std::thread::sleep(LOOK_EVERY);
        let mut rendered = lock();
        if rendered.memory_at.is_empty() {
            continue;
        }
        let Some(now) = crate::memory::resident() else { return };
        for at_first in rendered.memory_at.values_mut() {
            if now.saturating_sub(*at_first.get_or_insert(now)) > LIMIT {
                end();
            }
        }
    }
}

#[expect(clippy::exit, reason = "the thread that renders cannot be stopped")]
fn end() -> ! {
    let message = format!("rendering one text takes more than {} GiB of memory", LIMIT >> 30);
    match TELL.get() {
        Some(tell) => tell(&message),
        None => report(&message),
    }
    std::process::exit(exit::FAILED.into())
}

#[expect(clippy::print_stderr, reason = "a worker's stderr is its log")]
fn report(message: &str) {
    eprintln!("error: {message}\nhint: {HINT}");
}

fn lock() -> MutexGuard<'static, Rendered> {
    RENDERED.lock().unwrap_or_else(PoisonError::into_inner)
}
