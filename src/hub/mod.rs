//! Models and data sets of the Hugging Face hub, downloaded into the user's own Hugging Face cache.
//!
//! The cache has the layout that Python's `huggingface_hub` and transformers use
//! (`models--OWNER--NAME/{blobs,refs,snapshots}`), so each side finds the other's downloads. `hf-hub` provides the
//! routes of the hub and the names of the layout. The bytes are fetched here, because its `download` has four problems:
//!
//! - It makes a file visible without checking its hash.
//! - It appends to a partial file whatever the server sends.
//! - It waits forever on a stalled connection.
//! - It sends the user's token to the host of a redirect.
//!
//! Guarantees:
//!
//! - A file appears in `blobs` and `snapshots` only when it is whole and has the hub's hash.
//! - An interrupted download continues where it ended.
//! - One process at a time downloads a file, under the lock that Python takes too.
//! - A commit in the cache is used without the network.
//! - Pickles are never fetched.

mod client;
mod download;
mod environment;
mod error;
mod folder;
mod listing;
mod model_files;
mod resolver;

pub use download::HubStep;
pub use environment::HubEnvironment;
pub use error::HubError;
pub use resolver::*;
