//! Models and data sets of the Hugging Face hub, brought into the user's own Hugging Face cache.
//!
//! The cache has the layout that Python's `huggingface_hub` and transformers use
//! (`models--OWNER--NAME/{blobs,refs,snapshots}`), so what one side downloaded the other finds. `hf-hub` knows the routes
//! of the hub, the names of the layout, and asks for a repository's listing. The bytes are fetched here, because its
//! `download` makes a file visible without looking at its hash, appends to a partial file whatever the server sends,
//! waits for ever on a stalled connection, and sends the user's token to the host it is redirected to.
//!
//! What holds: a file appears in `blobs` and `snapshots` only whole and with the hash that the hub names; an interrupted
//! download goes on where it ended; one process downloads a file at a time, under the lock that Python takes too;
//! a commit that is here is used without the network; pickles are never fetched.

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
