//! The layers of a recipe, from the lowest: the files that it `extends`, the recipe, `ORCHESTRATE_*`, `--set`. The
//! built-in defaults lie below all of them. They depend on the kinds of the stages, so `defaults` adds them for each
//! variant of the sweep.
//!
//! figment merges the values. The texts are kept beside them, so that every later problem can point at the layer that
//! set the value, which is the highest one that has its path.

use crate::recipe::text::diagnostic::{Place, Problem, Problems, Source};
use crate::recipe::text::located::{Document, KeyPath, Step};
use crate::suggestion::did_you_mean;
use figment::Figment;
use figment::providers::Serialized;
use miette::NamedSource;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Variables that are named like recipe keys and mean something else. The reference of variables is made from what
/// stands behind each.
pub const PROGRAM_VARIABLES: &[&str] = &[
    "ORCHESTRATE_WORKER",           // the worker to use instead of the one beside `orchestrate`
    "ORCHESTRATE_RUNS",             // the directory to use instead of `runs/`
    "ORCHESTRATE_DB",               // the file to use instead of `runs/history.db`
    "ORCHESTRATE_FLOAT32_PRODUCTS", // `mkl` or `onednn`: the library that multiplies 32-bit matrices on a CPU
    "ORCHESTRATE_COUNT_PRODUCTS",   // set: a worker logs how many bfloat16 products libtorch computes on the CPU
    "ORCHESTRATE_SUPERVISOR",       // set for a worker: the process that started it
    "ORCHESTRATE_JOB",              // set for a worker: the name of its job
    "ORCHESTRATE_FAULT",            // in tests: where a process kills itself or waits
    "ORCHESTRATE_TEST_SEED",        // in tests: the seed of a test that draws
];

/// The name used for the environment in place of a file name.
pub(in crate::recipe) const ENVIRONMENT: &str = "environment";

/// The values that the environment and the command line override in every recipe.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The arguments of `--set`, each `KEY=VALUE`. The value is read as TOML, or else as a string.
    pub set: Vec<String>,
    /// The environment variables. Only those named `ORCHESTRATE_...` are read, and [`PROGRAM_VARIABLES`] are left out.
    /// `__` separates keys (`ORCHESTRATE_STAGES__GRPO__LR`).
    pub env: BTreeMap<String, String>,
}

impl Overrides {
    /// Returns the overrides of `set` and of the environment of this process.
    pub fn with_process_environment(set: Vec<String>) -> Self {
        let text = |value: std::ffi::OsString| value.into_string().ok();
        let env = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
        Self { set, env }
    }
}

/// The origin of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::recipe) enum LayerKind {
    File,
    Variable,
    Argument,
}

#[derive(Debug)]
struct Layer {
    kind: LayerKind,
    document: Document,
}

/// The documents of a recipe, lowest first.
#[derive(Debug)]
pub(in crate::recipe) struct Layers {
    stack: Vec<Layer>,
    /// The recipe's own file, which is the last of the files.
    recipe: Source,
    /// The path and text of every file that was read.
    pub(in crate::recipe) files: Vec<(PathBuf, String)>,
}

impl Layers {
    /// Reads the recipe at `path` and every file that it extends.
    pub(in crate::recipe) fn read(
        project: &Path,
        path: &Path,
        overrides: &Overrides,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut layers = Vec::new();
        let mut files = Vec::new();
        read_file(project, path, None, &mut Vec::new(), &mut files, &mut layers, problems)?;
        let recipe = Arc::clone(&layers.last()?.document.source);
        let before = problems.len();
        for (name, value) in &overrides.env {
            layers.extend(variable_layer(name, value, problems));
        }
        for argument in &overrides.set {
            layers.extend(argument_layer(argument, problems));
        }
        let read = Self { stack: layers, recipe, files };
        for (path, place) in read.overridden() {
            read.is_of_something(&path, place, problems);
        }
        (problems.len() == before).then_some(read)
    }

    /// Merges all layers into one table. Tables are merged recursively, later layers override earlier ones, and arrays
    /// are replaced.
    pub(in crate::recipe) fn merged(&self) -> toml::Table {
        let mut tables = self.stack.iter().map(|layer| &layer.document.value);
        if let (Some(only), None) = (tables.next(), tables.next()) {
            return only.clone();
        }
        let tables = self.stack.iter().map(|layer| Serialized::defaults(&layer.document.value));
        let figment = tables.fold(Figment::new(), Figment::merge);
        figment.extract().expect("tables of TOML values merge into a table of TOML values")
    }

    /// Returns the beginning of the recipe, the place of problems about missing keys.
    pub(in crate::recipe) fn beginning(&self) -> Place {
        Place { source: Arc::clone(&self.recipe), span: 0..0 }
    }

    /// Returns the place where the key at `path` was set.
    pub(in crate::recipe) fn key_place(&self, path: &KeyPath) -> Option<Place> {
        self.stack.iter().rev().find_map(|layer| layer.document.key_place(path))
    }

    /// Returns the place where the value at `path` was set.
    pub(in crate::recipe) fn value_place(&self, path: &KeyPath) -> Option<Place> {
        self.stack.iter().rev().find_map(|layer| layer.document.value_place(path))
    }

    /// Whether `path` does not lead into an unknown stage or data set. An unknown one is reported at `place`, because a
    /// misspelt name would otherwise create a new, incomplete stage.
    pub(in crate::recipe) fn is_of_something(&self, path: &KeyPath, place: Place, problems: &mut Problems) -> bool {
        let [Step::Key(group), Step::Key(name), _, ..] = path.0.as_slice() else { return true };
        let what = match group.as_str() {
            "stages" => "stage",
            "data" => "data set",
            _ => return true,
        };
        let files = self.stack.iter().filter(|layer| layer.kind == LayerKind::File);
        let tables = files.filter_map(|layer| layer.document.value.get(group)?.as_table());
        if tables.clone().any(|table| table.contains_key(name)) {
            return true;
        }
        let mut known: Vec<&str> = tables.flat_map(|table| table.keys().map(String::as_str)).collect();
        known.sort_unstable();
        known.dedup();
        let problem = Problem::at(place, format!("unknown {what} `{name}`"), format!("no such `[{group}.NAME]`"));
        problems.push(problem.help(did_you_mean(name, &format!("{what}s"), &known)));
        false
    }

    /// Returns the paths that the environment and the command line set, with their places.
    pub(in crate::recipe) fn overridden(&self) -> Vec<(KeyPath, Place)> {
        let mut paths = Vec::new();
        for layer in self.stack.iter().filter(|layer| layer.kind != LayerKind::File) {
            let mut path = KeyPath::default();
            let mut table = &layer.document.value;
            // An override is one chain of tables down to its value.
            while let Some((key, value)) = table.iter().next() {
                path = path.key(key);
                match value {
                    toml::Value::Table(inner) if inner.len() == 1 => table = inner,
                    _ => break,
                }
            }
            if let Some(place) = layer.document.key_place(&path) {
                paths.push((path, place));
            }
        }
        paths
    }
}

/// Adds the file at `path`, after the files that it extends. A file that several others extend is added once, at its
/// first place. `chain` holds the files that led to this one.
fn read_file(
    project: &Path,
    path: &Path,
    named_at: Option<Place>,
    chain: &mut Vec<PathBuf>,
    files: &mut Vec<(PathBuf, String)>,
    layers: &mut Vec<Layer>,
    problems: &mut Problems,
) -> Option<()> {
    let name = path.display().to_string();
    let text = match fs_err::read_to_string(project.join(path)) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("cannot read the recipe `{name}`: {}", io_reason(&error));
            problems.push(match named_at {
                Some(place) => Problem::at(place, message, "named here")
                    .help("`extends` is relative to the directory of the file that contains it"),
                None => Problem::nowhere(message),
            });
            return None;
        }
    };
    files.push((path.to_owned(), text.clone()));
    let mut document = Document::parse(&name, &text, problems)?;
    if let Some(base) = document.value.remove("extends") {
        let extends = KeyPath::dotted("extends");
        let at = |path: &KeyPath| document.value_place(path).expect("the key was just found there");
        let bases: Vec<(Place, String)> = match base {
            toml::Value::String(base) => vec![(at(&extends), base)],
            toml::Value::Array(list) if list.iter().all(toml::Value::is_str) => {
                let place = |index| at(&extends.index(index));
                let strings = list.iter().filter_map(toml::Value::as_str).map(str::to_owned);
                strings.enumerate().map(|(index, base)| (place(index), base)).collect()
            }
            _ => {
                let problem =
                    Problem::at(at(&extends), "`extends` must be a string or an array of strings", "is neither");
                problems.push(problem);
                return None;
            }
        };
        chain.push(normalized(path));
        for (at, base) in bases {
            let base = normalized(&path.parent().unwrap_or(Path::new("")).join(base));
            if let Some(start) = chain.iter().position(|file| *file == base) {
                let circle: Vec<String> = chain[start..].iter().map(|file| format!("`{}`", file.display())).collect();
                let message = format!("`{}` extends itself: {} and back again", base.display(), circle.join(" -> "));
                problems
                    .push(Problem::at(at, message, "completes the cycle").help("remove one `extends` of the cycle"));
                return None;
            }
            if !files.iter().any(|(file, _)| normalized(file) == base) {
                read_file(project, &base, Some(at), chain, files, layers, problems)?;
            }
        }
        chain.pop();
        // The base's name does not apply to the recipe: otherwise two recipes on one base would share a name.
        for layer in layers.iter_mut() {
            layer.document.value.remove("name");
        }
    }
    layers.push(Layer { kind: LayerKind::File, document });
    Some(())
}

/// Removes `.` and `dir/..` from `path` without access to the file system.
fn normalized(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(plain.components().next_back(), Some(Component::Normal(_))) => {
                plain.pop();
            }
            _ => plain.push(part),
        }
    }
    plain
}

/// Returns the reason alone, without the path that fs-err adds.
pub(in crate::recipe) fn io_reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}

fn variable_layer(name: &str, value: &str, problems: &mut Problems) -> Option<Layer> {
    let key = name.strip_prefix("ORCHESTRATE_")?;
    if PROGRAM_VARIABLES.contains(&name) {
        return None;
    }
    let path = KeyPath(key.split("__").map(|part| Step::Key(part.to_lowercase())).collect());
    let source = Arc::new(NamedSource::new(ENVIRONMENT, format!("{name}={value}")));
    let document = override_document(&source, &path, name.len(), problems)?;
    Some(Layer { kind: LayerKind::Variable, document })
}

fn argument_layer(argument: &str, problems: &mut Problems) -> Option<Layer> {
    let source = Arc::new(NamedSource::new("--set", argument.to_owned()));
    let Some(equals) = argument.find('=') else {
        let place = Place { source, span: 0..argument.len() };
        let problem = Problem::at(place, "`--set` takes KEY=VALUE", "has no `=`");
        problems.push(problem.help("for example `--set stages.grpo.lr=1e-5`"));
        return None;
    };
    let document = override_document(&source, &KeyPath::dotted(&argument[..equals]), equals, problems)?;
    Some(Layer { kind: LayerKind::Argument, document })
}

fn override_document(source: &Source, path: &KeyPath, equals: usize, problems: &mut Problems) -> Option<Document> {
    if path.0.first() == Some(&Step::Key("extends".to_owned())) {
        let place = Place { source: Arc::clone(source), span: 0..equals };
        let problem = Problem::at(place, "`extends` can be set in a recipe file only", "set here");
        problems.push(problem.help("recipe files are read before `--set` is applied"));
        return None;
    }
    Document::assignment(source, path, 0..equals, equals + 1, problems)
}
