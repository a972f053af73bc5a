//! What a reward component is: one file in `components/`, and its place in the list at the end of this one.
//!
//! # How to add a component
//!
//! 1. Write `components/NAME.rs`: the keys of its table ([`Kind::Table`]), their defaults ([`Kind::DEFAULTS`]), what is
//!    hashed of them (the type that implements [`Kind`]; for most components the table itself), and what rates texts
//!    ([`Measure::build`], [`Reward`]).
//! 2. Write `components/docs/NAME.md`, the page that `orchestrate rewards NAME` prints.
//! 3. Add the name to the list at the end of this file, and `mod NAME;` to `components/mod.rs`.
//! 4. Add the component to `tests/recipes/full.toml` and its keys to `tests/every_key.rs`, which demand it.
//!
//! The recipe's schema, its validation, cache keys, `orchestrate rewards`, calibration and the reward mix follow.

use super::components::{
    CommandSpec, CorrectnessSpec, CotSpec, FormatSpec, HttpSpec, JudgeSpec, LengthSpec, RepetitionSpec, RougeSpec,
    SemanticSpec,
};
use super::{BuildError, Reward, Scope, Setup, TableContext};
use crate::digest::Digest;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::sync::Arc;
use toml::{Table, Value};

/// A kind of component, by the type of what a stage's key hashes of it.
pub trait Kind: Measure + Into<Component> + Sized + 'static {
    /// The recipe's word for it.
    const NAME: &'static str;
    /// Its page, in Markdown.
    const PAGE: &'static str;
    /// The defaults of its keys, in TOML, each with its reason.
    const DEFAULTS: &'static str;

    /// Its own keys in a recipe.
    type Table: DeserializeOwned + JsonSchema + Clone + Debug + Send + Sync;

    /// The template of the stage's data set that it cannot do without.
    fn needed(_table: &Self::Table) -> Option<&'static str> {
        None
    }

    /// Takes away defaults that do not belong beside what is `written`.
    fn trim_defaults(_defaults: &mut Table, _written: &Table) {}

    /// Checks what the schema cannot say, and finds files. Absent if something is wrong, which has been reported.
    fn resolve(table: &Self::Table, recipe: &mut dyn TableContext) -> Option<Self>;

    /// Checks that it fits groups of this many completions.
    fn check_group(_table: &Self::Table, _group_size: usize, _recipe: &mut dyn TableContext) {}
}

/// What the rest of the program asks of a component.
pub trait Measure {
    /// Makes what rates texts.
    ///
    /// # Errors
    /// An encoder, a server or a program that cannot be used.
    fn build(&self, scope: &Scope, setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError>;

    /// The least and the greatest value; absent where nothing limits it.
    fn range(&self) -> Option<(f64, f64)> {
        Some((0.0, 1.0))
    }

    /// The template of the data set that it cannot do without.
    fn needs(&self) -> Option<&'static str> {
        None
    }

    /// Whether it compares a completion with its row, so that another row's text should score lower.
    fn compares_with_the_row(&self) -> bool {
        false
    }

    /// Whether a server is asked, which may be down: then another attempt may succeed.
    fn asks_a_server(&self) -> bool {
        false
    }

    /// Digests of the files that it is computed with.
    fn files(&self) -> Vec<&Digest> {
        Vec::new()
    }

    /// Completions of a prompt that it needs at least.
    fn fewest_samples(&self) -> usize {
        1
    }
}

/// A component's own keys, of whichever kind.
pub trait OwnKeys: Debug + Send + Sync {
    /// [`Kind::needed`].
    fn needed(&self) -> Option<&'static str>;
    /// [`Kind::resolve`].
    fn resolve(&self, recipe: &mut dyn TableContext) -> Option<Component>;
    /// [`Kind::check_group`].
    fn check_group(&self, group_size: usize, recipe: &mut dyn TableContext);
}

struct Keys<K: Kind>(K::Table);

impl<K: Kind> Debug for Keys<K> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl<K: Kind> OwnKeys for Keys<K> {
    fn needed(&self) -> Option<&'static str> {
        K::needed(&self.0)
    }

    fn resolve(&self, recipe: &mut dyn TableContext) -> Option<Component> {
        K::resolve(&self.0, recipe).map(K::into)
    }

    fn check_group(&self, group_size: usize, recipe: &mut dyn TableContext) {
        K::check_group(&self.0, group_size, recipe);
    }
}

/// A kind, as a value of the list of all of them.
#[derive(Clone, Copy)]
pub struct KindEntry {
    /// [`Kind::NAME`].
    pub name: &'static str,
    /// [`Kind::PAGE`].
    pub page: &'static str,
    /// [`Kind::DEFAULTS`].
    pub defaults: &'static str,
    /// [`Kind::trim_defaults`].
    pub trim_defaults: fn(&mut Table, &Table),
    /// Reads its own keys.
    pub read: fn(Value) -> Result<Arc<dyn OwnKeys>, toml::de::Error>,
    /// The schema of its own keys.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

impl KindEntry {
    const fn of<K: Kind>() -> Self {
        Self {
            name: K::NAME,
            page: K::PAGE,
            defaults: K::DEFAULTS,
            trim_defaults: K::trim_defaults,
            read: |value| Ok(Arc::new(Keys::<K>(K::Table::deserialize(value)?))),
            schema: <K::Table as JsonSchema>::json_schema,
        }
    }

    /// The kind with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }
}

macro_rules! components {
    ($($(#[$doc:meta])* $name:ident($spec:ident)),+ $(,)?) => {
        /// What a reward component computes, with every setting.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case", deny_unknown_fields)]
        pub enum Component {
            $($(#[$doc])* $name($spec),)+
        }

        impl Component {
            /// The recipe's word for the component.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => <$spec as Kind>::NAME,)+
                }
            }

            /// What can be asked of any component.
            pub fn measure(&self) -> &dyn Measure {
                match self {
                    $(Self::$name(spec) => spec,)+
                }
            }
        }

        $(impl From<$spec> for Component {
            fn from(spec: $spec) -> Self {
                Self::$name(spec)
            }
        })+

        /// All kinds.
        pub const KINDS: &[KindEntry] = &[$(KindEntry::of::<$spec>()),+];
    };
}

components! {
    /// Cosine similarity of encoder embeddings with the reference (arXiv:2509.13081).
    Semantic(SemanticSpec),
    /// ROUGE overlap with the reference.
    Rouge(RougeSpec),
    /// 1 when the answer equals the row's, else 0.
    Correctness(CorrectnessSpec),
    /// Whether the text has a form.
    Format(FormatSpec),
    /// 1 when the scope is reasoning before the answer, else 0.
    Cot(CotSpec),
    /// What language models say of the text.
    Judge(JudgeSpec),
    /// What a program of the user's says of the text.
    Command(CommandSpec),
    /// What a service of the user's says of the text.
    Http(HttpSpec),
    /// 1 within a range of words, falling to 0 outside.
    Length(LengthSpec),
    /// Distinct n-grams over all, in words.
    Repetition(RepetitionSpec),
}
