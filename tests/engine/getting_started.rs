//! `docs/src/getting-started.md` is true: its files and commands, in order, print what the page prints.
//!
//! A block `toml NAME` is a file. In a block `console`, a dollar sign begins a command, and its output follows. A block
//! `sh` has commands without output. A block that ends in `not-run` is only read. `ORCHESTRATE_UPDATE_DOCS=1` writes
//! the outputs.

use regex::Regex;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable that writes the page instead of comparing with it.
const UPDATE: &str = "ORCHESTRATE_UPDATE_DOCS";
const MODELS: [&str; 2] = ["smollm2-135m-instruct", "all-minilm-l6-v2"];

#[test]
fn the_page_of_the_first_ablation_prints_what_its_commands_print() {
    let Some(models) = models() else { return };
    let page = root().join("docs/src/getting-started.md");
    let written = fs_err::read_to_string(&page).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs_err::os::unix::fs::symlink(models, folder.path().join("models")).unwrap();
    let printed = follow(&written, folder.path());
    if std::env::var_os(UPDATE).is_some() {
        fs_err::write(&page, printed).unwrap();
        return;
    }
    let (expected, found) = (masked(&written), masked(&printed));
    assert!(
        expected == found,
        "the page differs (-) from what its commands print (+), numbers masked; \
        {UPDATE}=1 writes it:\n{}",
        differences(&expected, &found)
    );
}

#[test]
fn only_what_differs_between_machines_is_masked() {
    let verdict =
        |cell: &str| masked(&format!("```console\narm  mean  verdict\n────\nbrief  0.5  {cell}\n\nend  1.5s\n```\n"));
    assert_eq!(verdict("better  +0.3"), verdict("not separable,  -0.25\n          needs 3 more seeds"));
    assert_eq!(verdict("better"), "```console\narm  mean  verdict\n─\nbrief  VERDICT\n\nend  TIME\n```\n");
    assert_ne!(masked("```console\n8 stages\n```\n"), masked("```console\n6 stages\n```\n"));
    assert_eq!(masked("a  0.5\n"), "a  0.5\n", "text outside `console` is compared as it is");
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of the real models, where both are.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn models() -> Option<PathBuf> {
    let folder = root().join("models").canonicalize().ok();
    if folder.as_ref().is_some_and(|folder| MODELS.iter().all(|name| folder.join(name).exists())) {
        return folder;
    }
    eprintln!("skipped: {} are missing in models/; `./justw test` fetches them", MODELS.join(" and "));
    assert!(std::env::var_os("CI").is_none(), "CI must have the real models");
    None
}

/// Follows the page in `folder`, and returns it with the outputs of its commands.
fn follow(page: &str, folder: &Path) -> String {
    let mut printed = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        writeln!(printed, "{line}").unwrap();
        let Some(fence) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match fence.split_once(' ').unwrap_or((fence, "")) {
            ("console", "") => {
                for command in block.iter().filter_map(|line| line.strip_prefix("$ ")) {
                    write!(printed, "$ {command}\n{}", output(command, folder)).unwrap();
                }
            }
            (language, word) => {
                if language == "sh" && word.is_empty() {
                    output(&block.join("\n"), folder);
                } else if language == "toml" && !word.is_empty() {
                    fs_err::write(folder.join(word), block.join("\n") + "\n").unwrap();
                }
                for line in &block {
                    writeln!(printed, "{line}").unwrap();
                }
            }
        }
        printed.push_str("```\n");
    }
    printed
}

/// What a command prints to both streams, without the lines that report progress.
fn output(command: &str, folder: &Path) -> String {
    let binaries = Path::new(env!("CARGO_BIN_EXE_orchestrate-worker")).parent().unwrap();
    let path = std::env::join_paths([binaries, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let settings =
        std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("ORCHESTRATE_"));
    let mut shell = Command::new("sh");
    settings.for_each(|name| _ = shell.env_remove(name));
    let run = shell
        .args(["-ec", &format!("exec 2>&1\n{command}")])
        .current_dir(folder)
        .env("PATH", path)
        .env("CUDA_VISIBLE_DEVICES", "")
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "`{command}` ended with {}:\n{text}", run.status);
    let progress = Regex::new(r"^running  |^ +\d+ of \d+ stages, ").unwrap();
    text.lines().filter(|line| !progress.is_match(line)).map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The page, with a word in the `console` blocks for what differs between runs and machines: ids, digests, times,
/// sizes, measured numbers, sampled texts, and the verdicts that follow from them. Widths of columns follow from those.
fn masked(page: &str) -> String {
    let masks = [
        (r"\b01[0-9A-HJKMNP-TV-Z]{24}\b", "RUN"),
        (r"\b[0-9a-f]{12}\b", "DIGEST"),
        (r"\b(\d+h)?(\d+m)?\d+(\.\d+)?s\b", "TIME"),
        (r"[+-]?\b\d+\.\d+", "NUMBER"),
        (r"\b\d+ [kM]?B\b", "SIZE"),
        (r"^(semantic: \S+) .+ (\S+)$", "$1 VERDICT $2"),
        (r", \d+ tokens.*$", ", TOKENS"),
        (r"^completion  .*$", "completion  TEXT"),
        ("─+", "─"),
        ("(?P<cell>[^ ])   *", "$cell  "),
    ]
    .map(|(pattern, word)| (Regex::new(pattern).unwrap(), word));
    let row = Regex::new(r"^(\S+)  (.*)$").unwrap();
    let (mut text, mut console, mut verdicts, mut wraps) = (String::new(), false, false, false);
    for line in page.lines() {
        if line.starts_with("```") {
            (console, verdicts, wraps) = (line == "```console", false, false);
        } else if console {
            verdicts = !line.is_empty() && (verdicts || line.contains("  verdict"));
            if line.starts_with(' ') && (verdicts || wraps && line.starts_with("            ")) {
                continue; // the rest of a cell, or of a sampled text
            }
            wraps = line.starts_with("completion  ");
            let line = masks
                .iter()
                .fold(line.to_owned(), |line, (pattern, word)| pattern.replace_all(&line, *word).trim_end().to_owned());
            let data = verdicts && !line.contains("verdict") && !line.contains("(the baseline)");
            text += &if data { row.replace(&line, "$1  VERDICT").into_owned() } else { line };
            text.push('\n');
            continue;
        }
        writeln!(text, "{line}").unwrap();
    }
    text
}

/// The lines between the first and the last that differ, those of the page first.
fn differences(page: &str, printed: &str) -> String {
    let (page, printed): (Vec<&str>, Vec<&str>) = (page.lines().collect(), printed.lines().collect());
    let same = page.iter().zip(&printed).take_while(|(one, other)| one == other).count();
    let rest = page.len().min(printed.len()) - same;
    let end = page.iter().rev().zip(printed.iter().rev()).take(rest).take_while(|(one, other)| one == other).count();
    let removed = page[same..page.len() - end].iter().map(|line| format!("- {line}\n"));
    let added = printed[same..printed.len() - end].iter().map(|line| format!("+ {line}\n"));
    format!("line {} of the page:\n{}", same + 1, removed.chain(added).collect::<String>())
}
