//! Atomic writes of files.

use std::io::Write as _;
use std::path::Path;

/// Writes a file atomically: the bytes go into a temporary file beside it, which is flushed and then renamed.
pub fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    replace_file(path, bytes, true)?;
    sync_dir(path.parent().expect("a file lies in a directory"))
}

/// Writes a file atomically for every process that reads it, without flushing. The file may be lost when the power
/// fails. This suffices for files that are written again before they are read, and is many times as fast.
pub(super) fn write_volatile(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    replace_file(path, bytes, false)
}

fn replace_file(path: &Path, bytes: &[u8], is_flushed: bool) -> std::io::Result<()> {
    let name = path.file_name().expect("a file has a name").to_string_lossy();
    let part = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let mut file = fs_err::File::create(&part)?;
    file.write_all(bytes)?;
    if is_flushed {
        file.sync_all()?;
    }
    fs_err::rename(&part, path)
}

/// Flushes a directory's entries to disk.
pub(super) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    fs_err::File::open(dir)?.sync_all()
}
