//! The files that match a pattern with `*`, `?`, `[...]`, and `**` for directories of any depth.

use glob::{MatchOptions, Pattern};
use std::io::{Error, ErrorKind, Result};
use std::path::{Component, Path, PathBuf};
use walkdir::WalkDir;

/// Returns the files that match `pattern`, relative to `directory`, sorted. Links are followed, except a link to a
/// directory that contains the link.
///
/// # Errors
/// An invalid pattern, a directory that cannot be read, or a matching file whose name is not UTF-8.
pub(in crate::recipe) fn matching_files(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let plain: PathBuf = Path::new(pattern).components().filter(|part| *part != Component::CurDir).collect();
    let whole = directory.join(&plain); // an absolute pattern stays as it is
    let below = if plain.is_absolute() { Path::new("/") } else { directory };
    let relative = whole.strip_prefix(below).expect("it was joined");
    let wanted = Pattern::new(&relative.to_string_lossy())
        .map_err(|error| Error::new(ErrorKind::InvalidInput, error.to_string()))?;
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::default() };
    let matches =
        |path: &Path| path.strip_prefix(below).is_ok_and(|path| wanted.matches_with(&path.to_string_lossy(), options));
    let (start, depth) = searched(relative);
    let start = below.join(start);
    if !start.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in WalkDir::new(start).follow_links(true).max_depth(depth) {
        let entry = match entry {
            Err(error) if error.loop_ancestor().is_some() || is_broken_link(&error) => continue,
            entry => entry.map_err(Error::from)?,
        };
        let path = entry.path();
        if !entry.file_type().is_file() || !matches(path) {
            continue;
        }
        if path.to_str().is_none() {
            #[expect(clippy::unnecessary_debug_formatting, reason = "it shows the bytes that are not text")]
            let message = format!("the file {path:?} has a name that is not UTF-8: rename it");
            return Err(Error::new(ErrorKind::InvalidFilename, message));
        }
        files.push(entry.into_path());
    }
    files.sort();
    Ok(files)
}

/// Returns the deepest directory that holds all files a pattern can match, and the maximum depth of these files below
/// it.
fn searched(pattern: &Path) -> (PathBuf, usize) {
    let is_literal = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    let literal: PathBuf = pattern.components().take_while(is_literal).collect();
    let rest = pattern.components().skip_while(is_literal);
    let depth = rest.clone().count();
    let has_any_depth = rest.into_iter().any(|part| part.as_os_str() == "**");
    (literal, if has_any_depth { usize::MAX } else { depth })
}

fn is_broken_link(error: &walkdir::Error) -> bool {
    error.io_error().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new(names: &[&[u8]]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in names {
                let path = dir.path().join(OsStr::from_bytes(name));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "").unwrap();
            }
            Self(dir)
        }

        fn matching(&self, pattern: &str) -> Vec<String> {
            let files = matching_files(self.0.path(), pattern).unwrap();
            files.iter().map(|path| path.strip_prefix(self.0.path()).unwrap().to_str().unwrap().to_owned()).collect()
        }
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        let files = Files::new(&[
            b"a.jsonl",
            b"b.jsonl",
            b"b.txt",
            b".hidden.jsonl",
            b"{x}.txt",
            b"deep/c.jsonl",
            b"deep/er/d.jsonl",
        ]);
        assert_eq!(files.matching("*.jsonl"), [".hidden.jsonl", "a.jsonl", "b.jsonl"]);
        assert_eq!(files.matching("[ab].*"), ["a.jsonl", "b.jsonl", "b.txt"]);
        assert_eq!(files.matching("./deep/../b.*"), ["deep/../b.jsonl", "deep/../b.txt"]);
        assert_eq!(files.matching("{x}*"), ["{x}.txt"]);
        assert_eq!(files.matching("[!a].jsonl"), ["b.jsonl"]);
        assert_eq!(files.matching("*/?.jsonl"), ["deep/c.jsonl"]);
        assert_eq!(files.matching("deep/**/*.jsonl"), ["deep/c.jsonl", "deep/er/d.jsonl"]);
        assert_eq!(files.matching("d*/**/d.jsonl"), ["deep/er/d.jsonl"]);
        assert!(files.matching("nowhere/*.jsonl").is_empty());
        assert!(matching_files(files.0.path(), "[a").is_err());
        let absolute = files.0.path().join("*.txt");
        assert_eq!(matching_files(Path::new("/elsewhere"), absolute.to_str().unwrap()).unwrap().len(), 2);
    }

    #[test]
    fn a_name_that_is_not_utf8_is_an_error_where_it_matches() {
        let files = Files::new(&[b"a.jsonl", b"b\xff.jsonl", b"c\xff.txt"]);
        let error = matching_files(files.0.path(), "*.jsonl").unwrap_err();
        assert!(error.to_string().contains(r"b\xFF.jsonl"), "{error}");
        assert_eq!(files.matching("a*.jsonl"), ["a.jsonl"]);
    }

    #[test]
    fn links_are_followed_once() {
        let files = Files::new(&[b"real/a.jsonl"]);
        let at = |name: &str| files.0.path().join(name);
        symlink("..", at("real/up")).unwrap();
        symlink("nowhere", at("real/broken.jsonl")).unwrap();
        symlink(at("real/a.jsonl"), at("real/b.jsonl")).unwrap();
        assert_eq!(files.matching("real/**/*.jsonl"), ["real/a.jsonl", "real/b.jsonl"]);
    }
}
