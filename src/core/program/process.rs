//! A running program in a process group of its own. The group is ended by the process that started it, or with that
//! process.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// The script of the guard, which kills the group when this process ends for any reason. Only then does its standard
/// input end.
const GUARD: &str = "read _; kill -s KILL -- \"-$1\"";

/// A running program, in a process group of its own. Dropping it kills the group.
#[derive(Debug)]
pub struct ProgramProcess {
    child: Child,
    group: Pid,
    guard: Child,
}

/// The end of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramEnd {
    /// The program exited with this code.
    Exited(i32),
    /// The program was killed by this signal.
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

    /// Returns the process itself, for access to its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Returns how the program ended, if it has. The process is not reaped, so its id is not reused.
    pub fn has_ended(&self) -> Option<ProgramEnd> {
        ended(self.group, WaitIdOptions::NOHANG).ok().flatten()
    }

    /// Returns a function that waits for the program's end on any thread, while another thread owns the process.
    pub fn waiter(&self) -> impl FnOnce() -> io::Result<ProgramEnd> + Send + 'static {
        let group = self.group;
        move || loop {
            if let Some(end) = ended(group, WaitIdOptions::empty())? {
                return Ok(end);
            }
        }
    }

    /// Sends SIGTERM to the program and its children.
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
        // The guard is killed first: once the group is gone, its id may be reused.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        // No process is left to signal when the whole group has ended.
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
        // Closing the pipe has the same effect as the end of this process, even by SIGKILL.
        drop(process.guard.stdin.take());
        assert_eq!(process.waiter()().unwrap(), ProgramEnd::Killed(9));
    }
}
