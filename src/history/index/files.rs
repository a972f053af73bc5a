//! Reads the files of runs and stages for the index.

use super::runs::IndexError;
use crate::workspace::Manifest;
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Returns when the checkpoint in `dir` was committed, and its size in bytes; absent unless it is whole.
pub(super) fn commit_of(dir: &Path) -> Result<Option<(DateTime<Utc>, u64)>, IndexError> {
    // A checkpoint needs a readable manifest. The next run puts a directory without one into quarantine.
    let Ok(Some(manifest)) = Manifest::read(dir) else { return Ok(None) };
    let record = fs_err::read(dir.join("record.json")).ok();
    let record: Option<serde_json::Value> = record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let at = record.as_ref().and_then(|record| record["committed_at"].as_str()?.parse().ok());
    let at = match at {
        Some(at) => at,
        None => fs_err::metadata(dir.join("manifest.json"))?.modified()?.into(),
    };
    Ok(Some((at, manifest.files.values().map(|file| file.bytes).sum())))
}

/// Returns the first line of a file, or its first 4096 bytes if the line is longer; absent while it is being written.
pub(super) fn first_line(path: &Path) -> io::Result<Option<Vec<u8>>> {
    const LONGEST: u64 = 4096;
    let mut line = Vec::new();
    BufReader::new(fs_err::File::open(path)?.take(LONGEST)).read_until(b'\n', &mut line)?;
    Ok((line.ends_with(b"\n") || line.len() as u64 == LONGEST).then_some(line))
}

/// Returns the length of a file in bytes, if the file exists.
pub(super) fn length(path: &Path) -> Option<u64> {
    fs_err::metadata(path).ok().map(|metadata| metadata.len())
}

/// Iterates over the events of a file from an offset on. An incomplete last line is left out.
pub(super) struct Lines<T> {
    file: Option<BufReader<fs_err::File>>,
    /// The offset behind the last whole line that was read.
    pub(super) offset: u64,
    pub(super) unreadable: u64,
    line: Vec<u8>,
    event: std::marker::PhantomData<T>,
}

impl<T: DeserializeOwned> Lines<T> {
    pub(super) fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let file = match fs_err::File::open(path) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(offset))?;
                Some(BufReader::with_capacity(1 << 16, file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { file, offset, unreadable: 0, line: Vec::new(), event: std::marker::PhantomData })
    }

    pub(super) fn next_event(&mut self) -> io::Result<Option<T>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        loop {
            self.line.clear();
            file.read_until(b'\n', &mut self.line)?;
            if !self.line.ends_with(b"\n") {
                return Ok(None);
            }
            self.offset += self.line.len() as u64;
            match serde_json::from_slice(&self.line) {
                Ok(event) => return Ok(Some(event)),
                Err(_) => self.unreadable += 1,
            }
        }
    }
}
