//! The files of a repository that make a model. Only these are downloaded.

use super::error::HubError;
use super::listing::Listing;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Files without which a model cannot be used.
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];

/// Small files that configure a model, and those that other libraries need beside them.
const SETTINGS: [&str; 16] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    INDEX,
];

/// Extensions of files that run code when they are read.
const PICKLES: [&str; 5] = [".bin", ".pt", ".pth", ".ckpt", ".pkl"];

/// Checks that the repository is a model, before anything is downloaded.
pub(super) fn check(repo: &str, listing: &Listing) -> Result<(), HubError> {
    let mut missing: Vec<String> =
        REQUIRED.iter().filter(|name| !listing.has(name)).map(|name| (*name).to_owned()).collect();
    if !listing.has(WEIGHTS) && !listing.has(INDEX) {
        let pickles: Vec<String> = listing.names().filter(|name| is_pickle(name)).take(3).map(str::to_owned).collect();
        if !pickles.is_empty() && !listing.names().any(|name| name.ends_with(".safetensors")) {
            return Err(HubError::OnlyPickles { repo: repo.to_owned(), found: pickles });
        }
        missing.push(WEIGHTS.to_owned());
    }
    if missing.is_empty() { Ok(()) } else { Err(HubError::NotAModel { repo: repo.to_owned(), missing }) }
}

fn is_pickle(name: &str) -> bool {
    PICKLES.iter().any(|extension| name.ends_with(extension)) && !name.contains('/')
}

/// Returns the small files. sentence-transformers keeps those of its modules in numbered folders (`1_Pooling`).
pub(super) fn settings(listing: &Listing) -> Vec<String> {
    let is_wanted = |name: &&str| match name.split_once('/') {
        None => SETTINGS.contains(name) && !(*name == INDEX && listing.has(WEIGHTS)),
        Some((folder, file)) => folder.starts_with(|c: char| c.is_ascii_digit()) && SETTINGS.contains(&file),
    };
    listing.names().filter(is_wanted).map(str::to_owned).collect()
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Returns the weights: one file, or the parts that the index names, and those of the modules in numbered folders. The
/// index has to be in `directory` already.
pub(super) fn weights(repo: &str, listing: &Listing, directory: &Path) -> Result<Vec<String>, HubError> {
    let mut files: BTreeSet<String> = if listing.has(WEIGHTS) {
        [WEIGHTS.to_owned()].into()
    } else {
        let text = fs_err::read(directory.join(INDEX))?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|error| HubError::Answer { url: format!("{repo}/{INDEX}"), what: format!("no index: {error}") })?;
        index.weight_map.into_values().collect()
    };
    let missing: Vec<String> = files.iter().filter(|file| !listing.has(file)).cloned().collect();
    if !missing.is_empty() {
        return Err(HubError::NotAModel { repo: repo.to_owned(), missing });
    }
    let of_module = |name: &&str| {
        name.split_once('/')
            .is_some_and(|(folder, file)| folder.starts_with(|c: char| c.is_ascii_digit()) && file == WEIGHTS)
    };
    files.extend(listing.names().filter(of_module).map(str::to_owned));
    Ok(files.into_iter().collect())
}
