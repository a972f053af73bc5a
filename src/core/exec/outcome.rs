//! How a worker ended.

use super::exit;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// How a worker ended, by its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerExit {
    /// The checkpoint is in the cache.
    Committed,
    /// The stage failed; its last event says why.
    Failed,
    /// Another live process holds the lease.
    LeaseHeld,
    /// Stopped on request, leaving a resume point.
    Stopped,
    /// It died without a word.
    Crashed {
        /// Exit code, if it exited.
        code: Option<i32>,
        /// Signal, if one killed it.
        signal: Option<i32>,
    },
}

impl From<ExitStatus> for WorkerExit {
    fn from(status: ExitStatus) -> Self {
        match status.code().map(u8::try_from) {
            Some(Ok(exit::COMMITTED)) => Self::Committed,
            Some(Ok(exit::FAILED)) => Self::Failed,
            Some(Ok(exit::LEASE_HELD)) => Self::LeaseHeld,
            Some(Ok(exit::STOPPED)) => Self::Stopped,
            _ => Self::Crashed { code: status.code(), signal: status.signal() },
        }
    }
}

impl WorkerExit {
    /// Whether this looks like the kernel's out-of-memory killer: SIGKILL that nobody here sent.
    pub fn looks_out_of_memory(self) -> bool {
        matches!(self, Self::Crashed { signal: Some(9), .. } | Self::Crashed { code: Some(137), .. })
    }

    /// One sentence about a crash, without the worker's own words.
    pub fn describe(self) -> String {
        match self {
            Self::Committed => "the worker committed its checkpoint".into(),
            Self::Failed => "the worker failed".into(),
            Self::LeaseHeld => "another process is working on the same stage".into(),
            Self::Stopped => "the worker stopped on request".into(),
            Self::Crashed { signal: Some(signal), .. } => {
                format!("the worker was killed by signal {signal}{}", signal_name(signal))
            }
            Self::Crashed { code: Some(code), .. } => format!("the worker crashed with exit code {code}"),
            Self::Crashed { .. } => "the worker crashed".into(),
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
        assert_eq!(exited(0), WorkerExit::Committed);
        assert_eq!(exited(10), WorkerExit::Failed);
        assert_eq!(exited(11), WorkerExit::LeaseHeld);
        assert_eq!(exited(12), WorkerExit::Stopped);
        assert_eq!(exited(101), WorkerExit::Crashed { code: Some(101), signal: None });
    }

    #[test]
    fn sigkill_looks_like_exhausted_memory_and_a_panic_does_not() {
        assert!(WorkerExit::from(ExitStatus::from_raw(9)).looks_out_of_memory());
        assert!(exited(137).looks_out_of_memory());
        assert!(!exited(101).looks_out_of_memory());
        assert!(!WorkerExit::from(ExitStatus::from_raw(11)).looks_out_of_memory());
    }
}
