//! The cache of answers on disk, by the content of their requests.
//!
//! A rerun or a resume needs no requests and gives the same bits. `DIR/ab/abcdef....json` holds one request, its
//! answer, and the digest of both; the name is the digest of the request. A file appears only when it is complete. When
//! several workers send the same request, all of them use the first answer.

use crate::digest::{Digest, canonical_json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The version of the file format, which is part of the key.
const FORMAT: u32 = 1;

/// A counter that makes the names of temporary files unique.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

pub(in crate::rewards) struct Cache {
    dir: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<T> {
    request: Value,
    answer: T,
    /// The digest of the request and the answer.
    digest: Digest,
}

impl<T: Serialize> Record<T> {
    fn digest(request: &Value, answer: &T) -> Digest {
        Digest::of(canonical_json(&json!([FORMAT, request, answer])).as_bytes())
    }
}

/// Returns the cache key of the answer to `request`.
pub(in crate::rewards) fn key(request: &Value) -> Digest {
    Digest::of(canonical_json(&json!([FORMAT, request])).as_bytes())
}

impl Cache {
    pub(in crate::rewards) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.dir.join(&key.as_str()[..2]).join(format!("{key}.json"))
    }

    /// Returns the answer to the request with this key, if cached.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is not as [`Cache::store`] wrote it.
    pub(in crate::rewards) fn get<T: Serialize + DeserializeOwned>(&self, key: &Digest) -> io::Result<Option<T>> {
        let path = self.path(key);
        let bytes = match fs_err::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let whole = |record: &Record<T>| {
            self::key(&record.request) == *key && Record::digest(&record.request, &record.answer) == record.digest
        };
        match serde_json::from_slice::<Record<T>>(&bytes) {
            Ok(record) if whole(&record) => Ok(Some(record.answer)),
            _ => Err(io::Error::new(ErrorKind::InvalidData, format!("`{}` is damaged", path.display()))),
        }
    }

    /// Caches the `answer` to `request` and returns the one that counts: another worker's, if it was first.
    pub(in crate::rewards) fn store<T: Serialize + DeserializeOwned>(
        &self,
        key: &Digest,
        request: &Value,
        answer: T,
    ) -> io::Result<T> {
        let path = self.path(key);
        let dir = path.parent().expect("a file lies in a directory");
        fs_err::create_dir_all(dir)?;
        let digest = Record::digest(request, &answer);
        let record = Record { request: request.clone(), answer, digest };
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let part = dir.join(format!(".{key}.{}.{number}.part", std::process::id()));
        let mut file = fs_err::File::create(&part)?;
        file.write_all(&serde_json::to_vec(&record).expect("a record serializes"))?;
        file.sync_all()?;
        drop(file);
        // unlike a rename, a link does not replace an existing file
        let linked = fs_err::hard_link(&part, &path);
        if let Err(error) = &linked
            && error.kind() == ErrorKind::AlreadyExists
            && let Ok(Some(first)) = self.get(key)
        {
            fs_err::remove_file(&part)?;
            return Ok(first);
        }
        match linked {
            Ok(()) => fs_err::remove_file(&part)?,
            // the existing file is damaged, or the file system has no links
            Err(_) => fs_err::rename(&part, &path)?,
        }
        Ok(record.answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::components::judge::prompt::{preference_schema, score_schema};
    use crate::rewards::components::judge::testing::{SAMPLING, scale};
    use crate::rewards::components::judge::verdict::JudgeReply;
    use crate::rewards::{JudgeSampling, RubricScale};

    fn answer(content: &str) -> JudgeReply {
        JudgeReply {
            content: Some(content.to_owned()),
            refusal: None,
            finish_reason: None,
            total_tokens: 3,
            prompt_tokens: 2,
            completion_tokens: 1,
        }
    }

    fn request(sampling: JudgeSampling, model: &str, message: &str) -> Value {
        crate::rewards::components::judge::prompt::request(sampling, model, message, &score_schema(&scale()))
    }

    #[test]
    fn the_first_answer_is_kept_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(&dir.path().join("judge-cache"));
        let request = request(SAMPLING, "m", "How good?");
        let key = key(&request);
        assert_eq!(cache.get::<JudgeReply>(&key).unwrap(), None);
        assert_eq!(cache.store(&key, &request, answer("1")).unwrap(), answer("1"));
        assert_eq!(cache.store(&key, &request, answer("2")).unwrap(), answer("1"), "the first one counts");
        assert_eq!(Cache::new(&dir.path().join("judge-cache")).get(&key).unwrap(), Some(answer("1")));
        let files: Vec<_> = fs_err::read_dir(cache.path(&key).parent().unwrap()).unwrap().collect();
        assert_eq!(files.len(), 1, "nothing temporary is left: {files:?}");
    }

    #[test]
    fn a_damaged_file_is_an_error_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        let request = request(SAMPLING, "m", "How good?");
        let key = key(&request);
        cache.store(&key, &request, answer("{\"score\": 1}")).unwrap();
        let path = cache.path(&key);
        let whole = fs_err::read_to_string(&path).unwrap();
        let damages =
            [String::new(), whole[..whole.len() / 2].to_owned(), whole.replace("score\\\": 1", "score\\\": 2")];
        for damaged in damages {
            assert_ne!(damaged, whole);
            fs_err::write(&path, damaged).unwrap();
            let error = cache.get::<JudgeReply>(&key).unwrap_err().to_string();
            assert!(error.contains("is damaged") && error.contains(key.as_str()), "{error}");
            assert_eq!(cache.store(&key, &request, answer("new")).unwrap(), answer("new"));
            assert_eq!(cache.get(&key).unwrap(), Some(answer("new")));
        }
    }

    #[test]
    fn whatever_changes_a_request_changes_its_key() {
        let longer = score_schema(&RubricScale { max_score: 9, ..scale() });
        let of_schema = |schema| crate::rewards::components::judge::prompt::request(SAMPLING, "m", "How good?", schema);
        let keys = [
            request(SAMPLING, "m", "How good?"),
            request(SAMPLING, "n", "How good?"),
            request(SAMPLING, "m", "How bad?"),
            request(JudgeSampling { temperature: 0.5, ..SAMPLING }, "m", "How good?"),
            request(JudgeSampling { seed: 1, ..SAMPLING }, "m", "How good?"),
            request(JudgeSampling { max_tokens: 9, ..SAMPLING }, "m", "How good?"),
            of_schema(&longer),
            of_schema(&preference_schema()),
        ]
        .map(|request| key(&request));
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }
}
