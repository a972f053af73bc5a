//! `run --until-separable`: rounds of runs with more seeds, with a worker that answers as the tests set it up.

use crate::compare::{GRID, asked, prepare, project};
use crate::env::{Ended, TestEnv};
use crate::harness::signal_child;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Returns a normal-looking number that is the same every time.
fn draw(words: &str) -> f64 {
    let uniform = |salt: u64| {
        let mixed = words.bytes().fold(0xcbf2_9ce4_8422_2325_u64 ^ salt, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
        });
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 24) - 0.5
    };
    (0..6).map(uniform).sum::<f64>()
}

#[expect(clippy::unnecessary_wraps, reason = "other tests have arms that return nothing")]
/// `good` is far ahead of `sft`, `bad` as far behind, `same` is equal up to the noise of its seeds.
fn scores(arm: &str, seed: u64, question: usize) -> Option<f64> {
    let lead = match arm {
        "good" => 0.2,
        "bad" => -0.2,
        _ => 0.0,
    };
    let of_seed = 0.006 * draw(&format!("{arm} {seed}"));
    Some(0.5 + lead + of_seed + 0.005 * draw(&format!("{arm} {seed} {question}")))
}

/// Creates the project with answers for ten seeds of each arm.
fn grid() -> TestEnv {
    let env = project(GRID);
    let many = GRID.replace("seed = [1, 2, 3]", "seed = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]");
    env.write("many.toml", &many);
    prepare(&env, "many.toml", 12, &asked, &scores);
    env
}

const SEARCH: [&str; 6] = ["run", "grid.toml", "--set", "compare.metric=rouge", "--until-separable", "sft"];

fn search<'a>(more: &[&'a str]) -> Vec<&'a str> {
    SEARCH.iter().copied().chain(more.iter().copied()).collect()
}

fn rounds(ended: &Ended) -> Vec<Value> {
    ended.json().into_iter().filter(|line| line["what"] == "round").collect()
}

fn arm<'a>(round: &'a Value, name: &str) -> &'a Value {
    round["arms"].as_array().unwrap().iter().find(|arm| arm["arm"] == name).expect("the arm is listed")
}

#[test]
fn seeds_are_added_to_open_arms_until_all_are_decided() {
    let env = grid();
    let ended = env.run(&search(&["--json"])).ends_with(0);
    let rounds = rounds(&ended);
    assert_eq!((&rounds[0]["seeds"], &rounds[0]["round"]), (&json!([1, 2, 3]), &json!(1)));
    assert!(rounds.len() > 1, "{rounds:?}");
    for (round, next) in rounds.iter().zip(&rounds[1..]) {
        let mut seeds = round["seeds"].as_array().unwrap().clone();
        seeds.extend(round["next"]["seeds"].as_array().unwrap().clone());
        assert_eq!(next["seeds"], json!(seeds));
        assert!(round["next"]["stages"].as_u64() > Some(0) && round["next"]["seconds"].is_f64(), "{round}");
    }
    let last = rounds.last().unwrap();
    assert_eq!(last["next"], Value::Null);
    assert_eq!((&arm(last, "good")["decision"], &arm(last, "bad")["decision"]), (&json!("better"), &json!("worse")));
    let same = arm(last, "same");
    assert!(same["decision"] == "given_up" || same["decision"] == "not_separable", "{same}");
    let count = |name: &str| arm(last, name)["seeds"].as_u64().unwrap();
    assert!(count("good") < count("same") && count("same") <= 10, "{last}");

    // The new seeds are variants as if the recipe had listed them, and only the open arms have them.
    let statuses = env.run(&["plan", "many.toml", "--json"]).ends_with(0).json();
    let is_cached = |variant: &str| {
        let mut stages = statuses.iter().filter(|line| line["variant"][0] == format!("grid/{variant}"));
        stages.all(|stage| stage["status"] == "cached")
    };
    let newest = last["seeds"].as_array().unwrap().len() as u64;
    for seed in 1..=newest {
        assert!(is_cached(&format!("sft,seed={seed}")) && is_cached(&format!("same,seed={seed}")), "seed {seed}");
    }
    assert!(!is_cached(&format!("good,seed={newest}")), "a separable arm gets no more seeds");
    // The newest run has all of them, and `compare` says how they were chosen.
    let found = env.run(&["compare", "--baseline", "sft", "--json"]).ends_with(0).json();
    let row = found.iter().find(|line| line["arm"] == "same").unwrap();
    assert_eq!(row["seeds"].as_array().unwrap().len() as u64, newest);
    assert!(found.iter().any(|line| line["kind"] == "adaptive_seeds"), "{found:?}");
    let shown = env.run(&["show"]).ends_with(0).stdout;
    assert!(shown.contains("sweep.matrix.seed=[1, 2, 3, 4"), "{shown}");

    // The same command again computes nothing and decides the same.
    let again = env.run(&search(&["--json"])).ends_with(0);
    let computed = again.json().into_iter().filter(|line| line["status"] == "ok").count();
    assert_eq!(computed, 0);
    assert_eq!(arms(&again), arms(&ended));
    let text = env.run(&search(&[])).ends_with(0).stdout;
    assert!(text.contains("round 1, run ") && text.contains(": seeds 1 to 3 by rouge in `eval`"), "{text}");
    assert!(text.contains("next: seed") && text.contains("; at most 10 seeds an arm"), "{text}");
    assert!(text.ends_with("the search ends: 2 of 3 arms are separable\n"), "{text}");
}

/// Returns the arms of every round.
fn arms(ended: &Ended) -> Vec<Value> {
    rounds(ended).into_iter().map(|round| round["arms"].clone()).collect()
}

#[test]
fn an_interrupted_search_goes_on_and_decides_the_same() {
    let whole = arms(&grid().run(&search(&["--json"])).ends_with(0));
    let env = grid();
    // The first round is cached, so the interruption comes in the second.
    env.run(&["run", "grid.toml", "-q"]).ends_with(0);
    fs_err::remove_file(env.path("started-sft")).unwrap();
    env.behave("sft", "wait");
    let child = env.start(&search(&["--json"]));
    env.wait_for("started-sft");
    signal_child(&child, Signal::INT);
    let ended = Ended::from(child.wait_with_output().unwrap()).ends_with(130);
    assert_eq!(arms(&ended), whole[..1]);
    env.behave("sft", "commit");
    // A changed recipe does not change the search.
    env.write("grid.toml", &GRID.replace("steps = 3", "steps = 4"));
    let resumed = env.run(&["resume", "--json"]).ends_with(0);
    assert_eq!(arms(&resumed), whole[1..]);
}

#[test]
fn a_dry_run_shows_the_first_round_and_the_limit() {
    let env = grid();
    let text = env.run(&search(&["-n"])).ends_with(0).stdout;
    assert!(text.contains("24 stages of 12 variants: 0 cached, 24 to run"), "{text}");
    assert!(text.contains("this is round 1, with seeds 1 to 3"), "{text}");
    assert!(text.contains("up to 10 an arm: at most 80 stages to run"), "{text}");
    let lines = env.run(&search(&["-n", "--json", "--max-seeds", "4"])).ends_with(0).json();
    let limit = lines.last().unwrap();
    assert_eq!(
        (&limit["what"], &limit["max_seeds"], &limit["stages_at_most"]),
        (&json!("search"), &json!(4), &json!(32))
    );
}

#[test]
fn what_cannot_be_searched_is_refused_before_work_starts() {
    let env = grid();
    env.run(&["run", "small.toml", "--until-separable", "sft"])
        .ends_with(2)
        .says(&["`small.toml` sweeps no seeds", "add `matrix = { seed = [1, 2, 3] }`"]);
    env.run(&["run", "grid.toml", "--until-separable", "sfd"]).ends_with(5).says(&["no arm is called `sfd`", "`sft`"]);
    env.run(&search(&["--max-seeds", "2"])).ends_with(2).says(&["`--max-seeds 2` is less than the 3 seeds"]);
    env.run(&search(&["--max-seeds", "1"])).ends_with(2);
    env.run(&search(&["--by", "evl"])).ends_with(5).says(&["no stage is called `evl`", "`eval`"]);
    env.run(&search(&["--force"])).ends_with(2);
    env.run(&["run", "grid.toml", "--max-seeds", "5"]).ends_with(2).says(&["--until-separable"]);
    env.run(&search(&["--variant", "sft"])).ends_with(5).says(&["there is only one arm, `sft`"]);
    env.run(&search(&["--variant", "sft", "--variant", "good,seed=1"]))
        .ends_with(2)
        .says(&["a search needs arms that begin with the same seeds"]);
    assert!(!env.path("runs/cache").exists() || fs_err::read_dir(env.path("runs/cache")).unwrap().count() == 0);
}

#[test]
fn a_failed_stage_ends_the_search_and_a_recipe_with_one_seed_gets_three_first() {
    let env = grid();
    env.write("one.toml", &GRID.replace("seed = [1, 2, 3]", "seed = [1]"));
    env.behave("eval", "fail");
    let one = ["run", "one.toml", "--set", "compare.metric=rouge", "--until-separable", "sft", "--json"];
    let ended = env.run(&one).ends_with(4);
    assert!(rounds(&ended).is_empty(), "{}", ended.stdout);
    env.behave("eval", "commit");
    let rounds = rounds(&env.run(&["resume", "--json"]).ends_with(0));
    assert_eq!((&rounds[0]["seeds"], &rounds[0]["next"]["seeds"]), (&json!([1]), &json!([2, 3])));
    assert_eq!(arm(&rounds[0], "good")["decision"], "open");
    assert_eq!(arm(rounds.last().unwrap(), "good")["decision"], "better");
}
