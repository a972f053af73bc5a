//! Imports go one way. The compiler ensures that `src/core` uses nothing above it, and that only the engine's own
//! files use the engine. This test reads every `crate::module` path of the other files in `src`. It fails on an edge
//! that the table does not allow, and on an unused allowance.

mod sources;

use regex::Regex;
use sources::{root, rust_files};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// For each module, the modules that it may use. The order is that of the layers, lowest first.
const ALLOWED: &[(&str, &[&str])] = &[
    ("architecture", &[]),
    ("cpu", &[]),
    ("digest", &[]),
    ("dtype", &[]),
    ("energy", &[]),
    ("host", &[]),
    ("parallel", &[]),
    ("printable", &[]),
    ("slice", &[]),
    ("stage", &[]),
    ("stats", &[]),
    ("suggestion", &[]),
    ("metric", &["slice"]),
    ("event", &["cpu"]),
    ("program", &["digest"]),
    ("number", &["event"]),
    ("pace", &["event"]),
    ("rewards", &["digest", "dtype", "metric", "stats", "suggestion", "event", "program"]),
    ("run_event", &["digest", "host", "stage", "event"]),
    ("run_update", &["event"]),
    (
        "recipe",
        &[
            "architecture",
            "cpu",
            "digest",
            "dtype",
            "metric",
            "printable",
            "slice",
            "stage",
            "suggestion",
            "program",
            "rewards",
        ],
    ),
    ("data", &["digest", "recipe"]),
    ("leakage", &["digest", "parallel", "recipe", "data"]),
    ("store", &["digest", "host", "stage", "event", "run_event"]),
    ("arena", &["digest", "slice", "stats", "rewards", "recipe"]),
    ("evidence", &["digest", "slice", "stage", "metric", "stats", "event", "rewards", "recipe"]),
    ("export", &["store"]),
    ("hub", &["digest", "recipe"]),
    ("plan", &["architecture", "digest", "parallel", "recipe"]),
    ("workspace", &["cpu", "digest", "energy", "host", "parallel", "stage", "event", "rewards", "recipe"]),
    ("exec", &["cpu", "digest", "energy", "host", "stage", "event", "program", "recipe", "workspace"]),
    (
        "history",
        &[
            "digest",
            "host",
            "metric",
            "stage",
            "event",
            "run_event",
            "recipe",
            "store",
            "arena",
            "evidence",
            "plan",
            "workspace",
        ],
    ),
    (
        "report",
        &[
            "digest",
            "metric",
            "printable",
            "slice",
            "stage",
            "stats",
            "event",
            "number",
            "pace",
            "rewards",
            "run_update",
            "recipe",
            "arena",
            "evidence",
            "plan",
        ],
    ),
    (
        "run",
        &[
            "architecture",
            "cpu",
            "digest",
            "host",
            "parallel",
            "stage",
            "event",
            "number",
            "pace",
            "run_event",
            "run_update",
            "recipe",
            "store",
            "plan",
            "workspace",
            "exec",
            "history",
        ],
    ),
    ("serve", &["digest", "stage", "event", "run_event", "workspace", "history", "report"]),
    (
        "cli",
        &[
            "cpu",
            "digest",
            "host",
            "printable",
            "slice",
            "stage",
            "suggestion",
            "metric",
            "event",
            "number",
            "rewards",
            "run_event",
            "recipe",
            "leakage",
            "store",
            "arena",
            "evidence",
            "export",
            "hub",
            "plan",
            "workspace",
            "exec",
            "history",
            "report",
            "run",
            "serve",
        ],
    ),
];

/// Modules that only compute, except for the requests of `rewards` to judges.
const PURE: &[&str] = &[
    "recipe",
    "dtype",
    "suggestion",
    "plan",
    "stats",
    "stage",
    "event",
    "run_event",
    "evidence",
    "rewards",
    "arena",
    "digest",
    "parallel",
    "printable",
];

/// Crates that only some modules may name.
const OWNED: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("indicatif", &["report"]),
    ("tabled", &["report"]),
    ("textwrap", &["report"]),
    ("parquet", &["data", "export"]),
    ("hf_hub", &["hub"]),
    ("nvml_wrapper", &["energy", "host"]),
    ("procfs", &["host"]),
    ("ureq", &["hub", "rewards"]), // judges are asked where rewards are computed
    ("url", &["hub", "recipe"]),
    ("axum", &["serve"]),
    ("sha1", &["hub"]),
    ("jsonschema", &["recipe", "rewards"]), // a recipe's schemas are checked before they are used
];

/// Returns every source file except the engine's, with its module and its text without comments.
fn sources() -> Vec<(String, PathBuf, String)> {
    let below_src =
        |(path, text): (PathBuf, String)| (path.strip_prefix(root().join("src")).expect("below src").to_owned(), text);
    let files = rust_files().into_iter().map(below_src).filter(|(path, _)| !path.starts_with("engine"));
    let source = |(path, text): (PathBuf, String)| {
        let within = path.strip_prefix("core").unwrap_or(&path);
        let first = within.iter().next().expect("a file has a name").to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        (module, path, code.join("\n"))
    };
    files.map(source).collect()
}

/// Returns the modules that `code` names by `crate::module` or inside `crate::{...}`.
fn modules_used(code: &str) -> BTreeSet<String> {
    let path = Regex::new(r"\bcrate::([a-z_]+)").expect("a valid pattern");
    let mut used: BTreeSet<String> = path.captures_iter(code).map(|found| found[1].to_owned()).collect();
    let group = Regex::new(r"\bcrate::\{([^;]*)\};").expect("a valid pattern");
    let name = Regex::new(r"^\s*([a-z_]+)").expect("a valid pattern");
    for found in group.captures_iter(code) {
        let mut depth = 0;
        let top = found[1].split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        used.extend(top.filter_map(|item| name.captures(item)).map(|item| item[1].to_owned()));
    }
    used
}

fn names_crate(code: &str, name: &str) -> bool {
    Regex::new(&format!(r"\b{name}(::|!)|\buse {name};")).expect("a valid pattern").is_match(code)
}

#[test]
fn imports_go_one_way() {
    let mut forbidden = Vec::new();
    let mut unused: BTreeSet<(&str, &str)> =
        ALLOWED.iter().flat_map(|(module, allowed)| allowed.iter().map(|used| (*module, *used))).collect();
    for (module, file, code) in sources() {
        if module == "lib" || module == "main" {
            continue;
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            forbidden.push(format!("src/{}: module `{module}` has no layer in tests/layers.rs", file.display()));
            continue;
        };
        for used in modules_used(&code) {
            unused.retain(|&edge| edge != (module.as_str(), used.as_str()));
            if used != module && !allowed.contains(&used.as_str()) {
                forbidden.push(format!("src/{}: `{module}` must not use `crate::{used}`", file.display()));
            }
        }
    }
    assert!(forbidden.is_empty(), "\n{}", forbidden.join("\n"));
    assert!(unused.is_empty(), "the table allows what nobody uses: {unused:?}");
}

#[test]
fn the_table_itself_has_no_cycle() {
    for (position, (module, allowed)) in ALLOWED.iter().enumerate() {
        for used in *allowed {
            let other = ALLOWED.iter().position(|(name, _)| name == used).expect("a known module");
            assert!(other < position, "`{module}` uses `{used}`, which stands above it");
        }
    }
}

#[test]
fn pure_modules_know_no_runtime_database_or_command_line() {
    for (module, file, code) in sources() {
        if PURE.contains(&module.as_str()) {
            for name in ["tokio", "sqlx", "clap"] {
                assert!(!names_crate(&code, name), "src/{}: `{module}` is pure and names `{name}`", file.display());
            }
        }
    }
}

#[test]
fn heavy_crates_have_one_home() {
    for (module, file, code) in sources() {
        assert!(!names_crate(&code, "tch"), "src/{}: only the engine names `tch`", file.display());
        for (name, homes) in OWNED {
            if !homes.contains(&module.as_str()) {
                assert!(!names_crate(&code, name), "src/{}: `{module}` names `{name}`", file.display());
            }
        }
    }
}

#[test]
fn grouped_imports_are_seen() {
    let used = modules_used("use crate::{cache::{Cache, Lease}, store::Store};\nlet x = crate::report::width();");
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["cache", "report", "store"]);
}
