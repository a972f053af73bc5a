//! A page for each component, for people: what it measures, its keys, what can be missing.

use super::component::KINDS;

/// What holds for every component.
const COMMON: &str = include_str!("components/docs/common.md");
/// Above a page's table of keys.
const HEADING: &str = "| key | default | meaning |";

/// What a component measures and which keys it takes, in Markdown.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The component's `kind`.
    pub name: &'static str,
    own: &'static str,
}

/// A key of a component's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComponentKey {
    /// As it is written.
    pub name: &'static str,
    /// The value without it, in TOML; or what it is, in words: `none`, `required`.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// A page for every component.
pub fn pages() -> impl Iterator<Item = Page> {
    KINDS.iter().map(|kind| Page { name: kind.name, own: kind.page })
}

impl Page {
    /// What the component measures, in a sentence.
    pub fn summary(&self) -> &'static str {
        self.own.lines().skip(1).find(|line| !line.is_empty()).unwrap_or_default()
    }

    /// Its own part of the page.
    pub fn own(&self) -> &'static str {
        self.own
    }

    /// The whole page, with the keys that all components have.
    pub fn text(&self) -> String {
        format!("{}\n{COMMON}", self.own)
    }

    /// The keys of its table, its own first.
    pub fn keys(&self) -> Vec<ComponentKey> {
        let mut all = keys(self.own);
        for common in keys(COMMON) {
            if !all.iter().any(|key| key.name == common.name) {
                all.push(common);
            }
        }
        all
    }
}

/// The rows of the table of keys in `page`.
fn keys(page: &'static str) -> Vec<ComponentKey> {
    let rows = page.lines().skip_while(|line| *line != HEADING).skip(2).take_while(|line| line.starts_with('|'));
    let key = |row: &'static str| {
        let mut cells = row.trim_matches('|').splitn(3, '|').map(str::trim);
        let mut cell = || cells.next().unwrap_or_default();
        ComponentKey { name: bare(cell()), default: bare(cell()), meaning: cell() }
    };
    rows.map(key).collect()
}

/// A cell without the backticks around all of it.
fn bare(cell: &'static str) -> &'static str {
    let inside = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
    inside.filter(|inside| !inside.contains('`')).unwrap_or(cell)
}
