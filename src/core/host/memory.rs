//! Memory of this machine.

use procfs::{Current as _, Meminfo};

/// The files with the memory limit of the control group: version 2, version 1.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Returns the machine's memory in bytes; `None` where the system does not report it.
pub fn installed() -> Option<u64> {
    Some(Meminfo::current().ok()?.mem_total)
}

/// Returns the memory in bytes that this process may use: the machine's, or the control group's limit if that is lower.
pub fn available_to_us() -> Option<u64> {
    let limit = LIMITS.iter().find_map(|path| fs_err::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    let total = installed()?;
    Some(limit.map_or(total, |limit| limit.min(total)))
}
