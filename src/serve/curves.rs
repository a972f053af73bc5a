//! Metrics over steps, thinned to the resolution of a plot.

use super::Site;
use crate::digest::Digest;
use crate::history::{LoggedPlan, PastRun, Series, events_dir, reward_mixes, stage_metrics};
use crate::report::main_curve;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// The maximum number of points of a curve: about two for each pixel of its width.
const POINTS: usize = 600;

type Metrics = BTreeMap<String, Series>;

/// Metrics of stages that were already read, with the length of their events at that time.
#[derive(Default)]
pub(super) struct Curves {
    read: Mutex<HashMap<Digest, (u64, Arc<Metrics>)>>,
}

impl Curves {
    fn of(&self, site: &Site, key: &Digest) -> Option<Arc<Metrics>> {
        let length = fs_err::metadata(events_dir(&site.workspace, key).join("events.jsonl")).ok()?.len();
        let read = || self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, metrics)) = read().get(key)
            && *known == length
        {
            return Some(Arc::clone(metrics));
        }
        // Events that are damaged or removed meanwhile have no curves.
        let metrics = Arc::new(stage_metrics(&site.workspace, key).ok()?);
        read().insert(key.clone(), (length, Arc::clone(&metrics)));
        Some(metrics)
    }
}

/// Returns the names of all metrics of `run`, with the main one first.
pub(super) fn names(site: &Site, run: &PastRun) -> io::Result<Value> {
    let plan = LoggedPlan::load(&run.log_dir)?;
    let mut names: BTreeSet<String> = BTreeSet::new();
    for stage in &plan.stages {
        names.extend(site.curves.of(site, &stage.key).iter().flat_map(|metrics| metrics.keys().cloned()));
    }
    let main = main_curve(&reward_mixes(&site.workspace, &plan), |name| names.contains(name));
    let rest = names.iter().filter(|name| Some(*name) != main.as_ref());
    Ok(json!(main.iter().chain(rest).collect::<Vec<_>>()))
}

/// Returns the metric called `name` over the steps of each stage of `run` that has it, as `[step, mean, min, max]`. The
/// last three are taken over the steps that a point covers.
pub(super) fn curves(site: &Site, run: &PastRun, name: &str) -> io::Result<Value> {
    let plan = LoggedPlan::load(&run.log_dir)?;
    let titles = plan.names();
    let curve = |(stage, (_, variant)): (&crate::history::LoggedStage, &(String, String))| {
        let metrics = site.curves.of(site, &stage.key)?;
        let series = metrics.get(name)?;
        Some(json!({
            "key": stage.key, "stage": stage.stage, "kind": stage.kind, "variant": variant,
            "steps": series.len(), "points": thinned(series),
        }))
    };
    Ok(Value::from(plan.stages.iter().zip(&titles).filter_map(curve).collect::<Vec<_>>()))
}

/// Thins a series to at most [`POINTS`] points: the last step of each stretch, with the mean and the extremes over it.
fn thinned(series: &Series) -> Vec<(u64, f64, f64, f64)> {
    let stretch = series.len().div_ceil(POINTS).max(1);
    let point = |part: &[(u64, f64)]| {
        let values = part.iter().map(|&(_, value)| value);
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.clone().fold(f64::NEG_INFINITY, f64::max);
        (part[part.len() - 1].0, values.sum::<f64>() / part.len() as f64, low, high)
    };
    series.chunks(stretch).map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_keeps_its_mean_and_its_extremes() {
        let series: Series = (1..=5000).map(|step| (step, if step == 777 { 50.0 } else { 1.0 })).collect();
        let points = thinned(&series);
        assert!(points.len() <= POINTS, "{}", points.len());
        assert_eq!(points.last().map(|point| point.0), Some(5000));
        assert!(points.iter().any(|point| point.3 > 49.0), "the one high step");
        assert_eq!(thinned(&vec![(1, 2.0), (2, 4.0)]), [(1, 2.0, 2.0, 2.0), (2, 4.0, 4.0, 4.0)]);
        assert_eq!(thinned(&Vec::new()), []);
    }
}
