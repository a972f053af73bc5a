//! Arenas from recipe to table: with an encoder as the judge, and with judges on a server.

use crate::project::{Project, RECIPE, json_lines};
use crate::resume::{killed_and_resumed, uninterrupted_in};
use crate::scripted_judge::{Act, Asked, Server};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// Returns a project with an arena of the models after `cpt`, after `sft` with two seeds, and before training. `judges`
/// is appended.
pub(crate) fn project(judges: &str) -> Project {
    let project = Project::new();
    let (head, _) = RECIPE.split_once("[stages.grpo]").unwrap();
    let runtime = RECIPE.find("[runtime]").unwrap();
    let (runtime, _) = RECIPE[runtime..].split_once("[sweep]").unwrap();
    let arena = format!(
        r#"
[stages.arena]
kind = "arena"
after = ["cpt", "sft"]
base = true
data = "mcq"
split = "all"
max_prompt_tokens = 200
max_new_tokens = 16
batch_size = 2
bootstrap_resamples = 200
{judges}
[sweep]
matrix = {{ "stages.sft.seed" = [1, 2] }}
"#
    );
    project.write("recipes/tiny.toml", &format!("{head}{arena}{runtime}"));
    project
}

const SIMILARITY: &str = "[stages.arena.judges.similarity]\nencoder = \"models/tiny-encoder\"\n";

fn result(project: &Project) -> Value {
    let text = fs_err::read_to_string(project.checkpoint("arena").join("arena.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn comparisons(project: &Project) -> Vec<Value> {
    json_lines(&fs_err::read_to_string(project.checkpoint("arena").join("comparisons.jsonl")).unwrap())
}

/// Returns the players of a rating, sorted.
fn players(ratings: &Value) -> Vec<&str> {
    let mut names: Vec<&str> =
        ratings["standings"].as_array().unwrap().iter().map(|standing| standing["player"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn an_arena_of_all_variants_needs_no_server_and_resumes_bitwise_when_it_is_killed() {
    let killed = project(SIMILARITY);
    // three batches of questions for each model, so the second and the third of four models are killed
    let resumed = killed_and_resumed(&killed, "arena", &[], &[2, 7]);
    let whole = project(SIMILARITY);
    assert!(resumed == uninterrupted_in(&whole, "arena", &[]), "killed and resumed, the arena ended with other bytes");

    let found = result(&whole);
    assert_eq!((&found["questions"], &found["comparisons"]), (&24.into(), &120.into()), "{found}");
    assert_eq!(found["sampling"], "greedy, at most 16 tokens");
    assert_eq!(players(&found["pooled"]), ["base", "cpt", "sft"]);
    let standings = found["pooled"]["standings"].as_array().unwrap();
    let elo: f64 = standings.iter().map(|standing| standing["elo"].as_f64().unwrap()).sum();
    assert!((elo - 4500.0).abs() < 1e-6, "ratings are centred at 1500");
    let sft = standings.iter().find(|standing| standing["player"] == "sft").unwrap();
    assert_eq!(
        (&sft["games"], sft["seeds"].as_array().unwrap().len()),
        (&96.into(), 2),
        "two seeds, two others, 24 questions"
    );
    let (low, high) = (sft["interval"][0].as_f64().unwrap(), sft["interval"][1].as_f64().unwrap());
    assert!(low < sft["elo"].as_f64().unwrap() && sft["elo"].as_f64().unwrap() < high);

    let lines = comparisons(&whole);
    assert_eq!(lines.len(), 120);
    assert!(lines.iter().all(|line| line["judge"] == "similarity" && line["missing"].is_null()));
    for line in lines.iter().filter(|line| line["status"] == "measured") {
        let [one, other] = [0, 1].map(|at| line["measures"][at].as_f64().unwrap());
        let expected = if (one - other).abs() < 0.01 { 0.5 } else { f64::from(u8::from(one > other)) };
        assert_eq!(line["win"], expected, "{line}");
    }
    assert!(lines.iter().any(|line| line["status"] == "measured"), "nothing was measured");

    let table = whole.succeed(&["arena", "latest"]);
    assert!(table.contains("120 of 120 pairs of answers compared by similarity"), "{table}");
    assert!(table.contains("share of games won") && table.contains("seed 2"), "{table}");
    assert!(whole.succeed(&["show", "latest"]).contains("24 questions (greedy"));
    let json: Value = serde_json::from_str(&whole.succeed(&["arena", "latest", "--json"])).unwrap();
    assert_eq!(json["pooled"], found["pooled"]);
    let samples = whole.succeed(&["samples", "latest", "arena", "--step", "..", "--limit", "0", "--json"]);
    let wrote: BTreeSet<String> = json_lines(&samples).iter().map(|line| line["player"].to_string()).collect();
    assert!(wrote.contains("\"sft seed 2\"") && wrote.contains("\"base\""), "{wrote:?}");

    let plan = whole.plan();
    let arenas: Vec<&Value> = plan.iter().filter(|line| line["stage"] == "arena").collect();
    assert_eq!((arenas.len(), &arenas[0]["status"]), (1, &"cached".into()));
    assert_eq!(arenas[0]["variant"].as_array().unwrap().len(), 2);
    let verified = whole.succeed(&["verify", "latest", "arena"]);
    assert!(verified.contains("same") && !verified.contains("DIFFERS"), "{verified}");
}

#[test]
fn an_arena_is_rated_slice_by_slice_from_the_same_comparisons() {
    let by = "eval_fraction = 0.25\nby = [\"subject\"]";
    let plain = project(SIMILARITY);
    let sliced = project(SIMILARITY);
    let recipe = fs_err::read_to_string(sliced.path("recipes/tiny.toml")).unwrap();
    assert_eq!(recipe.matches("eval_fraction = 0.25").count(), 1, "{recipe}");
    sliced.write("recipes/tiny.toml", &recipe.replace("eval_fraction = 0.25", by));
    let rows = json_lines(&fs_err::read_to_string(sliced.path("data/mcq.jsonl")).unwrap()).into_iter();
    let rows = rows.enumerate().map(|(row, mut object)| {
        object["subject"] = if row < 4 { "law" } else { "biology" }.into();
        object.to_string() + "\n"
    });
    let rows: String = rows.collect();
    sliced.write("data/mcq.jsonl", &rows);
    plain.write("data/mcq.jsonl", &rows);
    plain.succeed(&["run", "recipes/tiny.toml"]);
    sliced.succeed(&["run", "recipes/tiny.toml"]);

    let (whole, mut found) = (result(&plain), result(&sliced));
    let slices = found.as_object_mut().unwrap().remove("slices").unwrap();
    assert!(found == whole, "slices changed the ratings of the whole");
    assert_eq!(slices[0]["value"], "biology");
    assert_eq!((&slices[0]["questions"], &slices[0]["comparisons"]), (&20.into(), &100.into()));
    assert_eq!(players(&slices[0]["ratings"]), ["base", "cpt", "sft"]);
    assert!(slices[0]["ratings"]["standings"][0]["interval"][0].is_number());
    assert_eq!((&slices[1]["value"], &slices[1]["ratings"]), (&"law".into(), &Value::Null));
    let lines = comparisons(&sliced);
    assert_eq!(lines.iter().filter(|line| line["slices"]["subject"] == "law").count(), 20);
    assert!(comparisons(&plain).iter().all(|line| line.get("slices").is_none()));

    let table = sliced.succeed(&["arena", "latest"]);
    assert!(
        table.contains("ratings by subject") && table.contains("too few games in law: 4 of its questions"),
        "{table}"
    );
    let json: Value = serde_json::from_str(&sliced.succeed(&["arena", "latest", "--json"])).unwrap();
    assert_eq!(json["slices"], slices);
    let path = sliced.checkpoint("arena").join("metrics.json");
    let metrics: Value = serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap();
    assert!(metrics["arena/elo/sft{subject=biology}"]["interval"][0].is_number(), "{metrics}");
    assert!(metrics.get("arena/elo/sft{subject=law}").is_none());
    sliced.succeed(&["report", "latest"]);
    let page = fs_err::read_to_string(sliced.path("report.html")).unwrap();
    assert!(page.contains("Elo by subject") && page.contains("Too few games: 4 of its questions"));
}

#[test]
fn one_more_player_is_the_only_one_that_is_asked() {
    let project = project(SIMILARITY);
    project.succeed(&["run", "recipes/tiny.toml"]);
    let recipe = fs_err::read_to_string(project.path("recipes/tiny.toml")).unwrap();
    project.write("recipes/tiny.toml", &recipe.replace("[1, 2]", "[1, 2, 3]"));
    project.succeed(&["run", "recipes/tiny.toml"]);
    let result = project.checkpoint("arena");
    let events = json_lines(&fs_err::read_to_string(result.join("events.jsonl")).unwrap());
    let phases = events.iter().filter_map(|event| event["kind"]["phase"].as_str());
    let loaded: Vec<&str> = phases.filter(|phase| phase.starts_with("loading `")).collect();
    assert_eq!(loaded, ["loading `sft seed 3`"]);
    let metrics = events.iter().map(|event| &event["kind"]["step"]["metrics"]);
    let kept: Vec<f64> = metrics.filter_map(|metrics| metrics["arena/kept_answers"].as_f64()).collect();
    assert_eq!(kept, [8.0; 12], "24 answers each of four models");
    assert_eq!(events.iter().filter(|event| event["kind"]["completion"].is_object()).count(), 120, "all are told");
    // malformed files are sampled again
    for file in fs_err::read_dir(project.path("runs/arena-answers")).unwrap() {
        fs_err::write(file.unwrap().path(), "[{").unwrap();
    }
    let ratings = fs_err::read(result.join("arena.json")).unwrap();
    project.succeed(&["run", "recipes/tiny.toml", "--only", "arena", "--force"]);
    assert!(ratings == fs_err::read(result.join("arena.json")).unwrap(), "asked again, the models answered the same");
}

/// Returns two judges at `endpoint`, beside the encoder.
fn judges(endpoint: &str) -> String {
    let served = |name: &str| {
        format!(
            "[runtime.judges.{name}]\nendpoint = \"{endpoint}\"\nretries = 0\nprice_per_million_input_tokens_usd = 1000\n"
        )
    };
    format!(
        "{SIMILARITY}[stages.arena.judges.panel]\nkind = \"judge\"\njudges = [\"one\", \"two\"]\n\
         pair_prompt = \"{{{{ first|replace('|', '/') }}}}|{{{{ second|replace('|', '/') }}}}\"\n{}{}",
        served("one"),
        served("two")
    )
}

/// Returns the name of a judge that was called, and the two texts in the request.
fn texts(asked: &Asked) -> (String, String, String) {
    let message = asked.body["messages"][0]["content"].as_str().unwrap();
    let (first, second) = message.split_once('|').unwrap();
    (asked.body["model"].as_str().unwrap().to_owned(), first.to_owned(), second.to_owned())
}

#[test]
fn judges_on_a_server_read_both_orders_once_and_an_arena_killed_among_them_resumes_bitwise() {
    // for a batch of 32 comparisons, this is about a second of requests
    let slow = Server::start(vec![Act::Score(Duration::from_millis(30)); 5000]);
    let settings = ["stages.arena.pairs=adaptive", "stages.arena.max_comparisons=96", "stages.arena.batch_size=6"];
    let killed = project(&judges(&slow.endpoint()));
    // one batch of questions for each model, so the second batch of comparisons is killed
    let resumed = killed_and_resumed(&killed, "arena", &settings, &[5]);
    let fast = Server::start([]);
    let whole = project(&judges(&fast.endpoint()));
    assert!(resumed == uninterrupted_in(&whole, "arena", &settings), "killed and resumed, it ended with other bytes");

    let asked = fast.asked();
    let distinct: BTreeSet<(String, String, String)> = asked.iter().map(texts).collect();
    assert_eq!(distinct.len(), asked.len(), "nobody is asked the same twice");
    assert!(
        distinct
            .iter()
            .all(|(judge, first, second)| { distinct.contains(&(judge.clone(), second.clone(), first.clone())) }),
        "every pair is read in both orders"
    );
    let again = slow.asked().len();
    assert!(asked.len() <= again && again <= asked.len() + 8, "{again} requests instead of {}", asked.len());

    let found: Value = serde_json::from_str(&whole.succeed(&["arena", "latest", "--json"])).unwrap();
    assert_eq!((&found["comparisons"], &found["possible_comparisons"]), (&96.into(), &120.into()));
    let names: Vec<&str> =
        found["judges"].as_array().unwrap().iter().map(|judge| judge["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["one", "two", "similarity"]);
    let of_one = &found["judges"][0];
    assert_eq!(of_one["position"]["share"], 0.0, "the longer text wins wherever it stands");
    assert_eq!(of_one["verdicts"].as_u64().unwrap() + of_one["settled"].as_u64().unwrap(), 96);
    assert_eq!(found["judges"][1]["ratings"], of_one["ratings"], "two judges that say the same");
    assert_eq!(found["agreement"]["measure"], "fleiss_kappa");
    for line in comparisons_of(&whole).iter().filter(|line| line["status"] == "read") {
        assert_eq!(line["one_first"], line["other_first"], "{line}");
    }
    let table = whole.succeed(&["arena", "latest"]);
    assert!(table.contains("ratings by each judge") && table.contains("same place in both orders"), "{table}");
}

/// Returns all verdicts of the only committed arena.
fn comparisons_of(project: &Project) -> Vec<Value> {
    let dirs = fs_err::read_dir(project.path("runs/cache")).unwrap().flatten().map(|entry| entry.path());
    let file = dirs.map(|dir| dir.join("comparisons.jsonl")).find(|file| file.exists()).expect("there is an arena");
    json_lines(&fs_err::read_to_string(file).unwrap())
}

#[test]
fn an_arena_without_its_judges_is_no_result_and_verdicts_that_are_missing_are_reported() {
    let project = project(&judges("http://127.0.0.1:9/v1"));
    let args = ["run", "recipes/tiny.toml", "--only", "arena", "--set", "stages.arena.questions=4"];
    let stderr = project.fail(&args, 4);
    let flat = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("has no verdict on") && flat.contains("of the last 20 comparisons"), "{stderr}");
    assert!(flat.contains("connection refused") && flat.contains("max_missing_fraction"), "{stderr}");
    // then only the encoder decides, and a note reports that
    let table = project.succeed(&[&args[..], &["--set", "stages.arena.max_missing_fraction=1"]].concat());
    let flat = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        flat.contains("note: `one` has no verdict on") && flat.contains("which count in none of its games"),
        "{table}"
    );
}

#[test]
fn one_player_alone_is_refused() {
    let project = project(SIMILARITY);
    let args = ["run", "recipes/tiny.toml", "--variant", "seed=1", "--only", "arena"];
    let recipe = fs_err::read_to_string(project.path("recipes/tiny.toml")).unwrap();
    project.write(
        "recipes/tiny.toml",
        &recipe.replace("base = true", "base = false").replace("[\"cpt\", \"sft\"]", "\"sft\""),
    );
    let stderr = project.fail(&args, 4);
    assert!(stderr.contains("has 1 player"), "{stderr}");
}
