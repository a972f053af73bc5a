//! How completions are sampled: the keys of every stage that samples. `temperature` is each stage's own, as training
//! needs one above 0.

use crate::recipe::resolve::resolver::Resolver;
use crate::recipe::spec::Sampling;
use crate::recipe::text::located::KeyPath;
use schemars::JsonSchema;
use serde::Deserialize;

/// The keys of a stage that say how completions are sampled, but for `temperature`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct SamplingTable {
    /// Longest prompt, in tokens; a longer one is an error.
    #[schemars(range(min = 1))]
    pub max_prompt_tokens: usize,
    /// Longest completion, in tokens; a longer one is cut.
    #[schemars(range(min = 1))]
    pub max_new_tokens: usize,
    /// A completion does not end before it has this many tokens.
    pub min_new_tokens: usize,
    /// Draws from the smallest set of tokens with this much probability; 1: from all.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub top_p: f64,
    /// Draws from this many most likely tokens; 0: from all.
    pub top_k: usize,
    /// Draws from tokens at least this many times as likely as the most likely one; 0: from all.
    #[schemars(range(min = 0, max = 1))]
    pub min_p: f64,
    /// Divides positive logits of tokens that occurred in prompt or completion, and multiplies negative ones; 1: none.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub repetition_penalty: f64,
    /// A completion ends with the first of these texts that occurs in it; the text stays part of it.
    #[schemars(inner(length(min = 1)))]
    pub stop_strings: Vec<String>,
}

impl SamplingTable {
    /// What it says with this temperature, for the stage at `key`.
    pub(in crate::recipe) fn resolve(&self, resolver: &mut Resolver<'_>, key: &KeyPath, temperature: f64) -> Sampling {
        let (min, max) = (self.min_new_tokens, self.max_new_tokens);
        if min > max {
            let message = format!("`{key}.min_new_tokens` is {min}, more than `max_new_tokens`, {max}");
            let help = "completions are cut at `max_new_tokens`";
            resolver.problem(&key.key("min_new_tokens"), message, "never reached", help);
        }
        Sampling {
            max_prompt_tokens: self.max_prompt_tokens,
            max_new_tokens: max,
            min_new_tokens: min,
            temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            stop_strings: self.stop_strings.clone(),
        }
    }
}
