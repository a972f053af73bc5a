//! A page for each component, for people: what it measures, its keys, what can be missing.

/// What holds for every component.
const COMMON: &str = include_str!("docs/common.md");
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
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// The value without it, in TOML; or what it is, in words: `none`, `required`.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

macro_rules! pages {
    ($($name:literal),+) => {
        /// A page for every component.
        pub const PAGES: &[Page] = &[$(Page { name: $name, own: include_str!(concat!("docs/", $name, ".md")) }),+];
    };
}

pages!("semantic", "rouge", "correctness", "format", "cot", "judge", "command", "http", "length", "repetition");

impl Page {
    /// What the component measures, in a sentence.
    pub fn summary(&self) -> &'static str {
        self.own.lines().skip(1).find(|line| !line.is_empty()).unwrap_or_default()
    }

    /// The whole page, with the keys that all components have.
    pub fn text(&self) -> String {
        format!("{}\n{COMMON}", self.own)
    }

    /// The keys of its table, its own first.
    pub fn keys(&self) -> Vec<Key> {
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
fn keys(page: &'static str) -> Vec<Key> {
    let rows = page.lines().skip_while(|line| *line != HEADING).skip(2).take_while(|line| line.starts_with('|'));
    let key = |row: &'static str| {
        let mut cells = row.trim_matches('|').splitn(3, '|').map(str::trim);
        let mut cell = || cells.next().unwrap_or_default();
        Key { name: bare(cell()), default: bare(cell()), meaning: cell() }
    };
    rows.map(key).collect()
}

/// A cell without the backticks around all of it.
fn bare(cell: &'static str) -> &'static str {
    let inside = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
    inside.filter(|inside| !inside.contains('`')).unwrap_or(cell)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The names of the keys of the table that a recipe has for the component.
    fn keys_in_schema(name: &str) -> BTreeSet<String> {
        let schema = crate::recipe::schema();
        let table =
            schema["$defs"].as_object().unwrap().values().find(|table| {
                table["properties"]["kind"]["const"] == name && table["properties"].get("weight").is_some()
            });
        let properties = table.unwrap_or_else(|| panic!("no table of `{name}`"))["properties"].as_object().unwrap();
        properties.keys().cloned().collect()
    }

    #[test]
    fn every_component_has_a_page_and_every_page_a_component() {
        let defaults: toml::Table = toml::from_str(include_str!("../recipe/defaults.toml")).unwrap();
        let components: BTreeSet<&str> = defaults["rewards"].as_table().unwrap().keys().map(String::as_str).collect();
        assert_eq!(components, PAGES.iter().map(|page| page.name).collect());
        for page in PAGES {
            assert!(page.own.starts_with(&format!("# {}\n\n", page.name)), "{}", page.name);
            assert!(page.summary().ends_with('.') && page.summary().len() < 90, "{}: {}", page.name, page.summary());
            assert!(page.own.contains("\n0: ") || page.own.contains("\nMissing: "), "{}", page.name);
            assert!(
                page.own.contains(&format!("rewards.{}]", page.name))
                    || page.own.contains(&format!("\"{}\"", page.name))
            );
        }
    }

    #[test]
    fn a_page_names_every_key_of_its_table_and_no_other() {
        for page in PAGES {
            let named: Vec<&str> = page.keys().iter().map(|key| key.name).collect();
            let distinct: BTreeSet<String> = named.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(distinct.len(), named.len(), "{}: a key is named twice", page.name);
            assert_eq!(distinct, keys_in_schema(page.name), "{}", page.name);
            assert!(page.keys().iter().all(|key| !key.meaning.is_empty() && !key.default.is_empty()), "{}", page.name);
        }
    }

    #[test]
    fn the_defaults_on_a_page_are_those_of_recipes() {
        let defaults: toml::Table = toml::from_str(include_str!("../recipe/defaults.toml")).unwrap();
        for page in PAGES {
            for key in page.keys() {
                let told = toml::from_str::<toml::Table>(&format!("key = {}", key.default));
                let told = told.ok().map(|mut table| table.remove("key").unwrap());
                let default = defaults["rewards"][page.name].get(key.name);
                // a template of many lines is described
                let is_long = default.and_then(toml::Value::as_str).is_some_and(|text| text.contains('\n'));
                if !is_long {
                    assert_eq!(told.as_ref(), default, "{}: `{}`", page.name, key.name);
                }
            }
        }
    }

    #[test]
    fn the_examples_on_pages_are_tables_of_recipes() {
        for page in PAGES {
            let (_, rest) = page.own.split_once("```toml\n").unwrap_or_else(|| panic!("{} has no example", page.name));
            let (example, _) = rest.split_once("```").unwrap();
            let example: toml::Table = toml::from_str(example).unwrap_or_else(|error| panic!("{}: {error}", page.name));
            let rewards = example["stages"]["grpo"]["rewards"].as_table().unwrap();
            let known = keys_in_schema(page.name);
            for key in rewards.values().flat_map(|table| table.as_table().unwrap().keys()) {
                assert!(known.contains(key), "{}: `{key}`", page.name);
            }
        }
    }
}
