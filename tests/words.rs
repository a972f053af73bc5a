//! Keeps out of what users read the words that CONTRIBUTING.md lists under Language: out of messages, help,
//! descriptions of keys, component pages, templates and documentation.

mod sources;

use proc_macro2::{TokenStream, TokenTree};
use regex::Regex;
use sources::{files, root, rust_files};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use syn::punctuated::Punctuated;
use syn::visit::{Visit, visit_file, visit_item_enum, visit_item_mod, visit_item_struct};
use syn::{Attribute, Expr, ExprLit, ItemEnum, ItemMod, ItemStruct, Lit, LitStr, Meta, Token};

/// Each pattern with what to write in its place.
const WORDS: &[(&str, &str)] = &[
    (r"\bnobody\b", "\"no one\", \"nothing\", or the subject that is missing: \"the price is unknown\""),
    (r"\btold\b", "\"reported\", \"shown\", \"known\"; for \"told apart\", \"distinguished\""),
    (r"\b(stands?|stood|standing)\b", "\"is\", \"is written in\", \"is listed in\"; for \"stands for\", \"means\""),
    (r"\banew\b", "\"again\", or a verb with re-: \"re-plan\", \"rewrite\""),
    (r"\bmend(s|ed|ing)?\b", "\"fix\" or \"repair\""),
    (r"\bis no\b", "\"is not a\" or \"is not a valid\""),
    (r"\bwhom\b", "\"that\" or \"which\", in a sentence in normal order"),
    (r"\bat all\b", "nothing: leave it out"),
];

/// Phrases that hold one of the words in another sense.
const FALSE_HITS: &[(&str, &str)] = &[
    (r"\bthere is no\b", "the plain form of \"X does not exist\""),
    (r"\bis no longer\b", "about time"),
    (r"\bis no (more|less|fewer|larger|smaller|higher|lower|better|worse) than\b", "a comparison"),
    (r"\bstand-ins?\b", "a substitute"),
    (r"\bstands? alone\b", "needs nothing beside it"),
    (r"\bat all times\b", "always"),
];

/// Macros and attributes whose text no user reads.
const INTERNAL: &[&str] = &["allow", "cfg", "cfg_attr", "derive", "doc", "expect", "must_use", "path"];

/// Types whose documentation becomes help or the description of a key.
const PUBLISHED: &[&str] = &["Args", "JsonSchema", "Parser", "Subcommand", "ValueEnum"];

/// One text that a user reads, and the line that it begins in.
struct Text {
    file: PathBuf,
    line: usize,
    content: String,
}

fn read(path: &Path) -> String {
    fs_err::read_to_string(path).expect("the file is UTF-8")
}

/// String literals of one source file outside its tests, and the documentation of its published types.
struct Strings<'a> {
    file: &'a Path,
    texts: Vec<Text>,
    /// Files of modules that are compiled for tests alone.
    tests: Vec<PathBuf>,
}

impl Strings<'_> {
    fn add(&mut self, literal: &LitStr) {
        let line = literal.span().start().line;
        self.texts.push(Text { file: self.file.to_owned(), line, content: literal.value() });
    }

    fn add_tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    if let Lit::Str(literal) = Lit::new(literal) {
                        self.add(&literal);
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    /// Adds the documentation of a type and of its fields or variants, where they are published.
    fn add_docs<'a>(&mut self, own: &'a [Attribute], parts: impl Iterator<Item = &'a Attribute>) {
        if own.iter().any(publishes) {
            own.iter().chain(parts).filter_map(doc_line).for_each(|line| self.add(line));
        }
    }

    /// The files that may hold the module `name` of this file.
    fn child(&self, name: &str, attributes: &[Attribute]) -> Vec<PathBuf> {
        let directory = self.file.parent().expect("a file is in a directory");
        let path = attributes.iter().find(|attribute| attribute.path().is_ident("path")).and_then(string_value);
        let within = self.file.with_extension("");
        match path {
            Some(path) => vec![directory.join(path.value())],
            None => [directory, &within].map(|directory| directory.join(format!("{name}.rs"))).into(),
        }
    }
}

fn string_value(attribute: &Attribute) -> Option<&LitStr> {
    match &attribute.meta {
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn doc_line(attribute: &Attribute) -> Option<&LitStr> {
    string_value(attribute).filter(|_| attribute.path().is_ident("doc"))
}

fn publishes(attribute: &Attribute) -> bool {
    let derived = |path: &syn::Path| PUBLISHED.iter().any(|name| path.segments.iter().any(|part| part.ident == name));
    attribute.path().is_ident("derive")
        && attribute
            .parse_args_with(Punctuated::<syn::Path, Token![,]>::parse_terminated)
            .is_ok_and(|paths| paths.iter().any(derived))
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

impl<'ast> Visit<'ast> for Strings<'_> {
    fn visit_lit_str(&mut self, literal: &'ast LitStr) {
        self.add(literal);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if INTERNAL.iter().any(|name| attribute.path().is_ident(name)) {
            return;
        }
        match &attribute.meta {
            Meta::List(list) => self.add_tokens(list.tokens.clone()),
            Meta::NameValue(pair) => self.visit_expr(&pair.value),
            Meta::Path(_) => {}
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_for_tests(&module.attrs) {
            visit_item_mod(self, module);
        } else if module.content.is_none() {
            let files = self.child(&module.ident.to_string(), &module.attrs);
            self.tests.extend(files);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_for_tests(&function.attrs) {
            syn::visit::visit_item_fn(self, function);
        }
    }

    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        self.add_docs(&item.attrs, item.fields.iter().flat_map(|field| &field.attrs));
        visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        let fields = item.variants.iter().flat_map(|variant| &variant.fields).flat_map(|field| &field.attrs);
        self.add_docs(&item.attrs, item.variants.iter().flat_map(|variant| &variant.attrs).chain(fields));
        visit_item_enum(self, item);
    }
}

/// The texts in the program's sources.
fn strings_in_sources() -> Vec<Text> {
    let (mut texts, mut tests) = (Vec::new(), Vec::new());
    for file in files("src", &["rs"]) {
        let parsed = syn::parse_file(&read(&file)).expect("the file compiles");
        let mut strings = Strings { file: &file, texts: Vec::new(), tests: Vec::new() };
        visit_file(&mut strings, &parsed);
        texts.append(&mut strings.texts);
        tests.append(&mut strings.tests);
    }
    texts.retain(|text| !tests.contains(&text.file));
    texts
}

/// The lines of texts that the program shows or that describe it. Pages of the reference come from what the program
/// prints.
fn written_texts() -> Vec<Text> {
    let mut paths = files("src", &["md", "toml", "html", "js"]);
    paths.extend(["README.md", "CONTRIBUTING.md"].map(|name| root().join(name)));
    paths.extend(
        files("docs/src", &["md"]).into_iter().filter(|path| !path.components().any(|c| c.as_os_str() == "reference")),
    );
    paths.extend(files("recipes", &["toml"]));
    let mut texts = Vec::new();
    for file in paths {
        let numbered = read(&file).lines().map(str::to_owned).enumerate().collect::<Vec<_>>();
        texts.extend(numbered.into_iter().map(|(index, content)| Text {
            file: file.clone(),
            line: index + 1,
            content,
        }));
    }
    // the rule that lists the words
    texts.retain(|text| !(text.file.ends_with("CONTRIBUTING.md") && text.content.starts_with("7. Avoid \"nobody\"")));
    texts
}

/// The compiled words, with what to write instead.
type Words = Vec<(Regex, &'static str)>;

/// The false hits and the words, compiled once.
static PATTERNS: LazyLock<(Vec<Regex>, Words)> = LazyLock::new(|| {
    let pattern = |text: &str| Regex::new(&format!("(?i){}", text.replace(' ', r"\s+"))).expect("a valid pattern");
    let false_hits = FALSE_HITS.iter().map(|(phrase, _)| pattern(phrase)).collect();
    (false_hits, WORDS.iter().map(|(word, instead)| (pattern(word), *instead)).collect())
});

/// The words to avoid in `text`, each as it is written there, with its line within the text and what to write instead.
fn words_to_avoid(text: &str) -> Vec<(usize, String, &'static str)> {
    let (false_hits, words) = &*PATTERNS;
    let blank = |text: String, phrase: &Regex| phrase.replace_all(&text, "").into_owned();
    let plain = false_hits.iter().fold(text.to_owned(), blank);
    let mut found = Vec::new();
    for (word, instead) in words {
        for hit in word.find_iter(&plain) {
            found.push((plain[..hit.start()].matches('\n').count(), hit.as_str().to_owned(), *instead));
        }
    }
    found
}

#[test]
fn users_read_plain_words() {
    let (sources, written) = (strings_in_sources(), written_texts());
    assert!(sources.len() > 3000 && written.len() > 2000, "{} strings, {} lines", sources.len(), written.len());
    let mut report = String::new();
    for text in sources.iter().chain(&written) {
        let file = text.file.strip_prefix(root()).unwrap_or(&text.file);
        for (line, word, instead) in words_to_avoid(&text.content) {
            let _ = writeln!(report, "{}:{}: `{word}`; write {instead}", file.display(), text.line + line);
        }
    }
    assert!(report.is_empty(), "words to avoid (CONTRIBUTING.md, Language):\n{report}");
}

#[test]
fn words_are_found_in_every_kind_of_literal_outside_tests() {
    let code = r##"
        const A: &str = "this is no\nregular expression";
        fn b() { println!("{}: {}", 1, format!(r#"nobody"#)); }
        #[error("stands")] struct E;
        #[expect(dead_code, reason = "told")] fn c() {}
        /// Anew.
        #[derive(Debug, clap::Args)] struct Arguments {
            /// Whom.
            field: u8,
        }
        /// Told.
        fn d() {}
        #[cfg(test)] mod tests { const T: &str = "told"; }
    "##;
    let mut strings = Strings { file: Path::new("example.rs"), texts: Vec::new(), tests: Vec::new() };
    visit_file(&mut strings, &syn::parse_file(code).expect("it parses"));
    let hits = strings.texts.iter().flat_map(|text| words_to_avoid(&text.content));
    let found: BTreeSet<String> = hits.map(|(_, word, _)| word).collect();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["Anew", "Whom", "is no", "nobody", "stands"]);
}

#[test]
fn other_senses_of_the_words_are_allowed() {
    for text in ["there is no such file", "it is no longer used", "a stand-in for the model", "at all times"] {
        assert!(words_to_avoid(text).is_empty(), "{text}");
    }
    assert_eq!(words_to_avoid("one\nit is no file")[0].0, 1);
}

#[test]
fn comment_lines_have_at_most_120_columns() {
    let mut long = Vec::new();
    for (path, text) in rust_files() {
        let mut is_block = false;
        for (index, line) in text.lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
            let comment = comment.trim_start_matches(['/', '!']).trim_start();
            is_block ^= comment.starts_with("```");
            // a row of a table, and a line of a listing, cannot be split
            if !is_block && !comment.starts_with('|') && line.chars().count() > 120 {
                let file = path.strip_prefix(root()).expect("below the root");
                long.push(format!("{}:{}", file.display(), index + 1));
            }
        }
    }
    assert!(long.is_empty(), "comments of more than 120 columns:\n{}", long.join("\n"));
}
