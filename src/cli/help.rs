//! The command line as clap knows it, with texts that fit any terminal.

use super::commands::Cli;
use clap::{Command, CommandFactory as _};

/// Returns the command line with all commands.
pub(super) fn command() -> Command {
    reflowed(Cli::command())
}

/// Joins each paragraph of the texts of `command` into one line. clap wraps lines but never joins them. Text that is
/// wrapped in the source would therefore be wrapped twice in a narrow terminal. Lines that begin with a space, such as
/// examples, stay.
fn reflowed(command: Command) -> Command {
    let after_help = command.get_after_help().map(|text| joined(&text.to_string()));
    let command = match after_help {
        Some(text) => command.after_help(text),
        None => command,
    };
    command.mut_subcommands(reflowed)
}

fn joined(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        let is_prose = !line.is_empty() && !line.starts_with(' ');
        match lines.last_mut() {
            Some(last) if is_open && is_prose => {
                // A JSON object continues without a space.
                let is_within = last.matches('{').count() > last.matches('}').count();
                let gap = if is_within && last.ends_with(['|', ',']) { "" } else { " " };
                last.push_str(gap);
                last.push_str(line);
            }
            _ => lines.push(line.to_owned()),
        }
        is_open = is_prose && !line.ends_with(':');
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_one_line_and_examples_stay() {
        let text = "Shows what ran\nand when.\n\nExamples:\n  orchestrate history\n  orchestrate show\n\n--json prints {\"a\",\n\"b\"},\none a line.";
        let expected = "Shows what ran and when.\n\nExamples:\n  orchestrate history\n  orchestrate show\n\n--json prints {\"a\",\"b\"}, one a line.";
        assert_eq!(joined(text), expected);
    }

    #[test]
    fn every_command_is_sound() {
        command().debug_assert();
    }
}
