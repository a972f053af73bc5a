//! `orchestrate cache ls|verify|gc|pin|unpin`.

mod commands;
mod gc;
mod ls;
mod pin;
mod verify;

pub(super) use commands::{CacheArgs, cache};

use commands::{keys_named, shown_key};
