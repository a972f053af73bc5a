//! Probes for reward hacking in evaluations, and the distance from the stage's input.

use crate::project::{Project, RECIPE, json_lines};
use crate::resume::{committed, killed_and_resumed, result, run, uninterrupted_in};
use serde_json::Value;

/// Returns a project that evaluates the base model with probes, three questions at a time.
fn probed() -> Project {
    let project = Project::new();
    let eval = "kind = \"eval\"\nprobes = true\nsamples_per_question = 2\ntemperature = 0.8\nmaj_at = [1, 2]\n";
    let (recipe, _) = RECIPE.split_once("[sweep]").unwrap();
    let recipe = recipe
        .replace("kind = \"eval\"\nafter = \"grpo\"\n", eval)
        .replace("[stages.eval.rewards.rouge]\nscope = \"completion\"\n", "")
        .replace("batch_size = 4\nbootstrap", "batch_size = 1\nbootstrap");
    assert!(recipe.contains(eval) && recipe.contains("batch_size = 1\nbootstrap"));
    project.write("recipes/tiny.toml", &recipe);
    project
}

#[test]
fn probes_of_answers_are_measured_and_resume_to_the_bit() {
    let killed = probed();
    let resumed = killed_and_resumed(&killed, "eval", &[], &[2]);
    let whole = probed();
    assert!(resumed == uninterrupted_in(&whole, "eval", &[]), "killed and resumed, it measured something else");
    let path = whole.checkpoint("eval").join("metrics.json");
    let metrics: Value = serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap();
    for probe in ["echo", "keywords", "padded", "neighbour", "climbed"] {
        let found = &metrics[format!("eval/probe/semantic/{probe}")];
        let rate = found["value"].as_f64().unwrap_or(f64::NAN);
        assert!((0.0..=1.0).contains(&rate) && found["count"].as_u64().unwrap() > 0, "{probe}: {found}");
    }
    assert!(metrics["eval/probe_gap/semantic/echo"]["value"].is_number(), "two answers have a spread");
    let boilerplate = metrics["eval/boilerplate/semantic"]["value"].as_f64().unwrap();
    assert!((-2.0..=2.0).contains(&boilerplate), "{boilerplate}");
    assert!(metrics["eval/maj_at_2"]["value"].is_number(), "{metrics}");
}

#[test]
fn the_distance_is_measured_without_a_change_of_any_bit() {
    let settings = ["stages.grpo.kl_coef=0.0", "stages.grpo.steps=4"];
    let plain = Project::new();
    plain.succeed(&run("grpo", &settings));
    let measured = Project::new();
    measured.succeed(&run("grpo", &[&settings[..], &["stages.grpo.kl_every=2"]].concat()));
    assert!(result(&plain, "grpo") == result(&measured, "grpo"), "measuring changed the weights");
    let steps = |project: &Project| -> Vec<(u64, f64)> {
        let events = fs_err::read_to_string(committed(project, "grpo").unwrap().join("events.jsonl")).unwrap();
        let of_step = |event: Value| {
            let step = &event["kind"]["step"];
            Some((step["step"].as_u64()?, step["metrics"]["grpo/kl"].as_f64()?))
        };
        json_lines(&events).into_iter().filter_map(of_step).collect()
    };
    assert_eq!(steps(&plain), []);
    let found = steps(&measured);
    assert_eq!(found.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [2, 4]);
    assert!(found.iter().all(|(_, kl)| *kl >= 0.0) && found[1].1 > 0.0, "{found:?}");
}
