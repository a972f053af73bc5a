//! The program's Rust files, for tests that read them.

use std::path::{Path, PathBuf};

/// Returns every Rust file of `src`, in order: its path below `src` and its text.
pub(crate) fn rust_files() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs_err::read_dir(&directory).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs_err::read_to_string(&path).expect("source files are UTF-8");
                found.push((path.strip_prefix(&root).expect("below src").to_owned(), text));
            }
        }
    }
    assert!(found.len() > 10, "only {} source files were found", found.len());
    found.sort();
    found
}
