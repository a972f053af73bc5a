//! The end of a worker: as it recorded it, or a crash.

use super::executor::SystemEnd;
use super::exit;
use crate::workspace::Ending;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// The end of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerExit {
    /// The worker reported its end.
    Said(Ending),
    /// The worker died without a report.
    Crashed(SystemEnd),
}

impl From<ExitStatus> for SystemEnd {
    fn from(status: ExitStatus) -> Self {
        Self { code: status.code(), signal: status.signal() }
    }
}

/// Converts the exit code of a worker that answers a request and so has no attempt directory for an exit file.
impl From<ExitStatus> for WorkerExit {
    fn from(status: ExitStatus) -> Self {
        let said = status.code().and_then(|code| exit::ending(u8::try_from(code).ok()?));
        said.map_or_else(|| Self::Crashed(status.into()), Self::Said)
    }
}

impl WorkerExit {
    /// Whether the end looks like the kernel's out-of-memory killer: a SIGKILL, or exit code 137.
    ///
    /// A SIGKILL that this program sent looks the same.
    pub fn looks_out_of_memory(self) -> bool {
        matches!(self, Self::Crashed(SystemEnd { signal: Some(9), .. } | SystemEnd { code: Some(137), .. }))
    }

    /// Describes the end in a sentence, without the worker's own messages.
    pub fn describe(self) -> String {
        match self {
            Self::Said(Ending::Committed) => "the worker committed its checkpoint".into(),
            Self::Said(Ending::Failed) => "the worker failed".into(),
            Self::Said(Ending::LeaseHeld) => "another process is working on the same stage".into(),
            Self::Said(Ending::Stopped) => "the worker stopped on request".into(),
            Self::Crashed(SystemEnd { signal: Some(signal), .. }) => {
                format!("the worker was killed by signal {signal}{}", signal_name(signal))
            }
            Self::Crashed(SystemEnd { code: Some(code), .. }) => format!("the worker crashed with exit code {code}"),
            Self::Crashed(_) => "the worker crashed".into(),
        }
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32) -> WorkerExit {
        WorkerExit::from(ExitStatus::from_raw(code << 8))
    }

    #[test]
    fn documented_codes_are_told_apart() {
        assert_eq!(exited(0), WorkerExit::Said(Ending::Committed));
        assert_eq!(exited(10), WorkerExit::Said(Ending::Failed));
        assert_eq!(exited(11), WorkerExit::Said(Ending::LeaseHeld));
        assert_eq!(exited(12), WorkerExit::Said(Ending::Stopped));
        assert_eq!(exited(101), WorkerExit::Crashed(SystemEnd { code: Some(101), signal: None }));
    }

    #[test]
    fn sigkill_looks_like_exhausted_memory_and_a_panic_does_not() {
        assert!(WorkerExit::from(ExitStatus::from_raw(9)).looks_out_of_memory());
        assert!(exited(137).looks_out_of_memory());
        assert!(!exited(101).looks_out_of_memory());
        assert!(!WorkerExit::from(ExitStatus::from_raw(11)).looks_out_of_memory());
    }
}
