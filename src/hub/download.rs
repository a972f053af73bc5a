//! Downloads files: they are fetched, continued after an interruption, verified, and only then visible.

use super::client::{Client, Failure, MAX_TRIES, pause, text};
use super::error::HubError;
use super::folder::Folder;
use super::length;
use super::listing::{Entry, Listing};
use crate::digest::hex;
use crate::recipe::HubReference;
use sha1::Sha1;
use sha2::Sha256;
use std::io::{Read as _, Write as _};
use std::path::Path;
use ureq::http::{Method, StatusCode};

/// The number of bytes that are read and written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A step of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubStep<'a> {
    /// Another process downloads the same file.
    Waiting {
        /// The file's name in the repository.
        file: &'a str,
    },
    /// The download of a file begins or continues.
    Begun {
        /// `owner/name`.
        repo: &'a str,
        /// The file's name in the repository.
        file: &'a str,
        /// The file's size in bytes, if the hub reports it.
        bytes: Option<u64>,
        /// Bytes that an earlier try received.
        here: u64,
    },
    /// This many more bytes were received.
    Received(u64),
    /// The file is complete.
    Ended,
}

/// A download of files of a commit.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) folder: &'a Folder,
    pub(super) reference: &'a HubReference,
    pub(super) commit: &'a str,
    pub(super) on_step: &'a mut dyn FnMut(HubStep<'_>),
}

impl Download<'_> {
    /// Downloads those of `files` that are not in the cache.
    pub(super) fn files(&mut self, listing: &Listing, files: &[String]) -> Result<(), Failure> {
        let directory = self.folder.snapshot(self.commit);
        for file in files.iter().filter(|file| !directory.join(file).is_file()) {
            self.file(file, &listing.entry(file))?;
        }
        Ok(())
    }

    fn file(&mut self, name: &str, entry: &Entry) -> Result<(), Failure> {
        let (etag, size) = match (entry.etag(), entry.size) {
            (Some(etag), Some(size)) => (etag.to_owned(), Some(size)),
            _ => self.ask(name)?,
        };
        if !is_file_name(&etag) {
            return Err(self.answer(name, format!("with `{etag}` for a hash")).into());
        }
        let blob = self.folder.blob(&etag);
        let on_step = &mut *self.on_step;
        let _lock = self.folder.lock(&etag, || on_step(HubStep::Waiting { file: name }))?;
        if !blob.is_file() || size.is_some_and(|size| size != length(&blob)) {
            fs_err::create_dir_all(blob.parent().unwrap_or(&blob))?;
            let partial = self.folder.partial(&etag);
            (self.on_step)(HubStep::Begun {
                repo: &self.folder.repo_id,
                file: name,
                bytes: size,
                here: length(&partial),
            });
            self.fetch(name, &partial, size)?;
            self.check(name, &partial, &etag, size)?;
            fs_err::rename(&partial, &blob)?;
            (self.on_step)(HubStep::Ended);
        }
        self.folder.link(self.commit, name, &etag)?;
        Ok(())
    }

    /// Requests the hash and the size of a file for which the listing does not give them.
    fn ask(&self, name: &str) -> Result<(String, Option<u64>), Failure> {
        let url = self.client.file_url(self.folder, self.commit, name)?;
        let answer = self.client.patiently(&Method::HEAD, &url, None)?;
        if !answer.status().is_success() && !answer.status().is_redirection() {
            return Err(self.client.refusal(&answer, self.reference, Some(name)).into());
        }
        let etag = text(&answer, "x-linked-etag").or_else(|| text(&answer, "etag"));
        let etag = etag.ok_or_else(|| self.answer(name, "without an `ETag`".to_owned()))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        let size = text(&answer, "x-linked-size")
            .or_else(|| answer.status().is_success().then(|| text(&answer, "content-length")).flatten());
        Ok((etag, size.and_then(|size| size.parse().ok())))
    }

    /// Downloads the rest of a file into `partial`.
    fn fetch(&mut self, name: &str, partial: &Path, size: Option<u64>) -> Result<(), Failure> {
        let url = self.client.file_url(self.folder, self.commit, name)?;
        let mut file = fs_err::OpenOptions::new().create(true).append(true).open(partial)?;
        let mut failures = 0;
        let mut best = length(partial); // bytes that a server sends again are not progress
        loop {
            let mut here = file.metadata()?.len();
            if size.is_some_and(|size| here > size) {
                file.set_len(0)?; // of another file, or appended to by two processes
                (here, best) = (0, 0);
            }
            if size.is_some_and(|size| here == size) {
                return Ok(file.sync_all()?);
            }
            let answer = self.client.patiently(&Method::GET, &url, Some(here))?;
            match answer.status() {
                StatusCode::PARTIAL_CONTENT if goes_on_at(text(&answer, "content-range").as_deref(), here) => {}
                // The server does not support ranges, or not this one. So the download starts from the beginning.
                StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                    file.set_len(0)?;
                    here = 0;
                    if answer.status() != StatusCode::OK {
                        failures += 1;
                        if failures == MAX_TRIES {
                            return Err(self.answer(name, format!("{} to a range", answer.status())).into());
                        }
                        continue;
                    }
                }
                _ => return Err(self.client.refusal(&answer, self.reference, Some(name)).into()),
            }
            // One byte more than the expected size shows that it is another file.
            let wanted = size.map_or(u64::MAX, |size| size - here + 1);
            let body = answer.into_body().into_reader().take(wanted);
            let ended = self.copy(body, &mut file, best.saturating_sub(here))?;
            let now = file.metadata()?.len();
            match ended {
                Ok(()) if size.is_none_or(|size| now >= size) => return Ok(file.sync_all()?),
                outcome => {
                    failures = if now > best { 0 } else { failures + 1 };
                    best = best.max(now);
                    if failures == MAX_TRIES {
                        let reason = outcome.err().map_or("the file ends early".to_owned(), |error| error.to_string());
                        return Err(Failure::Unreachable(reason));
                    }
                    pause(failures.max(1));
                }
            }
        }
    }

    /// Appends the content of `body` to `file`. The first `known` bytes were received before. The outer error is the
    /// file's, the inner one the network's.
    fn copy(
        &mut self,
        mut body: impl std::io::Read,
        file: &mut fs_err::File,
        mut known: u64,
    ) -> std::io::Result<Result<(), std::io::Error>> {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            match body.read(&mut buffer) {
                Ok(0) => return Ok(Ok(())),
                Ok(count) => {
                    file.write_all(&buffer[..count])?;
                    let again = known.min(count as u64);
                    known -= again;
                    (self.on_step)(HubStep::Received(count as u64 - again));
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Verifies `partial` against the hub's size and hash, and removes it on a mismatch. The hash is SHA-256 for large
    /// files and the git hash for small ones.
    fn check(&self, name: &str, partial: &Path, etag: &str, size: Option<u64>) -> Result<(), HubError> {
        let found_size = length(partial);
        let is_hex = etag.bytes().all(|b| b.is_ascii_hexdigit());
        let (what, expected, found) = match (size, etag.len()) {
            (Some(size), _) if size != found_size => ("size", size.to_string(), found_size.to_string()),
            (_, 64) if is_hex => ("SHA-256", etag.to_owned(), hash::<Sha256>(&[], partial)?),
            (_, 40) if is_hex => {
                let prefix = format!("blob {found_size}\0");
                ("git hash", etag.to_owned(), hash::<Sha1>(prefix.as_bytes(), partial)?)
            }
            _ => return Ok(()), // a mirror with hashes of its own
        };
        if expected == found {
            return Ok(());
        }
        fs_err::remove_file(partial)?;
        let repo = self.folder.repo_id.clone();
        Err(HubError::Damaged { file: name.to_owned(), repo, what, expected, found })
    }

    fn answer(&self, name: &str, what: String) -> HubError {
        let url = self.client.file_url(self.folder, self.commit, name).map_or_else(|_| name.to_owned(), String::from);
        HubError::Answer { url, what }
    }
}

/// Whether `Content-Range: bytes 5-9/10` begins at `here`.
fn goes_on_at(range: Option<&str>, here: u64) -> bool {
    let begin = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok());
    begin == Some(here)
}

/// Whether `etag` can be the name of a file.
fn is_file_name(etag: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=128).contains(&etag.len()) && etag.chars().all(fits) && !etag.starts_with('.')
}

/// Returns the hash of `prefix` and the bytes of a file, in hexadecimal digits.
fn hash<H: sha2::Digest>(prefix: &[u8], path: &Path) -> std::io::Result<String> {
    let mut file = fs_err::File::open(path)?;
    let mut hasher = H::new_with_prefix(prefix);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}
