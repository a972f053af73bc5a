//! Snapshots of the whole output of commands in terminals of 80, 100 and 200 columns. They show how a change affects
//! users.

use crate::compare::{GRID, asked, prepare, project, usual};
use crate::env::TestEnv;
use chrono::Timelike as _;
use regex::Regex;

const WIDTHS: [&str; 3] = ["80", "100", "200"];

/// Masks the parts of `text` that differ from run to run by equally many characters, so that columns keep their
/// places.
fn masked(text: &str) -> String {
    let masks = [
        (r"\b[0-9A-HJKMNP-TV-Z]{26}\b", 'R'),  // a run's id
        (r"\b01[0-9A-HJKMNP-TV-Z]{3,}…", 'R'), // its beginning
        (r"\b[0-9A-HJKMNP-TV-Z]{6}\b", 'R'),   // its end
        (r"\b[0-9a-f]{12}\b", 'k'),            // a key
        (r"\b(\d{4}-)?\d\d-\d\d \d\d:\d\d\b", 't'),
        (r"\b\d+\.\d+s\b", 's'),
        (r"\b\d+(\.\d+)? k?B\b", 'b'),
    ];
    masks.iter().fold(text.to_owned(), |text, (pattern, mask)| {
        let pattern = Regex::new(pattern).unwrap();
        let replaced = |found: &regex::Captures<'_>| mask.to_string().repeat(found[0].chars().count());
        pattern.replace_all(&text, replaced).into_owned()
    })
}

/// Creates a finished grid of four arms with three seeds, and a run with a failed stage.
fn ran() -> TestEnv {
    // A column with the same text in every row is dropped first. Within one minute, that would include `started`.
    while chrono::Utc::now().second() >= 40 {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let env = project(GRID);
    prepare(&env, "grid.toml", 6, &asked, &usual);
    env.run(&["run", "grid.toml"]).ends_with(0);
    env.behave("tuned", "fail");
    env.run(&["run", "small.toml"]).ends_with(4);
    env
}

#[test]
fn tables_fit_the_terminal() {
    let env = ran();
    let grid = env.run(&["runs", "ls", "--json"]).ends_with(0).json()[0]["run"].as_str().unwrap().to_owned();
    let commands: [&[&str]; 13] = [
        &["plan", "grid.toml"],
        &["run", "grid.toml"],
        &["runs", "ls"],
        &["history", "--limit", "12"],
        &["show", &grid],
        &["compare", &grid],
        &["compare", &grid, "--all"],
        &["cost", &grid],
        &["metrics", &grid, "sft", "--variant", "good"],
        &["samples", &grid, "eval", "--variant", "good,seed=1", "--limit", "2"],
        &["cache", "ls"],
        &["explain", "grid.toml", "sft", "--set", "stages.sft.lr=3e-4", "--variant", "seed=1"],
        &["keys", "grpo.zero_std"],
    ];
    for (command, width) in commands.iter().flat_map(|command| WIDTHS.map(|width| (command, width))) {
        let ended = env.run_with(command, "COLUMNS", width);
        let words: Vec<&str> = command.iter().filter(|word| **word != grid).copied().collect();
        let name = words.join(" ").replace(['/', ' ', '=', ','], "_");
        let text = masked(&ended.stdout).replace(&env.path("").display().to_string(), "PROJECT/");
        let most: usize = width.parse().unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= most, "`{}` in {width} columns:\n{line}", words.join(" "));
        }
        insta::assert_snapshot!(format!("{name}@{width}"), text);
    }
}
