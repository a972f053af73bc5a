//! TOML documents that record the place of every key and value.

use crate::recipe::text::diagnostic::{Place, Problem, Problems, Source};
use miette::NamedSource;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A step from a table or an array to one of its items.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::recipe) enum Step {
    /// A step into a table, by key.
    Key(String),
    /// A step into an array, by index.
    Index(usize),
}

/// The path of a value in a document, e.g. `sweep.variants[0].name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::recipe) struct KeyPath(pub(in crate::recipe) Vec<Step>);

impl KeyPath {
    /// Parses a path of the form `a.b.c`.
    pub(in crate::recipe) fn dotted(text: &str) -> Self {
        Self(text.split('.').map(|key| Step::Key(key.trim().to_owned())).collect())
    }

    /// Returns this path with `key` appended.
    pub(in crate::recipe) fn key(&self, key: &str) -> Self {
        self.join(&[Step::Key(key.to_owned())])
    }

    /// Returns this path with `index` appended.
    pub(in crate::recipe) fn index(&self, index: usize) -> Self {
        self.join(&[Step::Index(index)])
    }

    /// Returns this path with `steps` appended.
    pub(in crate::recipe) fn join(&self, steps: &[Step]) -> Self {
        Self(self.0.iter().chain(steps).cloned().collect())
    }

    /// Whether one of the two paths is a prefix of the other.
    pub(in crate::recipe) fn overlaps(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => f.write_str(key)?,
                Step::Key(key) if key.contains('.') => write!(f, ".\"{key}\"")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The places of a key and its value.
#[derive(Clone, Debug)]
struct Spot {
    key: Range<usize>,
    value: Range<usize>,
    inside: Inside,
}

#[derive(Clone, Debug)]
enum Inside {
    Table(BTreeMap<String, Spot>),
    Array(Vec<Spot>),
    Scalar,
}

/// A text, as a value and with the places of its parts.
#[derive(Clone, Debug)]
pub(in crate::recipe) struct Document {
    pub(in crate::recipe) source: Source,
    pub(in crate::recipe) value: toml::Table,
    /// The places in a file. They are computed when the first place is needed, because most recipes have no problem.
    root: OnceCell<Spot>,
}

impl Document {
    /// Parses the text of a TOML file. Syntax errors are added to `problems`.
    pub(in crate::recipe) fn parse(name: &str, text: &str, problems: &mut Problems) -> Option<Self> {
        let source = Arc::new(NamedSource::new(name, text.to_owned()));
        let (root, errors) = DeTable::parse_recoverable(text);
        let before = problems.len();
        for error in &errors {
            let place = Place { source: Arc::clone(&source), span: error.span().unwrap_or(0..0) };
            problems.push(Problem::at(place, format!("this is not valid TOML: {}", error.message()), "here"));
        }
        let value = table_value(root.get_ref(), &source, problems);
        (problems.len() == before).then_some(Self { source, value, root: OnceCell::new() })
    }

    /// Reads `path = text`, where `text` begins at byte `offset` of `source`. The text is read as TOML, or else as a
    /// string.
    pub(in crate::recipe) fn assignment(
        source: &Source,
        path: &KeyPath,
        key: Range<usize>,
        offset: usize,
        problems: &mut Problems,
    ) -> Option<Self> {
        let text = &source.inner()[offset..];
        let end = source.inner().len();
        let (value, inside) = match DeValue::parse(text) {
            Ok(parsed) => {
                let before = problems.len();
                let mut inside = inside(parsed.get_ref());
                shift(&mut inside, offset);
                let value = plain_value(parsed.get_ref(), &(offset..end), source, problems);
                if problems.len() > before {
                    return None;
                }
                (value, inside)
            }
            // An opening quote or bracket shows that TOML was intended, unless it opens a template.
            Err(error)
                if text.trim_start().starts_with(['"', '\'', '[', '{'])
                    && !text.trim_start().starts_with("{{")
                    && !text.trim_start().starts_with("{%") =>
            {
                let span = error.span().map_or(offset..end, |span| span.start + offset..span.end + offset);
                let place = Place { source: Arc::clone(source), span };
                let problem = Problem::at(place, format!("the value is not TOML: {}", error.message()), "here");
                problems.push(problem.help("quote it once for the shell and once for TOML: '\"text\"'"));
                return None;
            }
            Err(_) => (toml::Value::String(text.to_owned()), Inside::Scalar),
        };
        let mut spot = Spot { key: key.clone(), value: offset..end, inside };
        let mut nested = value;
        for step in path.0.iter().rev() {
            let Step::Key(name) = step else { unreachable!("a dotted path has keys only") };
            let inside = Inside::Table(BTreeMap::from([(name.clone(), spot)]));
            spot = Spot { key: key.clone(), value: key.clone(), inside };
            nested = toml::Value::Table(toml::Table::from_iter([(name.clone(), nested)]));
        }
        let toml::Value::Table(value) = nested else { unreachable!("a path has at least one key") };
        Some(Self { source: Arc::clone(source), value, root: OnceCell::from(spot) })
    }

    /// Returns the place of the key at `path`, if this document has it.
    pub(in crate::recipe) fn key_place(&self, path: &KeyPath) -> Option<Place> {
        let spot = self.spot(path)?;
        Some(Place { source: Arc::clone(&self.source), span: spot.key.clone() })
    }

    /// Returns the place of the value at `path`, if this document has it. The place of a table is its key.
    pub(in crate::recipe) fn value_place(&self, path: &KeyPath) -> Option<Place> {
        let spot = self.spot(path)?;
        let span =
            if matches!(spot.inside, Inside::Table(_)) && !spot.key.is_empty() { &spot.key } else { &spot.value };
        Some(Place { source: Arc::clone(&self.source), span: span.clone() })
    }

    fn spot(&self, path: &KeyPath) -> Option<&Spot> {
        let root = self.root.get_or_init(|| {
            let (root, _) = DeTable::parse_recoverable(self.source.inner());
            Spot { key: 0..0, value: 0..0, inside: table_spots(root.get_ref()) }
        });
        path.0.iter().try_fold(root, |spot, step| match (&spot.inside, step) {
            (Inside::Table(keys), Step::Key(key)) => keys.get(key),
            (Inside::Array(items), Step::Index(index)) => items.get(*index),
            _ => None,
        })
    }
}

fn inside(value: &DeValue<'_>) -> Inside {
    match value {
        DeValue::Table(table) => table_spots(table),
        DeValue::Array(items) => Inside::Array(
            items
                .iter()
                .map(|item| Spot { key: item.span(), value: item.span(), inside: inside(item.get_ref()) })
                .collect(),
        ),
        _ => Inside::Scalar,
    }
}

fn table_spots(table: &DeTable<'_>) -> Inside {
    let spot = |key: &Spanned<_>, value: &Spanned<DeValue<'_>>| Spot {
        key: key.span(),
        value: value.span(),
        inside: inside(value.get_ref()),
    };
    Inside::Table(table.iter().map(|(key, value)| (key.get_ref().to_string(), spot(key, value))).collect())
}

fn shift(inside: &mut Inside, offset: usize) {
    let shift_spot = |spot: &mut Spot| {
        for span in [&mut spot.key, &mut spot.value] {
            *span = span.start + offset..span.end + offset;
        }
        shift(&mut spot.inside, offset);
    };
    match inside {
        Inside::Table(keys) => keys.values_mut().for_each(shift_spot),
        Inside::Array(items) => items.iter_mut().for_each(shift_spot),
        Inside::Scalar => {}
    }
}

fn table_value(table: &DeTable<'_>, source: &Source, problems: &mut Problems) -> toml::Table {
    let mut plain = toml::Table::new();
    for (key, value) in table {
        let value = plain_value(value.get_ref(), &value.span(), source, problems);
        plain.insert(key.get_ref().to_string(), value);
    }
    plain
}

/// Converts a value to one without places. Values that no recipe can use (dates, integers beyond 64 bits, non-finite
/// numbers) are reported.
fn plain_value(value: &DeValue<'_>, span: &Range<usize>, source: &Source, problems: &mut Problems) -> toml::Value {
    let mut unusable = |what: &str| {
        let place = Place { source: Arc::clone(source), span: span.clone() };
        problems.push(Problem::at(place, format!("{what} is not allowed in a recipe"), "here"));
        toml::Value::Boolean(false)
    };
    match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => toml::Value::Integer(integer),
            Err(_) => unusable("an integer beyond 64 bits"),
        },
        DeValue::Float(float) => match float.as_str().parse::<f64>() {
            Ok(float) if float.is_finite() => toml::Value::Float(float),
            _ => unusable("a number that is not finite"),
        },
        DeValue::Boolean(boolean) => toml::Value::Boolean(*boolean),
        DeValue::Datetime(_) => unusable("a date or time"),
        DeValue::Array(items) => toml::Value::Array(
            items.iter().map(|item| plain_value(item.get_ref(), &item.span(), source, problems)).collect(),
        ),
        DeValue::Table(table) => toml::Value::Table(table_value(table, source, problems)),
    }
}
