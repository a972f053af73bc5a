#![doc = include_str!("../docs/command.md")]

mod command_reward;
mod keys;
mod process;
#[cfg(test)]
mod tests;

pub use self::keys::CommandSpec;
use command_reward::Command;
