//! The default baseline and the primary metric.

use super::mix::difference_of_meaning;
use super::{Evidence, Trial, metric_names};
use crate::metric::{ACCURACY, Direction, short_name};

impl Evidence {
    /// The baseline if the user names none: the recipe's, else `sft`, else `base`, else the first arm with results.
    pub fn default_baseline(&self) -> Option<&str> {
        let known = |name: &str| self.arm(name).map(|arm| arm.name.as_str());
        let first = || self.arms.iter().find(|arm| !arm.trials.is_empty()).map(|arm| arm.name.as_str());
        let named = self.settings.baseline.as_deref().and_then(known);
        named.or_else(|| known("sft")).or_else(|| known("base")).or_else(first)
    }

    /// The primary metric: the recipe's, else accuracy, else the first suitable metric of the table.
    ///
    /// A metric is suitable if its direction is known and it means the same in all arms. `None` when none is.
    pub fn primary_metric(&self) -> Option<String> {
        let trials: Vec<&Trial> = self.arms.iter().flat_map(|arm| &arm.trials).collect();
        let names = metric_names(self);
        let named = |wanted: &str| names.iter().find(|name| *name == wanted || short_name(name) == wanted);
        let decides =
            |name: &&String| self.direction_of(name).is_some() && difference_of_meaning(name, &trials, &[]).is_none();
        let found = self.settings.metric.as_deref().and_then(named).or_else(|| named(ACCURACY));
        found.or_else(|| names.iter().find(decides)).cloned()
    }

    /// Returns the direction in which the metric `name` is better: the recipe's, or else the one that the name implies.
    pub fn direction_of(&self, name: &str) -> Option<Direction> {
        let says = |names: &[String]| names.iter().any(|said| said == name || said == short_name(name));
        if says(&self.settings.higher) {
            return Some(Direction::Higher);
        }
        if says(&self.settings.lower) { Some(Direction::Lower) } else { Direction::of(name) }
    }
}
