//! Digests of files and model directories, memoized by the metadata of a file.

use super::write_volatile;
use crate::digest::{Digest, canonical_json};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The age below which a file may change again within the clock's resolution, so that its digest is not memoized.
const SETTLED: Duration = Duration::from_secs(2);

/// The files of a Hugging Face directory that determine what a model computes.
const MODEL_FILES: [&str; 10] = [
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
];

/// SHA-256 digests of files, memoized by (device, inode, size, mtime, ctime).
#[derive(Debug)]
pub struct FileDigests {
    path: PathBuf,
    memo: BTreeMap<String, Digest>,
    changed: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct Memo {
    digests: BTreeMap<String, Digest>,
}

impl FileDigests {
    /// Opens the memo in the file `path`. A missing or unreadable one is treated as empty.
    pub fn open(path: &Path) -> Self {
        let memo: Memo =
            fs_err::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path: path.to_owned(), memo: memo.digests, changed: false }
    }

    /// Returns the digest of a file's bytes.
    pub fn file(&mut self, path: &Path) -> io::Result<Digest> {
        let metadata = fs_err::metadata(path)?;
        let identity = identity(&metadata);
        if let Some(digest) = self.memo.get(&identity) {
            return Ok(digest.clone());
        }
        let digest = digest_file(path)?;
        let after = fs_err::metadata(path)?;
        if after.modified().is_ok_and(is_settled) && self::identity(&after) == identity {
            self.memo.insert(identity, digest.clone());
            self.changed = true;
        }
        Ok(digest)
    }

    /// Returns the digest of a model directory, computed from the names and digests of its relevant files. Other files
    /// (a README, other formats of the same weights) do not affect it.
    pub fn model_directory(&mut self, dir: &Path) -> io::Result<Digest> {
        let files = model_files(dir)?;
        let digests: BTreeMap<String, Digest> =
            files.into_iter().map(|(name, path)| Ok((name, self.file(&path)?))).collect::<io::Result<_>>()?;
        let json = serde_json::to_value(&digests).expect("names and digests serialize");
        Ok(Digest::of(canonical_json(&json).as_bytes()))
    }

    /// Writes the memo if something was added. It is only a memo: a failure is not an error.
    pub fn save(&mut self) {
        if !self.changed {
            return;
        }
        let text = serde_json::to_vec(&Memo { digests: self.memo.clone() }).expect("a memo serializes");
        if write_volatile(&self.path, &text).is_ok() {
            self.changed = false;
        }
    }
}

/// Whether a later change to a file `modified` at this time would change its modification time.
pub(super) fn is_settled(modified: SystemTime) -> bool {
    SystemTime::now().duration_since(modified).is_ok_and(|age| age >= SETTLED)
}

/// Returns the files of a model directory that determine what the model computes, by their names within it.
///
/// # Errors
/// A directory without `config.json`, or an unreadable directory.
pub(super) fn model_files(dir: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    collect_model_files(dir, "", &mut files)?;
    if !files.contains_key("config.json") {
        let message = format!("`{}` has no config.json; is it the directory of a model?", dir.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    Ok(files)
}

fn collect_model_files(dir: &Path, prefix: &str, files: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_dir = fs_err::metadata(entry.path())?.is_dir();
        // sentence-transformers keeps the settings of its modules in numbered directories.
        if is_dir && prefix.is_empty() && name.starts_with(|c: char| c.is_ascii_digit()) {
            collect_model_files(&entry.path(), &format!("{name}/"), files)?;
        } else if !is_dir && (MODEL_FILES.contains(&name.as_str()) || name.ends_with(".safetensors")) {
            files.insert(format!("{prefix}{name}"), entry.path());
        }
    }
    Ok(())
}

fn identity(metadata: &std::fs::Metadata) -> String {
    let (mtime, mtime_ns) = (metadata.mtime(), metadata.mtime_nsec());
    let (ctime, ctime_ns) = (metadata.ctime(), metadata.ctime_nsec());
    let (device, inode, bytes) = (metadata.dev(), metadata.ino(), metadata.len());
    format!("{device}:{inode}:{bytes}:{mtime}.{mtime_ns}:{ctime}.{ctime_ns}")
}

/// Computes the SHA-256 digest of a file's bytes.
pub(super) fn digest_file(path: &Path) -> io::Result<Digest> {
    digest_file_counting(path, &|_| {})
}

/// SHA-256 of a file's bytes; `read` is called with the number of further bytes that were read.
pub(super) fn digest_file_counting(path: &Path, read: &dyn Fn(u64)) -> io::Result<Digest> {
    let mut file = fs_err::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_sha256(hasher)),
            count => {
                hasher.update(&buffer[..count]);
                read(count as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_has_another_digest_though_its_size_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data.txt");
        let mut digests = FileDigests::open(&dir.path().join("digests.json"));
        fs_err::write(&file, "one").unwrap();
        let one = digests.file(&file).unwrap();
        fs_err::write(&file, "two").unwrap();
        assert_ne!(digests.file(&file).unwrap(), one);
    }

    #[test]
    fn a_settled_file_is_remembered_across_processes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data.txt");
        fs_err::write(&file, "one").unwrap();
        let hour_ago = SystemTime::now() - Duration::from_hours(1);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(hour_ago).unwrap();
        let mut digests = FileDigests::open(&dir.path().join("digests.json"));
        let digest = digests.file(&file).unwrap();
        digests.save();
        let again = FileDigests::open(&dir.path().join("digests.json"));
        assert_eq!(again.memo.values().collect::<Vec<_>>(), [&digest]);
    }

    #[test]
    fn a_model_directory_ignores_files_that_do_not_matter_and_notices_those_that_do() {
        let dir = tempfile::tempdir().unwrap();
        let mut digests = FileDigests::open(&dir.path().join("digests.json"));
        let model = dir.path().join("model");
        assert!(digests.model_directory(&model).is_err());
        fs_err::create_dir_all(model.join("1_Pooling")).unwrap();
        fs_err::write(model.join("config.json"), "{}").unwrap();
        let first = digests.model_directory(&model).unwrap();
        fs_err::write(model.join("README.md"), "hello").unwrap();
        assert_eq!(digests.model_directory(&model).unwrap(), first);
        fs_err::write(model.join("1_Pooling/config.json"), "{}").unwrap();
        assert_ne!(digests.model_directory(&model).unwrap(), first);
    }
}
