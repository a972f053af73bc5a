//! Colours of arms.

use super::svg::Ink;

/// Returns the colour of an arm: the baseline has the colour of text, the others have their own.
pub(super) fn ink_of(arm: usize, baseline: Option<usize>) -> Ink {
    match baseline {
        Some(baseline) if arm == baseline => Ink::Text,
        Some(baseline) if arm > baseline => Ink::Arm(arm - 1),
        _ => Ink::Arm(arm),
    }
}

/// Returns the CSS class that gives an arm its colour in a page.
pub fn arm_class(arm: usize, baseline: Option<usize>) -> String {
    ink_of(arm, baseline).class()
}
