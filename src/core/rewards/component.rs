//! The interface of reward components: each is a file in `components/` and an entry in the list at the end of this
//! file.
//!
//! # How to add a component
//!
//! 1. Write `components/NAME.rs`: the keys of its table ([`Kind::Table`]), their defaults ([`Kind::DEFAULTS`]), what
//!    the cache key hashes (the type that implements [`Kind`]; for most components the table itself), and the rating of
//!    texts ([`Measure::build`], [`Reward`]).
//! 2. Write `components/docs/NAME.md`, the page that `orchestrate rewards NAME` prints.
//! 3. Add the name to the list at the end of this file, and `mod NAME;` to `components/mod.rs`.
//! 4. Add the component to `tests/recipes/full.toml` and its keys to `tests/every_key.rs`; tests require both.
//!
//! The recipe's schema, its validation, cache keys, `orchestrate rewards`, calibration and the reward mix need no
//! changes.

use super::components::{
    ClassifierSpec, CommandSpec, CorrectnessSpec, CotSpec, EditSpec, EntropySpec, FormatSpec, HttpSpec, JudgeSpec,
    LengthSpec, RandomSpec, RepetitionSpec, RougeSpec, SemanticSpec,
};
use super::{BuildError, Reward, Scope, Setup, TableContext};
use crate::digest::Digest;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::sync::Arc;
use toml::{Table, Value};

/// A kind of component, implemented by the type that a stage's cache key hashes.
pub trait Kind: Measure + Into<Component> + Sized + 'static {
    /// The name of the kind in recipes.
    const NAME: &'static str;
    /// The documentation page, in Markdown.
    const PAGE: &'static str;
    /// The defaults of the kind's keys, in TOML, each with its reason.
    const DEFAULTS: &'static str;

    /// The kind's own keys in a recipe.
    type Table: DeserializeOwned + JsonSchema + Clone + Debug + Send + Sync;

    /// Returns the template of the stage's data set that the component requires.
    fn needed(_table: &Self::Table) -> Option<&'static str> {
        None
    }

    /// Removes defaults that do not apply to the keys that are `written`.
    fn trim_defaults(_defaults: &mut Table, _written: &Table) {}

    /// Checks what the schema cannot express, and finds files. Returns `None` after it has reported a problem.
    fn resolve(table: &Self::Table, recipe: &mut dyn TableContext) -> Option<Self>;

    /// Checks that the component can rate groups of this many completions.
    fn check_group(_table: &Self::Table, _group_size: usize, _recipe: &mut dyn TableContext) {}
}

/// The properties of a component that the rest of the program uses.
pub trait Measure {
    /// Builds the reward that rates texts.
    ///
    /// # Errors
    /// Fails if an encoder, a server or a program cannot be used.
    fn build(&self, scope: &Scope, setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError>;

    /// The least and the greatest value; `None` for unbounded values.
    fn range(&self) -> Option<(f64, f64)> {
        Some((0.0, 1.0))
    }

    /// The template of the data set that the component requires.
    fn needs(&self) -> Option<&'static str> {
        None
    }

    /// Whether the component compares a completion with its row, so that another row's text should score lower.
    fn compares_with_the_row(&self) -> bool {
        false
    }

    /// Whether the component reads the row's reference or answer, so that it can be given another row's.
    fn reads_the_row(&self) -> bool {
        self.compares_with_the_row()
    }

    /// Whether the values have nothing to do with the texts, as in a control arm.
    fn is_control(&self) -> bool {
        false
    }

    /// Whether the component sends requests to a server. A server may be down, so another attempt may succeed.
    fn asks_a_server(&self) -> bool {
        false
    }

    /// Whether the component reads what the policy computed as it sampled, not only the text.
    ///
    /// Such a value changes with the policy. It cannot be computed from a text, so it is neither cached nor calibrated.
    fn reads_the_policy(&self) -> bool {
        false
    }

    /// The digests of the files that the computation uses.
    fn files(&self) -> Vec<&Digest> {
        Vec::new()
    }

    /// The least number of completions per prompt.
    fn fewest_samples(&self) -> usize {
        1
    }
}

/// The own keys of a component of any kind.
pub trait OwnKeys: Debug + Send + Sync {
    /// Returns [`Kind::needed`].
    fn needed(&self) -> Option<&'static str>;
    /// Calls [`Kind::resolve`].
    fn resolve(&self, recipe: &mut dyn TableContext) -> Option<Component>;
    /// Calls [`Kind::check_group`].
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

/// An entry in the list of all kinds.
#[derive(Clone, Copy)]
pub struct KindEntry {
    /// The name of the kind ([`Kind::NAME`]).
    pub name: &'static str,
    /// The documentation page ([`Kind::PAGE`]).
    pub page: &'static str,
    /// The defaults ([`Kind::DEFAULTS`]).
    pub defaults: &'static str,
    /// The function that trims defaults ([`Kind::trim_defaults`]).
    pub trim_defaults: fn(&mut Table, &Table),
    /// The function that reads the kind's own keys.
    pub read: fn(Value) -> Result<Arc<dyn OwnKeys>, toml::de::Error>,
    /// The function that generates the schema of the kind's own keys.
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

    /// Returns the kind with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }
}

macro_rules! components {
    ($($(#[$doc:meta])* $name:ident($spec:ident)),+ $(,)?) => {
        /// A reward component with all its settings.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case", deny_unknown_fields)]
        pub enum Component {
            $($(#[$doc])* $name($spec),)+
        }

        impl Component {
            /// The name of the component's kind in recipes.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => <$spec as Kind>::NAME,)+
                }
            }

            /// The component as a [`Measure`].
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

        /// All kinds of components.
        pub const KINDS: &[KindEntry] = &[$(KindEntry::of::<$spec>()),+];
    };
}

components! {
    /// The cosine similarity of encoder embeddings with the reference (arXiv:2509.13081).
    Semantic(SemanticSpec),
    /// The ROUGE overlap with the reference.
    Rouge(RougeSpec),
    /// 1 when the answer equals the row's, else 0.
    Correctness(CorrectnessSpec),
    /// The form of the text, from 0 to 1.
    Format(FormatSpec),
    /// 1 when the scope is reasoning before the answer, else 0.
    Cot(CotSpec),
    /// The judgement of language models.
    Judge(JudgeSpec),
    /// The rating by a user's program.
    Command(CommandSpec),
    /// The rating by a user's service.
    Http(HttpSpec),
    /// The score of a label by a model with a head for sequence classification.
    Classifier(ClassifierSpec),
    /// 1 minus the word or character error rate against the reference.
    Edit(EditSpec),
    /// Minus the distance of the policy's entropy from a target.
    Entropy(EntropySpec),
    /// 1 within a range of words, falling to 0 outside.
    Length(LengthSpec),
    /// The fraction of n-grams of words that are distinct.
    Repetition(RepetitionSpec),
    /// A random number, for control arms.
    Random(RandomSpec),
}
