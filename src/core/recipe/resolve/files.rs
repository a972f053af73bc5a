//! Looks up the files that a recipe names, and their digests.

use crate::digest::Digest;
use crate::recipe::resolve::inputs::{HubFiles, Inputs};
use crate::recipe::spec::{DataFile, DataFormat};
use crate::recipe::sweep::variant::Variant;
use crate::recipe::text::diagnostic::{Problem, Problems};
use crate::recipe::text::hub_reference::{HubReference, HubRepoKind};
use crate::recipe::text::layers::io_reason;
use crate::recipe::text::located::KeyPath;
use crate::suggestion::nearest;
use std::collections::{BTreeMap, HashMap};
use std::fs::FileType;
use std::io;
use std::path::{Path, PathBuf};

/// The extensions of data files, for messages.
pub(in crate::recipe) const EXTENSIONS: &str = "`.txt`, `.md`, `.jsonl`, `.parquet`";

/// The known state of files. Each file is looked at once, so that all variants see the same.
#[derive(Debug, Default)]
pub(in crate::recipe) struct KnownFiles {
    /// The type of each path, `None` where the path does not exist.
    kinds: HashMap<PathBuf, Option<FileType>>,
    /// The digests of the directories of models.
    models: HashMap<PathBuf, Digest>,
    /// The digests of files.
    digests: HashMap<PathBuf, Digest>,
    /// The files that match each pattern.
    patterns: HashMap<String, Vec<PathBuf>>,
}

impl KnownFiles {
    fn kind(&mut self, path: &Path) -> Option<FileType> {
        if let Some(kind) = self.kinds.get(path) {
            return *kind;
        }
        let kind = std::fs::metadata(path).ok().map(|metadata| metadata.file_type());
        self.kinds.insert(path.to_owned(), kind);
        kind
    }

    pub(in crate::recipe) fn is_file(&mut self, path: &Path) -> bool {
        self.kind(path).is_some_and(|kind| kind.is_file())
    }

    pub(in crate::recipe) fn is_dir(&mut self, path: &Path) -> bool {
        self.kind(path).is_some_and(|kind| kind.is_dir())
    }
}

/// Looks up files for one variant of a recipe.
pub(in crate::recipe) struct Files<'a> {
    pub(in crate::recipe) variant: &'a Variant<'a>,
    pub(in crate::recipe) project: &'a Path,
    pub(in crate::recipe) known: &'a mut KnownFiles,
    pub(in crate::recipe) inputs: &'a mut dyn Inputs,
    pub(in crate::recipe) problems: &'a mut Problems,
}

impl Files<'_> {
    fn problem(&mut self, key: &KeyPath, message: String, label: &str, help: String) {
        self.problems.push(Problem::at(self.variant.value_place(key), message, label).help(help));
    }

    /// Returns the digest of the Hugging Face directory named by `key`. `what` names the directory's purpose in
    /// messages.
    pub(in crate::recipe) fn directory(
        &mut self,
        what: &str,
        named: &str,
        key: &KeyPath,
        found: &mut BTreeMap<Digest, PathBuf>,
    ) -> Option<Digest> {
        let path = if HubReference::is_meant(named) {
            self.on_hub(named, HubRepoKind::Model, key)?.directory
        } else {
            self.project.join(named)
        };
        if let Some(digest) = self.known.models.get(&path) {
            found.insert(digest.clone(), path);
            return Some(digest.clone());
        }
        let Ok(metadata) = fs_err::metadata(&path) else {
            let message = format!("the {what} directory `{named}` does not exist");
            self.problem(key, message, "no such directory", self.where_to_look(named, "put the model there"));
            return None;
        };
        if !metadata.is_dir() {
            let message = format!("the {what} `{named}` is not a directory");
            let help = "name the directory that holds `config.json`, `tokenizer.json` and `*.safetensors`".to_owned();
            self.problem(key, message, "a file", help);
            return None;
        }
        let mut missing: Vec<&str> =
            ["config.json", "tokenizer.json"].into_iter().filter(|file| !path.join(file).is_file()).collect();
        if !has_weights(&path) {
            missing.push("*.safetensors");
        }
        if !missing.is_empty() {
            let list = missing.iter().map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", ");
            let message = format!("the {what} directory `{named}` lacks {list}");
            let help = "a Hugging Face directory holds `config.json`, `tokenizer.json` and `*.safetensors`".to_owned();
            self.problem(key, message, "not a whole model", help);
            return None;
        }
        match self.inputs.directory(&path) {
            Ok(digest) => {
                self.known.models.insert(path.clone(), digest.clone());
                found.insert(digest.clone(), path);
                Some(digest)
            }
            Err(error) => {
                let message = format!("cannot read the {what} directory `{named}`: {error}");
                self.problem(key, message, "unreadable", "check the directory's permissions".to_owned());
                None
            }
        }
    }

    /// Returns the text of the file `named`. `what` names the file's purpose in messages.
    pub(in crate::recipe) fn text(&mut self, what: &str, named: &str, key: &KeyPath) -> Option<String> {
        match fs_err::read_to_string(self.project.join(named)) {
            Ok(text) => Some(text),
            Err(error) => {
                let message = format!("cannot read the {what} `{named}`: {}", io_reason(&error));
                self.problem(key, message, "no such file", self.where_to_look(named, "put the file there"));
                None
            }
        }
    }

    /// Returns the JSON in the file `named`. `what` names the file's purpose in messages.
    pub(in crate::recipe) fn json(&mut self, what: &str, named: &str, key: &KeyPath) -> Option<serde_json::Value> {
        let text = self.text(what, named, key)?;
        match serde_json::from_str(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                let message = format!("the {what} `{named}` is not JSON: {error}");
                self.problem(key, message, "not JSON", "check the file with a JSON tool".to_owned());
                None
            }
        }
    }

    /// Returns the data files of `named`, which is a path or a pattern.
    pub(in crate::recipe) fn data(&mut self, named: &str, key: &KeyPath) -> Vec<PathBuf> {
        if HubReference::is_meant(named) {
            return self.on_hub(named, HubRepoKind::Dataset, key).map(|found| found.files).unwrap_or_default();
        }
        let path = self.project.join(named);
        if !named.contains(['*', '?', '[']) {
            if self.known.is_file(&path) {
                return vec![path];
            }
            return match fs_err::metadata(&path) {
                Ok(metadata) if metadata.is_file() => vec![path],
                Ok(_) => {
                    let help = format!("name files, for example `{}/*.jsonl`", named.trim_end_matches('/'));
                    self.problem(key, format!("the data path `{named}` is not a file"), "a directory", help);
                    Vec::new()
                }
                Err(error) => {
                    let message = format!("cannot read the data file `{named}`: {}", io_reason(&error));
                    self.problem(key, message, "no such file", self.where_to_look(named, "put the file there"));
                    Vec::new()
                }
            };
        }
        match self.glob(named) {
            Ok(files) if files.is_empty() => {
                let help = self.where_to_look(named, "put files there");
                self.problem(key, format!("no file matches the pattern `{named}`"), "matches nothing", help);
                Vec::new()
            }
            Ok(files) => files,
            Err(error) => {
                let message = format!("cannot list the pattern `{named}`: {error}");
                self.problem(key, message, "this pattern", "`*`, `?`, `[a-z]` and `**` are understood".to_owned());
                Vec::new()
            }
        }
    }

    /// Returns the files that match `pattern`, which is relative to the project.
    pub(in crate::recipe) fn glob(&mut self, pattern: &str) -> io::Result<Vec<PathBuf>> {
        if let Some(files) = self.known.patterns.get(pattern) {
            return Ok(files.clone());
        }
        let files = self.inputs.glob(self.project, pattern)?;
        self.known.patterns.insert(pattern.to_owned(), files.clone());
        Ok(files)
    }

    /// Returns the digest of the file at `path`.
    pub(in crate::recipe) fn digest(&mut self, path: &Path) -> io::Result<Digest> {
        if let Some(digest) = self.known.digests.get(path) {
            return Ok(digest.clone());
        }
        let digest = self.inputs.file(path)?;
        self.known.digests.insert(path.to_owned(), digest.clone());
        Ok(digest)
    }

    /// Returns the digest and the format of the data file at `path`.
    pub(in crate::recipe) fn data_file(
        &mut self,
        path: &Path,
        key: &KeyPath,
        found: &mut BTreeMap<Digest, PathBuf>,
    ) -> Option<DataFile> {
        let shown = path.strip_prefix(self.project).unwrap_or(path).display().to_string();
        let Some(format) = format_of(path) else {
            let message = match path.extension().and_then(|extension| extension.to_str()) {
                Some(extension) => format!("cannot read data of the kind `.{extension}`: `{shown}`"),
                None => format!("the data file `{shown}` has no extension"),
            };
            self.problem(key, message, "unknown format", format!("supported: {EXTENSIONS}"));
            return None;
        };
        match self.digest(path) {
            Ok(digest) => {
                found.insert(digest.clone(), path.to_owned());
                Some(DataFile::File { digest, format })
            }
            Err(error) => {
                let message = format!("cannot read the data file `{shown}`: {error}");
                self.problem(key, message, "unreadable", "check the file's permissions".to_owned());
                None
            }
        }
    }

    /// Returns the files on the hub that `named`, which begins with `hf://`, refers to.
    fn on_hub(&mut self, named: &str, wanted: HubRepoKind, key: &KeyPath) -> Option<HubFiles> {
        let (example, other) = match wanted {
            HubRepoKind::Model => ("hf://owner/name` or `hf://owner/name@revision", "a data set"),
            HubRepoKind::Dataset => ("hf://datasets/owner/name@revision/file.jsonl", "a model"),
        };
        let reference = match HubReference::parse(named) {
            Ok(reference) if reference.kind == wanted => reference,
            outcome => {
                let reason = outcome.err().unwrap_or_else(|| format!("it names {other}"));
                let message = format!("`{named}` cannot be read: {reason}");
                self.problem(key, message, "not a valid hub reference", format!("write `{example}`"));
                return None;
            }
        };
        match self.inputs.hub(&reference) {
            Ok(found) => Some(found),
            Err(refusal) => {
                self.problem(key, refusal.message, "on the hub", refusal.help);
                None
            }
        }
    }

    /// Returns advice about the missing file `named`: files beside it with a similar name, and the directory in which
    /// it is expected.
    fn where_to_look(&self, named: &str, advice: &str) -> String {
        let path = Path::new(named);
        let beside = path.parent().unwrap_or(Path::new(""));
        let names: Vec<String> = fs_err::read_dir(self.project.join(beside))
            .map(|entries| entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
            .unwrap_or_default();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let wanted = path.file_name().unwrap_or_default().to_string_lossy();
        let suggestion = match nearest(&wanted, &names) {
            Some(near) => format!("did you mean `{}`? ", beside.join(near).display()),
            None => String::new(),
        };
        let rule = "paths are relative to the project directory (`-C`, or where `orchestrate` was started)";
        format!("{suggestion}{rule}; {advice}, or name where it is")
    }
}

/// Returns the format of the data file at `path`, by its extension.
pub(in crate::recipe) fn format_of(path: &Path) -> Option<DataFormat> {
    match path.extension()?.to_str()? {
        "txt" | "md" => Some(DataFormat::Text),
        "jsonl" => Some(DataFormat::Jsonl),
        "parquet" => Some(DataFormat::Parquet),
        _ => None,
    }
}

fn has_weights(directory: &Path) -> bool {
    let Ok(entries) = fs_err::read_dir(directory) else { return false };
    entries
        .filter_map(Result::ok)
        .any(|entry| entry.path().extension().is_some_and(|extension| extension == "safetensors"))
}
