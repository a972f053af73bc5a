//! The pages of reward components say what recipes take.

use crate::rewards::pages;
use std::collections::BTreeSet;

/// The names of the keys of the table that a recipe has for the component.
fn keys_in_schema(name: &str) -> BTreeSet<String> {
    let schema = crate::recipe::schema();
    let table = schema["$defs"]
        .as_object()
        .unwrap()
        .values()
        .find(|table| table["properties"]["kind"]["const"] == name && table["properties"].get("weight").is_some());
    let properties = table.unwrap_or_else(|| panic!("no table of `{name}`"))["properties"].as_object().unwrap();
    properties.keys().cloned().collect()
}

#[test]
fn every_component_has_a_page_and_every_page_a_component() {
    let defaults = crate::recipe::tables::defaults::built_in().clone();
    let components: BTreeSet<&str> = defaults["rewards"].as_table().unwrap().keys().map(String::as_str).collect();
    assert_eq!(components, pages().map(|page| page.name).collect());
    for page in pages() {
        assert!(page.own().starts_with(&format!("# {}\n\n", page.name)), "{}", page.name);
        assert!(page.summary().ends_with('.') && page.summary().len() < 90, "{}: {}", page.name, page.summary());
        assert!(page.own().contains("\n0: ") || page.own().contains("\nMissing: "), "{}", page.name);
        assert!(
            page.own().contains(&format!("rewards.{}]", page.name))
                || page.own().contains(&format!("\"{}\"", page.name))
        );
    }
}

#[test]
fn a_page_names_every_key_of_its_table_and_no_other() {
    for page in pages() {
        let named: Vec<&str> = page.keys().iter().map(|key| key.name).collect();
        let distinct: BTreeSet<String> = named.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(distinct.len(), named.len(), "{}: a key is named twice", page.name);
        assert_eq!(distinct, keys_in_schema(page.name), "{}", page.name);
        assert!(page.keys().iter().all(|key| !key.meaning.is_empty() && !key.default.is_empty()), "{}", page.name);
    }
}

#[test]
fn the_defaults_on_a_page_are_those_of_recipes() {
    let defaults = crate::recipe::tables::defaults::built_in().clone();
    for page in pages() {
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
    for page in pages() {
        let (_, rest) = page.own().split_once("```toml\n").unwrap_or_else(|| panic!("{} has no example", page.name));
        let (example, _) = rest.split_once("```").unwrap();
        let example: toml::Table = toml::from_str(example).unwrap_or_else(|error| panic!("{}: {error}", page.name));
        let rewards = example["stages"]["grpo"]["rewards"].as_table().unwrap();
        let known = keys_in_schema(page.name);
        for key in rewards.values().flat_map(|table| table.as_table().unwrap().keys()) {
            assert!(known.contains(key), "{}: `{key}`", page.name);
        }
    }
}
