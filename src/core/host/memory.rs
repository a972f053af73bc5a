//! The machine's memory.

use procfs::{Current as _, Meminfo};

/// Where control groups say what they allow: version 2, version 1.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Bytes of the machine's memory.
pub fn installed() -> Option<u64> {
    Some(Meminfo::current().ok()?.mem_total)
}

/// Bytes of the machine's memory, or less where a control group allows less.
pub fn available_to_us() -> Option<u64> {
    let limit = LIMITS.iter().find_map(|path| fs_err::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    let total = installed()?;
    Some(limit.map_or(total, |limit| limit.min(total)))
}
