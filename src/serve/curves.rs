//! Metrics over steps, in as many points as a picture can show.

use super::Site;
use crate::digest::Digest;
use crate::history::{LoggedPlan, PastRun, Series, events_dir, reward_mixes, stage_metrics};
use crate::report::main_curve;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Points of a curve at most: about two for each pixel it is drawn on.
const POINTS: usize = 600;

type Metrics = BTreeMap<String, Series>;

/// Metrics of stages that were read already, with the length of their events then.
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
        // events that are damaged or taken away meanwhile have no curves
        let metrics = Arc::new(stage_metrics(&site.workspace, key).ok()?);
        read().insert(key.clone(), (length, Arc::clone(&metrics)));
        Some(metrics)
    }
}

/// The names of all metrics of `run`, the one to be shown first before all others.
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

/// The metric called `name` over the steps of each stage of `run` that has it: `[step, mean, min, max]`, the last three
/// over the steps that a point stands for.
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

/// At most [`POINTS`] points: the last step of each stretch, with the mean and the extremes over it.
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
