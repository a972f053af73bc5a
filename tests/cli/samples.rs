//! `samples`: selection and format of completions.

use crate::env::{Ended, TestEnv};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Creates a run in which `base` sampled three completions in each of the steps 1 to 3. The third of each step is
/// truncated and has no reference. Step 3 was sampled twice, because the worker was resumed after step 2.
fn sampled() -> TestEnv {
    let env = TestEnv::new();
    let started = |resumed: Option<u64>| {
        json!({"started": {
            "host": "test", "pid": 1, "device": "cpu", "libtorch": "none", "threads": 1, "resumed_from_step": resumed,
            "total_steps": 3,
        }})
    };
    let mut events = vec![started(None)];
    events.extend([1, 2].into_iter().flat_map(|step| group(step, "")));
    events.extend(group(3, " taken back"));
    events.push(started(Some(2)));
    events.extend(group(3, ""));
    let mut lines = String::new();
    for kind in events {
        writeln!(lines, "{}", json!({"at": "2026-01-01T00:00:00Z", "kind": kind})).unwrap();
    }
    env.write("events/base", &lines);
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    env
}

fn group(step: u64, remark: &str) -> Vec<Value> {
    let completion = |index: u64| {
        let cut = index == 2;
        let rouge = (!cut).then_some(0.5 * index as f64);
        let text = format!("The femur, {step}.{index}: the longest and strongest bone of the human body{remark}");
        json!({"completion": {
            "step": step, "row": 10 * step, "index": index, "prompt": "Longest bone?", "completion": text,
            "reference": (!cut).then_some("The femur is the longest bone.\nIt lies in the thigh."), "answer": "A",
            "tokens": 10 * step + index, "stop_reason": if cut { "length" } else { "stop_token" },
            "reward": rouge.map(|rouge| rouge + 1.0), "advantage": rouge.map(|rouge| rouge - 0.25),
            "parts": {
                "format": {"value": 1.0, "weight": 1.0, "missing": null},
                "rouge": {"value": rouge, "weight": 1.0, "missing": cut.then_some("the row has no reference")},
                "semantic": {"value": 0.75, "weight": 0.0, "missing": null},
            },
        }})
    };
    (0..3).map(completion).collect()
}

/// Returns `STEP.INDEX` of the shown completions.
fn shown(ended: &Ended) -> Vec<String> {
    ended.json().iter().map(|line| format!("{}.{}", line["step"], line["index"])).collect()
}

#[test]
fn without_a_step_the_last_one_that_matches_is_shown_as_it_was_done_in_the_end() {
    let env = sampled();
    let samples = |args: &[&str]| env.run(&[&["samples", "latest", "base", "--json"], args].concat());
    let last = samples(&[]).ends_with(0);
    assert_eq!(shown(&last), ["3.0", "3.1", "3.2"]);
    assert!(!last.stdout.contains("taken back"), "{}", last.stdout);
    let line = &last.json()[0];
    assert_eq!((&line["stage"], &line["parts"]["semantic"]["weight"]), (&json!("base"), &json!(0.0)));
    assert_eq!(line["key"].as_str().unwrap().len(), 64);
    assert_eq!(shown(&samples(&["--row", "20"])), ["2.0", "2.1", "2.2"]);
    assert_eq!(shown(&samples(&["--where", "tokens<22", "--limit", "1"])), ["2.0"]);
}

#[test]
fn steps_conditions_and_orders_choose_completions() {
    let env = sampled();
    let samples = |args: &[&str]| shown(&env.run(&[&["samples", "--json"], args].concat()).ends_with(0));
    assert_eq!(samples(&["--step", "1"]), ["1.0", "1.1", "1.2"]);
    assert_eq!(samples(&["--step", "2..", "--limit", "0"]).len(), 6);
    assert_eq!(samples(&["--step", "1..2", "--limit", "0"]).len(), 6);
    assert_eq!(samples(&["--step", ".."]), ["1.0", "1.1", "1.2", "2.0"], "the limit is 4");
    assert_eq!(samples(&["--step", "..", "--truncated"]), ["1.2", "2.2", "3.2"]);
    assert_eq!(samples(&["--step", "..", "--where", "stop_reason=length"]), ["1.2", "2.2", "3.2"]);
    assert_eq!(samples(&["--step", "..", "--where", "reward>1.2"]), ["1.1", "2.1", "3.1"]);
    assert_eq!(samples(&["--step", "..", "--where", "rouge=missing", "--where", "tokens>15"]), ["2.2", "3.2"]);
    assert_eq!(samples(&["--step", "..", "--sort", "-tokens", "--limit", "2"]), ["3.2", "3.1"]);
    assert_eq!(samples(&["--step", "1..2", "--sort", "rouge", "--limit", "3"]), ["1.0", "2.0", "1.1"]);
    assert_eq!(samples(&["--sort", "-reward"]), ["3.1", "3.0", "3.2"], "what has no reward comes last");
}

#[test]
fn what_cannot_be_meant_is_reported_with_what_is_known() {
    let env = sampled();
    let refused = |args: &[&str]| env.run(&[&["samples", "latest"], args].concat()).ends_with(2);
    refused(&["--where", "semantc>0.5"]).says(&["no field `semantc`", "did you mean `semantic`?", "`stop_reason`"]);
    refused(&["--sort", "lenght"]).says(&["no field `lenght`", "`tokens`"]);
    refused(&["--where", "reward is high"]).says(&["FIELD OPERATOR VALUE"]);
    refused(&["--where", "stop_reason=eos"]).says(&["`stop_token`"]);
    refused(&["--step", "3..1"]).says(&["a range of steps"]);
    env.run(&["samples", "--step", "9"]).ends_with(5).says(&["the steps 1 to 3"]);
    env.run(&["samples", "--parquet"]).ends_with(5).says(&["no Parquet file"]);
}

#[test]
fn a_completion_stands_beside_its_reference_within_the_terminal() {
    let env = sampled();
    for columns in ["80", "140"] {
        let args = ["samples", "latest", "base", "--side-by-side", "--where", "tokens=31"];
        let shown = env.run_with(&args, "COLUMNS", columns).ends_with(0).stdout;
        assert!(shown.lines().all(|line| line.chars().count() <= columns.parse().unwrap()), "{shown}");
        assert!(shown.contains("│ The femur is the longest bone."), "{shown}");
        assert!(shown.contains("held out  semantic 0.750"), "{shown}");
        assert!(shown.contains("reward  1.500  advantage 0.250  = format 1.000 x 1 + rouge 0.500 x 1"), "{shown}");
    }
}

#[test]
fn a_completion_cannot_steer_the_terminal() {
    let env = sampled();
    let file = "events/base";
    let events = fs_err::read_to_string(env.path(file)).unwrap().replace("The femur, 3.0", "\\u001b[2J");
    env.write(file, &events);
    env.run(&["run", "small.toml", "--only", "base", "--set", "stages.base.steps=2"]).ends_with(0);
    for args in [&["samples"][..], &["samples", "--side-by-side"]] {
        let shown = env.run(args).ends_with(0).stdout;
        assert!(shown.contains("\\u{1b}[2J") && !shown.contains('\x1b'), "{shown}");
    }
}
