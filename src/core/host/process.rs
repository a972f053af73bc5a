//! Processes of this machine.

use procfs::process::{ProcState, Process, Stat};

/// Returns the identifier of the machine's boot; empty where the system does not report it.
pub fn boot_id() -> String {
    procfs::sys::kernel::random::boot_id().map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Returns the name of this machine.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns the start time of the process, in clock ticks since the boot; `None` when it is gone or a zombie.
pub fn start_ticks(process: u32) -> Option<u64> {
    let stat = stat(process)?;
    (!is_zombie(&stat)).then_some(stat.starttime)
}

/// Returns the process's current parent. When a parent ends, its children get another.
pub fn parent(process: u32) -> Option<u32> {
    u32::try_from(stat(process)?.ppid).ok()
}

/// Returns the value of an environment variable with which the process was started.
pub fn environment_variable(process: u32, name: &str) -> Option<String> {
    let environment = self::process(process)?.environ().ok()?;
    environment.get(std::ffi::OsStr::new(name))?.to_str().map(str::to_owned)
}

fn is_zombie(stat: &Stat) -> bool {
    matches!(stat.state(), Ok(ProcState::Zombie))
}

fn process(process: u32) -> Option<Process> {
    Process::new(process.try_into().ok()?).ok()
}

fn stat(process: u32) -> Option<Stat> {
    self::process(process)?.stat().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let pid = std::process::id();
        assert_eq!(parent(pid), Some(std::os::unix::process::parent_id()));
        assert!(start_ticks(pid).is_some_and(|ticks| ticks > 0));
        assert_eq!(boot_id().len(), 36);
        assert_eq!(environment_variable(pid, "PATH"), std::env::var("PATH").ok());
        assert_eq!(
            (start_ticks(u32::MAX), parent(u32::MAX), environment_variable(u32::MAX, "PATH")),
            (None, None, None)
        );
    }

    #[test]
    fn a_process_that_has_ended_and_was_not_waited_for_has_no_start_time() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        while !is_zombie(&stat(child.id()).unwrap()) {
            std::thread::yield_now();
        }
        assert_eq!(start_ticks(child.id()), None);
        child.wait().unwrap();
    }
}
