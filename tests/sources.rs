//! The project's files, for tests that read them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The root of the project.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below `directory` with one of the extensions, sorted.
pub(crate) fn files(directory: &str, extensions: &[&str]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut directories = vec![root().join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs_err::read_dir(&directory).expect("the directory is readable") {
            let path = entry.expect("the directory is readable").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|own| extensions.iter().any(|extension| own == *extension)) {
                found.insert(path);
            }
        }
    }
    found
}

/// Every Rust file of `src`, in order, with its text.
pub(crate) fn rust_files() -> Vec<(PathBuf, String)> {
    let with_text = |path: PathBuf| {
        let text = fs_err::read_to_string(&path).expect("source files are UTF-8");
        (path, text)
    };
    let found: Vec<(PathBuf, String)> = files("src", &["rs"]).into_iter().map(with_text).collect();
    assert!(found.len() > 10, "only {} source files were found", found.len());
    found
}
