//! A running program: in a process group of its own, ended with its children, by whoever started it or with it.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// Kills the group when this program is gone, however it went: only then does its standard input end.
const GUARD: &str = "read _; kill -s KILL -- \"-$1\"";

/// A running program, in a process group of its own. Dropping it kills the group.
#[derive(Debug)]
pub struct ProgramProcess {
    child: Child,
    group: Pid,
    guard: Child,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramEnd {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl fmt::Display for ProgramEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "ended with exit code {code}"),
            Self::Killed(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

impl ProgramProcess {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.process_group(0).spawn()?;
        let group = Pid::from_child(&child);
        let guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "sh", &group.as_raw_nonzero().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let guard = guard.inspect_err(|_| {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = child.wait();
        })?;
        Ok(Self { child, group, guard })
    }

    /// The process itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, if it has; it is not reaped, so that its number stays its own.
    pub fn has_ended(&self) -> Option<ProgramEnd> {
        ended(self.group, WaitIdOptions::NOHANG).ok().flatten()
    }

    /// Waits for its end, on any thread, while somebody else has the process.
    pub fn waiter(&self) -> impl FnOnce() -> io::Result<ProgramEnd> + Send + 'static {
        let group = self.group;
        move || loop {
            if let Some(end) = ended(group, WaitIdOptions::empty())? {
                return Ok(end);
            }
        }
    }

    /// Asks it, and its children, to end.
    pub fn terminate(&self) {
        let _ = kill_process_group(self.group, Signal::TERM);
    }
}

fn ended(group: Pid, options: WaitIdOptions) -> io::Result<Option<ProgramEnd>> {
    let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let status = loop {
        match waitid(WaitId::Pid(group), options) {
            Err(rustix::io::Errno::INTR) => {}
            status => break status?,
        }
    };
    Ok(status.map(|status| match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ProgramEnd::Exited(code),
        (None, signal) => ProgramEnd::Killed(signal.unwrap_or_default()),
    }))
}

impl Drop for ProgramProcess {
    fn drop(&mut self) {
        // the guard first: once the group is gone, its number may become another's
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        // there is nobody to signal when all of it ended
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_killed_when_nobody_is_left_to_stop_it() {
        let mut process = ProgramProcess::start(Command::new("sleep").arg("300")).unwrap();
        assert!(process.has_ended().is_none());
        // what the end of this program, even by SIGKILL, does to the pipe
        drop(process.guard.stdin.take());
        assert_eq!(process.waiter()().unwrap(), ProgramEnd::Killed(9));
    }
}
