//! Which arm is drawn in which colour.

use super::svg::Ink;

/// How an arm is drawn: the baseline in the colour of text, the others in their own.
pub(super) fn ink_of(arm: usize, baseline: Option<usize>) -> Ink {
    match baseline {
        Some(baseline) if arm == baseline => Ink::Text,
        Some(baseline) if arm > baseline => Ink::Arm(arm - 1),
        _ => Ink::Arm(arm),
    }
}

/// The class that gives an arm its colour in a page.
pub fn arm_class(arm: usize, baseline: Option<usize>) -> String {
    ink_of(arm, baseline).class()
}
