//! Patterns that select variants of a sweep by the parts of their names.
//!
//! `rouge` selects every variant with that name in `variants`, `seed=1` every variant with that value, and
//! `rouge,seed=*` the variants that are both. `*` matches any text and `?` any character. A number may be written in
//! any way (`lr=1e-4` is `lr=0.0001`).

use glob::Pattern;

/// A pattern of parts of a variant's name. A variant matches when its name has all of them.
#[derive(Clone, Debug)]
pub struct VariantPattern {
    parts: Vec<PatternPart>,
}

#[derive(Clone, Debug)]
struct PatternPart {
    text: String,
    pattern: Pattern,
}

impl PatternPart {
    fn matches(&self, part: &str) -> bool {
        let same_number = || {
            let ((key, number), (own_key, own_number)) = (setting(part)?, setting(&self.text)?);
            Some(key == own_key && number.to_bits() == own_number.to_bits())
        };
        self.pattern.matches(part) || same_number() == Some(true)
    }
}

/// Returns the key and the number of `key=number`.
fn setting(part: &str) -> Option<(&str, f64)> {
    let (key, value) = part.split_once('=')?;
    Some((key, value.parse().ok()?))
}

impl VariantPattern {
    /// Parses parts that are separated by commas.
    ///
    /// # Errors
    /// A sentence that says which part is invalid.
    pub fn new(text: &str) -> Result<Self, String> {
        let part = |part: &str| match part.trim() {
            "" => Err("a part of it is empty".to_owned()),
            text => Pattern::new(text)
                .map(|pattern| PatternPart { text: text.to_owned(), pattern })
                .map_err(|error| format!("{} (`[[]` matches a bracket)", error.msg)),
        };
        Ok(Self { parts: text.split(',').map(part).collect::<Result<_, _>>()? })
    }

    /// Whether the pattern matches the variant `name`.
    pub fn matches(&self, name: &str) -> bool {
        self.parts.iter().all(|own| name.split(',').any(|part| own.matches(part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        VariantPattern::new(pattern).unwrap().matches(name)
    }

    #[test]
    fn a_variant_matches_with_every_part_in_any_order() {
        assert!(matches("rouge", "rouge,lr=0.1,seed=1"));
        assert!(matches("seed=1,rouge", "rouge,lr=0.1,seed=1"));
        assert!(!matches("rouge,seed=2", "rouge,lr=0.1,seed=1"));
        assert!(!matches("seed=1", "rouge,lr=0.1,seed=10"), "a part is matched whole");
        assert!(matches("lr=1e-4", "rouge,lr=0.0001") && !matches("lr=1e-4", "rouge,lr=0.0002"));
        assert!(matches("r*,seed=1?", "rouge,lr=0.1,seed=10"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert!(VariantPattern::new("a,,b").unwrap_err().contains("empty"));
        assert!(VariantPattern::new("[").is_err());
    }
}
