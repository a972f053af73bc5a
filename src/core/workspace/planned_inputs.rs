//! Compares the files that a stage reads with those that the plan saw.
//!
//! A stage's key names its inputs by their digests. The stage opens them by their paths, possibly hours later. If a
//! file changed in between, the result would be cached under the key of the old content. So a worker checks its inputs
//! when it begins ([`PlannedInputs::check`]), and again once it has read them ([`PlannedInputs::unchanged`]).

use super::digests::{FileDigests, is_settled, model_files};
use super::fault::fault_point;
use crate::digest::{ContentChanged, Digest};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The inputs of a stage, whose contents equalled those of the plan when they were checked.
#[derive(Debug)]
pub struct PlannedInputs {
    inputs: BTreeMap<Digest, Input>,
    memo: PathBuf,
}

/// A file or a model directory, with the state of its files when it was checked.
#[derive(Debug)]
struct Input {
    path: PathBuf,
    files: Vec<Written>,
}

/// The identity of a file and its last write. A hard link to the file or a change of owner does not affect it.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    modified: SystemTime,
}

impl PlannedInputs {
    /// Compares every input with its digest. Digests are memoized in the file `memo`.
    ///
    /// # Errors
    /// An input whose content differs from the plan's, or one that cannot be read.
    pub fn check(inputs: &BTreeMap<Digest, PathBuf>, memo: &Path) -> Result<Self, ContentChanged> {
        let mut digests = None; // a stage without inputs does not read the memo
        let mut checked = BTreeMap::new();
        for (digest, path) in inputs {
            let files = written(path)?; // before its content is read
            compare(digests.get_or_insert_with(|| FileDigests::open(memo)), digest, path)?;
            checked.insert(digest.clone(), Input { path: path.clone(), files });
        }
        fault_point("inputs-checked");
        Ok(Self { inputs: checked, memo: memo.to_owned() })
    }

    /// Checks that no input was written to since [`Self::check`], so that what was read is what the plan saw.
    ///
    /// # Errors
    /// An input that was written to, even if its content is the same again.
    pub fn unchanged(&self) -> Result<(), ContentChanged> {
        fault_point("inputs-read");
        self.unchanged_of(self.inputs.keys())
    }

    /// Checks like [`Self::unchanged`], for the inputs with these digests.
    ///
    /// # Errors
    /// The errors of [`Self::unchanged`].
    pub fn unchanged_of<'a>(&self, those: impl IntoIterator<Item = &'a Digest>) -> Result<(), ContentChanged> {
        for (digest, Input { path, files }) in those.into_iter().filter_map(|digest| self.inputs.get_key_value(digest))
        {
            if written(path)? != *files {
                return Err(ContentChanged::Written { path: path.clone() });
            }
            // Two writes within the clock's resolution have the same time.
            if files.iter().any(|file| !is_settled(file.modified)) {
                compare(&mut FileDigests::open(&self.memo), digest, path)?;
            }
        }
        Ok(())
    }
}

fn compare(digests: &mut FileDigests, digest: &Digest, path: &Path) -> Result<(), ContentChanged> {
    let found = if path.is_dir() { digests.model_directory(path) } else { digests.file(path) };
    ContentChanged::check(digest, path, found)
}

/// Returns the state of the files that determine the content of a file or a model directory.
fn written(path: &Path) -> Result<Vec<Written>, ContentChanged> {
    let state = |path: PathBuf| {
        let metadata = fs_err::metadata(&path)?;
        let (device, inode, bytes) = (metadata.dev(), metadata.ino(), metadata.len());
        Ok(Written { device, inode, bytes, modified: metadata.modified()?, path })
    };
    let files = || -> io::Result<Vec<Written>> {
        let files = if path.is_dir() { model_files(path)?.into_values().collect() } else { vec![path.to_owned()] };
        files.into_iter().map(state).collect()
    };
    files().map_err(|error| ContentChanged::Unreadable { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    struct Files {
        dir: tempfile::TempDir,
        inputs: BTreeMap<Digest, PathBuf>,
    }

    fn files(is_old: bool) -> Files {
        let dir = tempfile::tempdir().unwrap();
        let (data, model) = (dir.path().join("data.jsonl"), dir.path().join("model"));
        fs_err::create_dir(&model).unwrap();
        fs_err::write(&data, "one").unwrap();
        fs_err::write(model.join("config.json"), "{}").unwrap();
        if is_old {
            for path in [&data, &model.join("config.json")] {
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.set_modified(SystemTime::now() - Duration::from_hours(1)).unwrap();
            }
        }
        let mut digests = FileDigests::open(&dir.path().join("digests.json"));
        let of_model = digests.model_directory(&model).unwrap();
        Files { inputs: BTreeMap::from([(digests.file(&data).unwrap(), data), (of_model, model)]), dir }
    }

    impl Files {
        fn check(&self) -> Result<PlannedInputs, ContentChanged> {
            PlannedInputs::check(&self.inputs, &self.dir.path().join("digests.json"))
        }

        fn write(&self, name: &str, text: &str) {
            fs_err::write(self.dir.path().join(name), text).unwrap();
        }
    }

    #[test]
    fn another_content_is_noticed_before_and_after_it_is_read() {
        for is_old in [false, true] {
            for (name, before) in [("data.jsonl", "one"), ("model/config.json", "{}")] {
                let files = files(is_old);
                let inputs = files.check().unwrap();
                inputs.unchanged().unwrap();
                files.write("model/README.md", "decides nothing");
                inputs.unchanged().unwrap();
                files.write(name, "two");
                let message = inputs.unchanged().unwrap_err().to_string();
                let path = files.dir.path().join(name.split('/').next().unwrap());
                assert!(message.starts_with(&format!("`{}` was written to", path.display())), "{message}");
                let message = files.check().unwrap_err().to_string();
                assert_eq!(message, format!("`{}` has changed since this stage was planned", path.display()));
                files.write(name, before);
                files.check().unwrap().unchanged().unwrap();
            }
        }
    }

    #[test]
    fn a_content_that_came_back_was_another_in_between() {
        let files = files(true);
        let inputs = files.check().unwrap();
        files.write("data.jsonl", "two");
        files.write("data.jsonl", "one");
        assert!(matches!(inputs.unchanged(), Err(ContentChanged::Written { .. })));
        let model = files.inputs.iter().filter(|(_, path)| path.is_dir()).map(|(digest, _)| digest);
        inputs.unchanged_of(model).unwrap();
    }

    #[test]
    fn a_link_to_a_file_writes_nothing_and_a_missing_file_is_named() {
        let files = files(true);
        let inputs = files.check().unwrap();
        let data = files.dir.path().join("data.jsonl");
        fs_err::hard_link(&data, files.dir.path().join("backup.jsonl")).unwrap();
        inputs.unchanged().unwrap();
        fs_err::remove_file(&data).unwrap();
        let message = inputs.unchanged().unwrap_err().to_string();
        assert!(message.contains("data.jsonl` cannot be read"), "{message}");
    }
}
