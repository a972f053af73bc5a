//! Metrics over steps: a line for each arm, with a band around it.

use super::axis::Axis;
use super::ink_of;
use super::svg::{Anchor, Ink, Svg};
use serde::Serialize;

/// The values of an arm's seeds in a range of steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bucket {
    /// The last step of the range.
    pub step: u64,
    /// The mean of the seeds' means.
    pub mean: f64,
    /// The lowest value of any seed at any step of the range.
    pub low: f64,
    /// The highest value of any seed at any step of the range.
    pub high: f64,
}

/// A metric of one arm over steps.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CurveLine {
    /// The index of the arm.
    pub arm: usize,
    /// The arm's name.
    pub name: String,
    /// The number of seeds that recorded the metric.
    pub seeds: usize,
    /// The number of steps with a value, of the seed that has most.
    pub steps: usize,
    /// The values.
    #[serde(skip)] // only for charts
    pub points: Vec<Bucket>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// Summarizes the series of an arm's seeds in at most `most` ranges of equally many steps. With fewer steps each is
/// its own range.
///
/// Values that are not finite are ignored.
pub fn buckets(seeds: &[Vec<(u64, f64)>], most: u64) -> Vec<Bucket> {
    let finite = || seeds.iter().flatten().filter(|(_, value)| value.is_finite());
    let Some(first) = finite().map(|(step, _)| *step).min() else { return Vec::new() };
    let last = finite().map(|(step, _)| *step).max().unwrap_or(first);
    let width = (last - first + 1).div_ceil(most.max(1));
    let mut found: std::collections::BTreeMap<u64, Vec<(f64, f64)>> = std::collections::BTreeMap::new();
    let mut extremes: std::collections::BTreeMap<u64, (u64, f64, f64)> = std::collections::BTreeMap::new();
    for series in seeds {
        let mut sums: std::collections::BTreeMap<u64, (f64, f64)> = std::collections::BTreeMap::new();
        for (step, value) in series.iter().filter(|(_, value)| value.is_finite()) {
            let place = (step - first) / width;
            let sum = sums.entry(place).or_default();
            *sum = (sum.0 + value, sum.1 + 1.0);
            let (to, low, high) = extremes.entry(place).or_insert((*step, *value, *value));
            (*to, *low, *high) = ((*to).max(*step), low.min(*value), high.max(*value));
        }
        for (place, sum) in sums {
            found.entry(place).or_default().push(sum);
        }
    }
    let bucket = |(place, sums): (u64, Vec<(f64, f64)>)| {
        let (step, low, high) = extremes[&place];
        let mean = sums.iter().map(|(sum, count)| sum / count).sum::<f64>() / sums.len() as f64;
        Bucket { step, mean, low, high }
    };
    found.into_iter().map(bucket).collect()
}

/// Draws the chart of `lines` over steps; `label` names the metric.
pub fn curve_chart(label: &str, lines: &[CurveLine], baseline: Option<usize>) -> String {
    let mut svg = Svg::new(WIDTH, HEIGHT, label);
    let points = || lines.iter().flat_map(|line| &line.points);
    let x = Axis::holding(points().map(|point| point.step as f64), LEFT, WIDTH - RIGHT);
    let y = Axis::holding(points().flat_map(|point| [point.low, point.high]), HEIGHT - BOTTOM, TOP);
    frame(&mut svg, &x, &y);
    svg.text(((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 6.0), Anchor::Middle, Ink::Muted, "step");
    // The baseline is drawn last, so that no other line hides it.
    let mut order: Vec<&CurveLine> = lines.iter().collect();
    order.sort_by_key(|line| Some(line.arm) == baseline);
    for line in order {
        let ink = ink_of(line.arm, baseline);
        svg.begin_arm(line.arm, &line.name);
        let at = |value: fn(&Bucket) -> f64| {
            line.points.iter().map(move |point| (x.at(point.step as f64), y.at(value(point)))).collect::<Vec<_>>()
        };
        let mut band = at(|point| point.high);
        band.extend(at(|point| point.low).into_iter().rev());
        if line.points.len() > 1 {
            svg.area(&band, ink);
            svg.polyline(&at(|point| point.mean), ink, 1.8);
        } else if let Some(&point) = at(|point| point.mean).first() {
            svg.circle(point, 3.0, ink, 1.0);
        }
        svg.end_group();
    }
    svg.finish()
}

/// Draws the grid lines and the numbers of both axes.
pub(super) fn frame(svg: &mut Svg, x: &Axis, y: &Axis) {
    for (value, text) in y.ticks(5.0) {
        svg.line((LEFT, y.at(value)), (WIDTH - RIGHT, y.at(value)), Ink::Grid, 1.0);
        svg.text((LEFT - 8.0, y.at(value) + 4.0), Anchor::End, Ink::Muted, &text);
    }
    for (value, text) in x.whole_ticks(8.0) {
        svg.text((x.at(value), HEIGHT - BOTTOM + 18.0), Anchor::Middle, Ink::Muted, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_steps_stay_as_they_are() {
        let seeds = [vec![(1, 1.0), (2, 3.0)], vec![(1, 2.0), (2, f64::NAN)]];
        assert_eq!(
            buckets(&seeds, 100),
            [Bucket { step: 1, mean: 1.5, low: 1.0, high: 2.0 }, Bucket { step: 2, mean: 3.0, low: 3.0, high: 3.0 }]
        );
        assert_eq!(buckets(&[], 100), []);
    }

    #[test]
    fn many_steps_keep_their_extremes() {
        let mut series: Vec<(u64, f64)> = (1..=5000).map(|step| (step, 0.5)).collect();
        series[2345].1 = 9.0;
        series[4000].1 = -9.0;
        let found = buckets(&[series], 100);
        assert_eq!((found.len(), found[0].step, found[99].step), (100, 50, 5000));
        assert!(found.iter().any(|b| (b.high - 9.0).abs() < 1e-12));
        assert!(found.iter().any(|b| (b.low + 9.0).abs() < 1e-12));
        assert!((found[46].mean - (49.0 * 0.5 + 9.0) / 50.0).abs() < 1e-12);
    }

    #[test]
    fn the_baseline_is_drawn_over_the_others() {
        let point = |step| Bucket { step, mean: 0.5, low: 0.4, high: 0.6 };
        let line = |arm, name: &str| CurveLine {
            arm,
            name: name.into(),
            seeds: 2,
            steps: 2,
            points: vec![point(1), point(2)],
        };
        let drawn = curve_chart("reward/mean", &[line(0, "sft"), line(1, "rouge")], Some(0));
        let place = |text: &str| drawn.find(text).unwrap_or_else(|| panic!("{text} is missing:\n{drawn}"));
        assert!(place("<title>rouge</title>") < place("<title>sft</title>"));
        assert!(drawn.contains("class=\"ink-0\"") && drawn.contains("class=\"ink-text\""));
    }
}
