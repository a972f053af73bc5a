//! A documentation page for each component: what it measures, its keys, and when its value is missing.

use super::component::KINDS;

/// The part of the page that all components share.
const COMMON: &str = include_str!("components/docs/common.md");
/// The heading of a page's table of keys.
const HEADING: &str = "| key | default | meaning |";

/// The documentation of a component and its keys, in Markdown.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The component's `kind`.
    pub name: &'static str,
    own: &'static str,
}

/// A key of a component's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComponentKey {
    /// The name of the key.
    pub name: &'static str,
    /// The default value in TOML, or a word for it: `none`, `required`.
    pub default: &'static str,
    /// The meaning of the key.
    pub meaning: &'static str,
}

/// Returns the pages of all components.
pub fn pages() -> impl Iterator<Item = Page> {
    KINDS.iter().map(|kind| Page { name: kind.name, own: kind.page })
}

impl Page {
    /// The summary of the component in a sentence.
    pub fn summary(&self) -> &'static str {
        self.own.lines().skip(1).find(|line| !line.is_empty()).unwrap_or_default()
    }

    /// The component's own part of the page.
    pub fn own(&self) -> &'static str {
        self.own
    }

    /// The whole page, including the keys that all components share.
    pub fn text(&self) -> String {
        format!("{}\n{COMMON}", self.own)
    }

    /// The keys of the component's table, its own first.
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

/// Parses the table of keys in `page`.
fn keys(page: &'static str) -> Vec<ComponentKey> {
    let rows = page.lines().skip_while(|line| *line != HEADING).skip(2).take_while(|line| line.starts_with('|'));
    let key = |row: &'static str| {
        let mut cells = row.trim_matches('|').splitn(3, '|').map(str::trim);
        let mut cell = || cells.next().unwrap_or_default();
        ComponentKey { name: bare(cell()), default: bare(cell()), meaning: cell() }
    };
    rows.map(key).collect()
}

/// Returns the cell without backticks that enclose all of it.
fn bare(cell: &'static str) -> &'static str {
    let inside = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
    inside.filter(|inside| !inside.contains('`')).unwrap_or(cell)
}
