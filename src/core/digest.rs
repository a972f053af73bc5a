//! Content digests, and the canonical JSON from which they are computed.
//!
//! This is the lowest layer: it does not open files (`workspace::digests` hashes files) or depend on recipes.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A SHA-256 digest, as 64 lowercase hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// Computes the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_sha256(Sha256::new_with_prefix(bytes))
    }

    /// Returns the digest of the bytes that were fed to `hasher`.
    pub fn from_sha256(hasher: Sha256) -> Self {
        Self(hex(&hasher.finalize()))
    }

    /// Parses 64 lowercase hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let hexadecimal = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == 64 && hexadecimal).then(|| Self(text.to_owned()))
    }

    /// Returns all 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first 12 digits, for display.
    pub fn short(&self) -> &str {
        &self.0[..12.min(self.0.len())]
    }
}

/// The reason why the content at a path is not the one that a stage's key names. The result of other content would be
/// cached under a wrong key.
#[derive(Debug, thiserror::Error)]
pub enum ContentChanged {
    /// The content differs.
    #[error("`{}` has changed since this stage was planned", path.display())]
    Differs {
        /// The file or directory.
        path: PathBuf,
    },
    /// The file was written to, so the content that was read may differ.
    #[error("`{}` was written to while this stage read it", path.display())]
    Written {
        /// The file or directory.
        path: PathBuf,
    },
    /// The content is missing or cannot be read.
    #[error("`{}` cannot be read: {error}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// The I/O error.
        error: io::Error,
    },
}

impl ContentChanged {
    /// Compares the digest `found` at `path` with the `planned` one.
    ///
    /// # Errors
    /// A different digest, or content that cannot be read.
    pub fn check(planned: &Digest, path: &Path, found: io::Result<Digest>) -> Result<(), Self> {
        match found {
            Ok(found) if found == *planned => Ok(()),
            Ok(_) => Err(Self::Differs { path: path.to_owned() }),
            Err(error) => Err(Self::Unreadable { path: path.to_owned(), error }),
        }
    }

    /// Returns advice about the error.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Differs { .. } | Self::Written { .. } => {
                "run `orchestrate run` or `orchestrate resume` to plan again"
            }
            Self::Unreadable { .. } => "put it back, then `orchestrate resume`",
        }
    }
}

/// Formats `bytes` as lowercase hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string succeeds");
        hex
    })
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

/// Writes `value` with object keys sorted by code point, without white space, and with numbers as `serde_json` prints
/// them (the shortest form that parses to the same number). Equal values give equal bytes.
pub fn canonical_json(value: &serde_json::Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &serde_json::Value, out: &mut String) {
    use serde_json::Value;
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            out.push('{');
            for (i, name) in names.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_canonical(&fields[name], out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}
