//! Cache keys: the digest of everything a stage's result depends on.
//!
//! | input | where it goes |
//! |---|---|
//! | every field of [`StageSpec`], defaults written out | hashed, by serialization, with no list of exceptions |
//! | content of model, tokenizer, encoder and data files | hashed, as the digests in the spec |
//! | the seed | hashed, in the spec |
//! | the parent stage | hashed, as its key |
//! | the kind of stage and the version of its code ([`stage_version`]) | hashed |
//! | the form of this document ([`KEY_FORMAT`]) | hashed |
//! | libtorch, device, host, git revision, times | recorded in events and history |
//! | names of recipes, variants, stages and data sets | recorded in history |
//! | paths and modification times of files | ignored |
//! | `[runtime]`: device, threads, jobs, intervals of resume points | ignored |
//! | executor, retries, logging | ignored |
//!
//! `key.json`, beside each result, is what the key is the digest of:
//! `{key_format, kind, stage_version, spec, parents}`, as canonical JSON. As the parent enters by key, every key is
//! known before anything runs, and a change reaches exactly the stages below it.

use crate::digest::{Digest, canonical_json};
use crate::recipe::spec::{StageSpec, Work};
use serde_json::{Value, json};

/// The form of `key.json`; a new form makes all keys new.
pub const KEY_FORMAT: u32 = 1;

/// The version of the code behind a kind of stage: one more whenever the same spec gives another result.
pub fn stage_version(work: &Work) -> u32 {
    match work {
        Work::Cpt(_) | Work::Sft(_) | Work::Grpo(_) | Work::Eval(_) => 1,
    }
}

/// A key and what it is the digest of.
#[derive(Clone, Debug, PartialEq)]
pub struct StageKey {
    /// SHA-256 of the canonical form of `json`.
    pub key: Digest,
    /// The content of `key.json`.
    pub json: Value,
}

/// The key of a stage that does `spec` on the results of `parents`.
pub fn stage_key(spec: &StageSpec, parents: &[Digest]) -> StageKey {
    let json = json!({
        "key_format": KEY_FORMAT,
        "kind": spec.work.kind(),
        "stage_version": stage_version(&spec.work),
        "spec": serde_json::to_value(spec).expect("a spec has string keys and finite numbers"),
        "parents": parents,
    });
    StageKey { key: Digest::of(canonical_json(&json).as_bytes()), json }
}
