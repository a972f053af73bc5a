//! Problems of recipes, reported all at once, each with its place in the file, a caret and advice.

use crate::printable::{harmless, harmless_in_place};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde_json::json;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A text that recipe values come from: a file, an environment variable or a `--set` argument.
pub type Source = Arc<NamedSource<String>>;

/// A range of a [`Source`].
#[derive(Clone, Debug)]
pub struct Place {
    /// The text with its name.
    pub source: Source,
    /// The range in bytes.
    pub span: Range<usize>,
}

impl Place {
    /// Returns the line and the column, both counted from 1.
    pub fn line_and_column(&self) -> (usize, usize) {
        let text = self.source.inner();
        let before = &text[..floor_char_boundary(text, self.span.start)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// Returns the last character boundary at or before byte `at`.
fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The identity of a problem: its message, and the name and byte range of the text at fault.
type Identity = (String, Option<(String, Range<usize>)>);

/// A problem of a recipe.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The message that says what is wrong.
    pub message: String,
    /// The place of the problem.
    pub place: Option<Place>,
    /// The label at the caret.
    pub label: String,
    /// The advice on what to do.
    pub help: Option<String>,
    /// The cause to fix, if several problems may come from it, and the object that this one concerns.
    cause: Option<(String, String)>,
    /// Other places in the same text that have this problem, with the labels at their carets.
    also: Vec<(Range<usize>, String)>,
}

impl Problem {
    /// Creates a problem at `place`.
    pub fn at(mut place: Place, message: impl Into<String>, label: impl Into<String>) -> Self {
        // A caret needs a character to point at.
        let text = place.source.inner();
        if place.span.start >= text.len() && !text.is_empty() {
            place.span = floor_char_boundary(text, text.len() - 1)..text.len();
        }
        Self { place: Some(place), label: label.into(), ..Self::nowhere(message) }
    }

    /// Creates a problem without a place in a text, such as a recipe file that cannot be read.
    pub fn nowhere(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, label: String::new(), help: None, cause: None, also: Vec::new() }
    }

    /// Adds advice on what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Names the cause to fix and the object that this concerns: of several problems with one `cause` only the first is
    /// reported, with carets for the others.
    #[must_use]
    pub(in crate::recipe) fn caused_by(mut self, cause: String, concerns: impl Into<String>) -> Self {
        self.cause = Some((cause, concerns.into()));
        self
    }

    /// Adds `other` as another place of this problem and returns true, if both have the same cause.
    fn absorb(&mut self, other: &Self) -> bool {
        let (Some((cause, _)), Some((other_cause, concerns))) = (&self.cause, &other.cause) else { return false };
        if cause != other_cause {
            return false;
        }
        let (Some(place), Some(other)) = (&self.place, &other.place) else { return true };
        let is_same_text = place.source.name() == other.source.name() && place.source.inner() == other.source.inner();
        if is_same_text && place.span != other.span && !self.also.iter().any(|(span, _)| *span == other.span) {
            self.also.push((other.span.clone(), format!("{concerns} too")));
        }
        true
    }

    /// Returns the identity, which two equal problems share.
    fn identity(&self) -> Identity {
        let place = self.place.as_ref().map(|at| (at.source.name().to_owned(), at.span.clone()));
        (self.message.clone(), place)
    }

    /// Returns the problem without control sequences for a terminal, because keys and values are untrusted texts.
    fn printable(&self) -> Self {
        let place = self.place.as_ref().map(|Place { source, span }| Place {
            source: Arc::new(NamedSource::new(harmless(source.name()), harmless_in_place(source.inner()))),
            span: span.clone(),
        });
        let help = self.help.as_deref().map(harmless);
        let also = self.also.iter().map(|(span, label)| (span.clone(), harmless(label))).collect();
        Self { message: harmless(&self.message), place, label: harmless(&self.label), help, cause: None, also }
    }

    fn to_json(&self) -> serde_json::Value {
        let position = self.place.as_ref().map(Place::line_and_column);
        json!({
            "message": self.message,
            "file": self.place.as_ref().map(|place| place.source.name()),
            "line": position.map(|(line, _)| line),
            "column": position.map(|(_, column)| column),
            "label": self.label,
            "help": self.help,
            "also": self.also.iter().filter_map(|(span, _)| {
                let source = self.place.as_ref()?.source.clone();
                Some(Place { source, span: span.clone() }.line_and_column().0)
            }).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().map(|place| &place.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.place.as_ref()?;
        let label = LabeledSpan::new_primary_with_span(Some(self.label.clone()), place.span.clone());
        let also = self.also.iter().map(|(span, label)| LabeledSpan::new_with_span(Some(label.clone()), span.clone()));
        Some(Box::new(std::iter::once(label).chain(also)))
    }
}

/// All problems of the recipes of one command line; never empty.
#[derive(Clone, Debug)]
pub struct RecipeError {
    problems: Vec<Problem>,
}

impl RecipeError {
    /// Creates the error of these problems, of which there is at least one.
    pub fn of(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Returns the problems, by file and place.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Renders the whole message for a terminal of `width` columns.
    pub fn render(&self, width: usize, colour: bool) -> String {
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(width)
            .with_context_lines(1)
            .with_links(false)
            .without_syntax_highlighting();
        let mut out = String::new();
        for problem in &self.problems {
            handler.render_report(&mut out, &problem.printable()).expect("writing to a string succeeds");
            out.push('\n');
        }
        out.push_str(&self.to_string());
        out.push('\n');
        out
    }

    /// Returns an array with one object per problem. Its keys are `message`, `file`, `line`, `column`, `label`, `help`
    /// and `also`, the lines of other places that have the problem.
    pub fn to_json(&self) -> serde_json::Value {
        self.problems.iter().map(Problem::to_json).collect()
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => f.write_str("1 problem in the recipe; nothing was run"),
            count => write!(f, "{count} problems in the recipe; nothing was run"),
        }
    }
}

impl std::error::Error for RecipeError {}

impl Diagnostic for RecipeError {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}

/// A collection of problems without duplicates.
#[derive(Debug, Default)]
pub(in crate::recipe) struct Problems {
    found: Vec<Problem>,
    known: HashSet<Identity>,
    /// The kinds of tables whose keys have been listed.
    listed: HashSet<String>,
}

impl Problems {
    pub(in crate::recipe) fn push(&mut self, problem: Problem) {
        if self.known.insert(problem.identity()) {
            self.found.push(problem);
        }
    }

    /// Returns true at the first call for `table`, a kind of table whose keys have not been listed yet.
    pub(in crate::recipe) fn is_first(&mut self, table: &str) -> bool {
        self.listed.insert(table.to_owned())
    }

    pub(in crate::recipe) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(in crate::recipe) fn len(&self) -> usize {
        self.found.len()
    }

    /// Returns `value`, or all problems if there are any.
    pub(in crate::recipe) fn or<T>(mut self, value: T) -> Result<T, RecipeError> {
        if self.found.is_empty() {
            return Ok(value);
        }
        let mut files: Vec<String> = Vec::new();
        for problem in &self.found {
            let name = problem.place.as_ref().map_or("", |place| place.source.name());
            if !files.iter().any(|file| file == name) {
                files.push(name.to_owned());
            }
        }
        self.found.sort_by_key(|problem| {
            let name = problem.place.as_ref().map_or("", |place| place.source.name());
            let start = problem.place.as_ref().map_or(0, |place| place.span.start);
            (files.iter().position(|file| file == name), start)
        });
        let mut problems: Vec<Problem> = Vec::new();
        for problem in self.found {
            if !problems.iter_mut().any(|known| known.absorb(&problem)) {
                problems.push(problem);
            }
        }
        Err(RecipeError { problems })
    }
}
