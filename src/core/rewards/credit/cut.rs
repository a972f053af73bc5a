//! A text whose segments are credited.

use super::game::Game;
use super::segments::segments;
use super::spec::OwenSpec;
use std::ops::Range;

/// A text cut into two or more segments, and the coalitions that a component values.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The segments, as bytes of the text.
    pub segments: Vec<Range<usize>>,
    /// The texts to value: some of the segments, joined by spaces.
    pub coalitions: Vec<String>,
    game: Game,
}

impl Cut {
    /// Cuts `text`. Returns `None` if it has fewer than two segments. Orders of segments are drawn from `seed`.
    pub fn of(text: &str, spec: &OwenSpec, seed: u64) -> Option<Self> {
        let (segments, unions) = segments(text, spec.segments, Game::most_segments(spec.max_coalitions));
        if segments.len() < 2 {
            return None;
        }
        let game = Game::new(segments.len(), &unions, spec.coalitions, spec.max_coalitions, seed);
        let joined = |members: Vec<usize>| {
            let parts: Vec<&str> = members.into_iter().map(|member| text[segments[member].clone()].trim()).collect();
            parts.join(" ")
        };
        let coalitions = game.coalitions().into_iter().map(joined).collect();
        Some(Self { segments, coalitions, game })
    }

    /// Returns the credit of each segment, from the `values` of the coalitions.
    pub fn credits(&self, values: &[f64]) -> Vec<f64> {
        self.game.credits(values)
    }
}
