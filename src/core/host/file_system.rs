//! Detection of network file systems.

use std::path::{Path, PathBuf};

/// The network file systems by `f_type` of statfs(2), from the kernel's `magic.h` and the file systems' own sources.
const NETWORK: [(u64, &str); 13] = [
    (0x6969, "nfs"),
    (0x517B, "smb"),
    (0xFF53_4D42, "cifs"),
    (0xFE53_4D42, "smb2"),
    (0x0BD0_0BD0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x1983_0326, "beegfs"),
    (0x00C3_6400, "ceph"),
    (0x5346_414F, "afs"),
    (0x6B41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x0102_1997, "9p"),
    (0x0116_1970, "gfs2"),
];
/// The `f_type` that all file systems in user space share; the mount table names the actual type.
const FUSE: u64 = 0x6573_5546;
/// The file systems in user space that use a network.
const NETWORK_FUSE: [&str; 12] =
    ["sshfs", "glusterfs", "ceph", "s3fs", "s3ql", "gcsfuse", "rclone", "juicefs", "davfs", "moosefs", "cvmfs", "weka"];

/// Returns the type of the network file system on which `path` lies or would be created; `None` for local ones.
pub fn network_file_system(path: &Path) -> Option<String> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    let magic = rustix::fs::statfs(existing).ok()?.f_type.cast_unsigned() & 0xFFFF_FFFF;
    let mounts = || fs_err::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    network_kind(magic, || fuse_kind(&mounts(), &fs_err::canonicalize(existing).ok()?))
}

fn network_kind(magic: u64, fuse_kind: impl FnOnce() -> Option<String>) -> Option<String> {
    if magic == FUSE {
        return fuse_kind().filter(|kind| NETWORK_FUSE.iter().any(|network| kind.contains(network)));
    }
    NETWORK.iter().find(|(known, _)| *known == magic).map(|(_, name)| (*name).to_owned())
}

/// Returns the type of the file system on which `path` lies, according to the kernel's mount table (proc(5),
/// `mountinfo`).
///
/// It is the last of the deepest mount points that contain the path.
fn fuse_kind(mountinfo: &str, path: &Path) -> Option<String> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?.replace("\\040", " ");
        Some((PathBuf::from(point), source.split(' ').next()?))
    });
    let found = mounts.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.components().count());
    found.map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        for (magic, name) in [(0x6969, "nfs"), (0xFF53_4D42, "cifs"), (0x0BD0_0BD0, "lustre"), (0x4750_4653, "gpfs")] {
            assert_eq!(network_kind(magic, || None).as_deref(), Some(name));
        }
        for local in [0xEF53, 0x9123_683E, 0x5846_5342, 0x0102_1994, 0x794C_7630] {
            assert_eq!(network_kind(local, || None), None, "{local:x}: ext4, btrfs, xfs, tmpfs, overlay");
        }
        assert_eq!(network_file_system(Path::new("/proc/self/nowhere/history.db")), None);
    }

    #[test]
    fn what_a_fuse_mount_is_stands_in_the_mount_table() {
        let table = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:42 / /home/a/my\\040runs rw - fuse.sshfs a@box:/runs rw,user_id=1000
41 22 0:43 / /home/a/disk rw - fuse.ntfs-3g /dev/sdb1 rw";
        let kind = |path: &str| network_kind(FUSE, || fuse_kind(table, Path::new(path)));
        assert_eq!(kind("/home/a/my runs/p").as_deref(), Some("fuse.sshfs"));
        assert_eq!(kind("/home/a/disk/p"), None);
        assert_eq!(kind("/home/a"), None);
    }
}
