//! Advisory locks on files, by which a process shows that it is alive.
//!
//! The kernel releases a lock when the last process that holds it ends, however it ends. The owner takes the lock for
//! itself ([`FileLock::try_exclusive`]). The processes that it starts hold the lock too after
//! [`FileLock::share_with_children`].

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// An exclusive lock, held until it is dropped or until the last process that holds it ends.
#[derive(Debug)]
pub struct FileLock(fs_err::File);

impl FileLock {
    /// Locks `file`; `None` when another process has locked it.
    ///
    /// [`FileLock::is_held`] in another process holds the lock for a moment, so this tries several times.
    pub fn try_exclusive(file: fs_err::File) -> io::Result<Option<Self>> {
        for pause_ms in [1, 5, 20, 50, 0] {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self(file))),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(pause_ms)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Whether `path` still names the locked file.
    pub fn is_at(&self, path: &Path) -> bool {
        let there = fs_err::metadata(path);
        self.0.metadata().is_ok_and(|here| there.is_ok_and(|there| is_same(&here, &there)))
    }

    /// Lets every process that this one starts from now on hold the lock as well.
    pub fn share_with_children(&self) -> io::Result<()> {
        Ok(fcntl_setfd(&self.0, FdFlags::empty())?)
    }

    /// Whether a process has locked the file at `path`.
    pub fn is_held(path: &Path) -> bool {
        fs_err::File::open(path)
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
    }

    /// Returns the processes that hold the lock of the file at `path`.
    ///
    /// Processes of other machines, of other users, and outside this process's PID namespace are not found.
    pub fn holders(path: &Path) -> Vec<u32> {
        let Ok(locked) = fs_err::metadata(path) else { return Vec::new() };
        let Ok(processes) = fs_err::read_dir("/proc") else { return Vec::new() };
        let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        ids.filter(|&process| holds(process, &locked)).collect()
    }
}

/// Whether a descriptor of the process refers to the open file that has the lock.
///
/// A descriptor of the same file that was opened separately does not count, because its process may only be testing the
/// lock.
fn holds(process: u32, locked: &Metadata) -> bool {
    let Ok(descriptors) = fs_err::read_dir(format!("/proc/{process}/fd")) else { return false };
    descriptors.filter_map(Result::ok).any(|descriptor| {
        fs_err::metadata(descriptor.path()).is_ok_and(|open| is_same(&open, locked)) && {
            let number = descriptor.file_name();
            let about = fs_err::read_to_string(format!("/proc/{process}/fdinfo/{}", number.display()));
            about.is_ok_and(|about| about.lines().any(is_exclusive_lock))
        }
    })
}

/// Whether a line of `fdinfo` describes an exclusive lock: `lock: 1: FLOCK ADVISORY WRITE 24962 fe:00:10019927 0 EOF`.
fn is_exclusive_lock(line: &str) -> bool {
    line.starts_with("lock:") && ["FLOCK", "WRITE"].iter().all(|word| line.split_whitespace().any(|w| w == *word))
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn open(path: &Path) -> fs_err::File {
        fs_err::OpenOptions::new().create(true).append(true).open(path).unwrap()
    }

    fn sleeping() -> Child {
        Command::new("sleep").arg("300").spawn().unwrap()
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_child_that_shares_the_lock_holds_it_when_its_parent_has_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = FileLock::try_exclusive(open(&path)).unwrap().expect("no process has it");
        let other = sleeping(); // started before the lock is shared
        assert_eq!(FileLock::holders(&path), [std::process::id()]);
        lock.share_with_children().unwrap();
        let child = sleeping();
        drop(lock);
        assert_eq!(FileLock::holders(&path), [child.id()]);
        assert!(FileLock::is_held(&path) && FileLock::try_exclusive(open(&path)).unwrap().is_none());
        end(child);
        assert!(!FileLock::is_held(&path) && FileLock::holders(&path).is_empty());
        end(other);
    }

    #[test]
    fn a_process_that_only_asks_is_no_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let asking = open(&path);
        flock(&asking, FlockOperation::NonBlockingLockShared).unwrap();
        assert!(FileLock::holders(&path).is_empty());
    }
}
