//! Writes files atomically.

use fs_err as fs;
use std::io;
use std::path::{Path, PathBuf};

/// Writes `bytes` to a temporary file beside `path` and renames it. Creates the folder if it is missing.
pub(super) fn whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    if path.is_dir() {
        return Err(io::Error::other(format!("`{}` is a folder; name a file in it", path.display())));
    }
    let part = part_of(path);
    let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _ = fs::remove_file(&part); // the partial file is of no use
    }
    written
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/report.html");
        for text in ["first", "second"] {
            whole(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 1);
        let error = whole(dir.path(), b"").unwrap_err();
        assert!(error.to_string().contains("is a folder"), "{error}");
    }
}
