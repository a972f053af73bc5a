//! Exit codes and messages of commands that need no worker.

use crate::env::{RECIPE, TestEnv};

#[test]
fn a_plan_names_every_stage_once_and_runs_nothing() {
    let env = TestEnv::new();
    let plan = env.run(&["plan", "small.toml", "--json"]).ends_with(0).json();
    let stages: Vec<&str> = plan.iter().map(|line| line["stage"].as_str().unwrap()).collect();
    assert_eq!(stages.len(), 3, "{plan:?}");
    for line in &plan {
        assert_eq!(line["status"], "pending");
        assert_eq!(line["key"].as_str().unwrap().len(), 64);
        assert_eq!(line["reasons"][0], "never run");
    }
    assert!(!env.path("runs/log").exists());
}

#[test]
fn the_tree_puts_children_below_their_parents_within_the_terminal() {
    let env = TestEnv::new();
    let tree = env.run(&["plan", "small.toml"]).ends_with(0).stdout;
    assert!(tree.contains("└─ tuned"), "{tree}");
    assert!(tree.contains("3 stages of 1 variant: 0 cached, 3 to run"), "{tree}");
    assert!(tree.lines().all(|line| line.chars().count() <= 100), "{tree}");
}

#[test]
fn variants_are_chosen_by_the_parts_of_their_names() {
    let env = TestEnv::new();
    let sweep = "[sweep]\nmatrix = { \"stages.tuned.lr\" = [1e-4, 2e-4], \"stages.tuned.seed\" = [1, 2] }\n";
    env.write("small.toml", &format!("{RECIPE}{sweep}"));
    let variants = |args: &[&str]| -> Vec<String> {
        let args = [&["plan", "small.toml", "--json", "--only", "tuned"], args].concat();
        let planned = env.run(&args).ends_with(0).json();
        let tuned = planned.iter().filter(|stage| stage["stage"] == "tuned");
        tuned.map(|stage| stage["variant"][0].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(variants(&[]).len(), 4);
    assert_eq!(variants(&["--variant", "lr=*2"]), ["small/lr=0.0002,seed=1", "small/lr=0.0002,seed=2"]);
    assert_eq!(variants(&["--variant", "small/seed=2,lr=1e-4"]), ["small/lr=0.0001,seed=2"]);
    assert_eq!(variants(&["--variant", "seed=1", "--variant", "lr=1e-4"]).len(), 3);
    env.run(&["plan", "small.toml", "--variant", "seed=3"]).ends_with(5).says(&["seed=3", "lr=0.0001,seed=1"]);
    env.run(&["plan", "small.toml", "--variant", "seed=1,"]).ends_with(2).says(&["empty", "rouge,seed=*"]);
    env.run(&["run", "small.toml", "--variant", "lr=1e-4,seed=1", "-q"]).ends_with(0);
    assert_eq!(env.run(&["show", "latest", "--json"]).json().len(), 3, "base, one tuned, other");
}

#[test]
fn a_resumed_run_keeps_to_its_variants() {
    let env = TestEnv::new();
    let sweep = "[sweep]\nmatrix = { \"stages.tuned.seed\" = [1, 2] }\n";
    env.write("small.toml", &format!("{RECIPE}{sweep}"));
    env.behave("tuned", "fail");
    env.run(&["run", "small.toml", "--variant", "seed=2", "-q"]).ends_with(4);
    env.behave("tuned", "commit");
    let resumed = env.run(&["resume", "--json"]).ends_with(0);
    assert_eq!(env.run(&["show", "latest", "--json"]).json().len(), 3, "{resumed:?}");
}

#[test]
fn an_unknown_key_is_an_error_of_the_recipe() {
    let env = TestEnv::new();
    env.write("small.toml", &crate::env::RECIPE.replace("steps = 4", "stepz = 4"));
    env.run(&["plan", "small.toml"]).ends_with(3).says(&["stepz", "small.toml", "did you mean"]);
    env.run(&["check", "small.toml"]).ends_with(3);
    env.run(&["run", "small.toml"]).ends_with(3);
    assert!(!env.path("runs/log").exists(), "something began");
}

#[test]
fn a_recipe_that_is_not_there_is_an_error_of_the_recipe() {
    TestEnv::new().run(&["plan", "nowhere.toml"]).ends_with(3).says(&["nowhere.toml"]);
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let env = TestEnv::new();
    env.run(&["plan"]).ends_with(2).says(&["RECIPE"]);
    env.run(&["fly"]).ends_with(2);
    env.run(&["-C", "nowhere", "history"]).ends_with(2).says(&["nowhere"]);
    env.run(&["run", "small.toml", "-j", "0"]).ends_with(2);
}

#[test]
fn what_does_not_exist_ends_with_5() {
    let env = TestEnv::new();
    env.run(&["plan", "small.toml", "--only", "grpo"]).ends_with(5).says(&["`base`", "`other`", "`tuned`"]);
    env.run(&["resume"]).ends_with(5);
    env.run(&["show", "latest"]).ends_with(5);
    env.run(&["metrics", "latest"]).ends_with(5);
}

#[test]
fn history_of_an_empty_project_is_empty() {
    let env = TestEnv::new();
    assert_eq!(env.run(&["history", "--json"]).ends_with(0).stdout, "");
    env.run(&["history"]).ends_with(0).says(&["nothing has been run here yet"]);
}

#[test]
fn another_directory_is_worked_in_on_request() {
    let env = TestEnv::new();
    env.write("sub/x", "");
    let plan = env.run(&["-C", "..", "plan", "small.toml"]);
    assert_eq!(plan.code, Some(3), "the recipe is not above the project");
    let plan = env.run(&["-C", ".", "check", "small.toml"]).ends_with(0);
    assert_eq!(plan.stdout, "small.toml: ok, 1 variant, 3 stages\n");
}

#[test]
fn help_of_every_command_has_an_example() {
    let env = TestEnv::new();
    let help = env.run(&["--help"]).ends_with(0).stdout;
    let listed = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    let commands: Vec<&str> = listed
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() >= 22 && commands.contains(&"explain"), "{commands:?}");
    for command in commands {
        let help = env.run(&[command, "--help"]).ends_with(0).stdout;
        assert!(help.contains(&format!("  orchestrate {command}")), "no example of `{command}`:\n{help}");
    }
}

#[test]
fn the_schema_is_json_and_completions_are_a_script() {
    let env = TestEnv::new();
    let schema = env.run(&["schema"]).ends_with(0).stdout;
    assert!(serde_json::from_str::<serde_json::Value>(&schema).unwrap()["properties"]["stages"].is_object());
    assert!(env.run(&["completions", "bash"]).ends_with(0).stdout.contains("_orchestrate"));
}

#[test]
fn every_command_has_a_manual_page_with_its_examples() {
    let env = TestEnv::new();
    env.run(&["man", "-o", "man/man1"]).ends_with(0);
    let page = fs_err::read_to_string(env.path("man/man1/orchestrate-run.1")).unwrap();
    assert!(page.contains("\\-\\-dry\\-run") && page.contains("orchestrate run recipes/demo.toml"), "{page}");
    assert!(env.path("man/man1/orchestrate-cache-ls.1").is_file(), "commands of commands have pages too");
    assert!(env.run(&["man"]).ends_with(0).stdout.contains(".TH orchestrate 1"));
}

#[test]
fn a_new_recipe_is_right_and_nothing_is_overwritten() {
    let env = TestEnv::new();
    let init = ["init", "recipes/first.toml", "--model", "models/tiny"];
    let written = env.run(&init).ends_with(0).stdout;
    assert!(written.contains("wrote recipes/first.toml") && written.contains("orchestrate run recipes/first.toml"));
    let checked = env.run(&["check", "recipes/first.toml"]).ends_with(0);
    assert_eq!(checked.stdout, "recipes/first.toml: ok, 1 variant, 3 stages\n");
    let recipe = fs_err::read_to_string(env.path("recipes/first.toml")).unwrap();
    assert!(recipe.starts_with("#:schema ../orchestrate.schema.json\n"), "{recipe}");
    // The commented-out parts are valid too.
    let uncommented = recipe.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest)
            if rest.starts_with(['[', 'b', 'm', 'n', 'u']) && (rest.starts_with('[') || rest.contains(" = ")) =>
        {
            rest
        }
        _ => line,
    });
    let uncommented: Vec<&str> = uncommented.filter(|line| !line.contains("semantic]")).collect();
    env.write("recipes/more.toml", &uncommented.join("\n"));
    assert_eq!(
        env.run(&["check", "recipes/more.toml"]).ends_with(0).stdout,
        "recipes/more.toml: ok, 6 variants, 13 stages\n"
    );

    env.run(&init).ends_with(2).says(&["recipes/first.toml", "nothing was written", "recipes/second.toml"]);
    assert_eq!(fs_err::read_to_string(env.path("recipes/first.toml")).unwrap(), recipe);
    env.run(&["init", "recipe.json"]).ends_with(2).says(&[".toml"]);
    // A project with one recipe takes more recipes.
    let second = env.run(&["init", "recipes/second.toml", "--model", "models/tiny"]).ends_with(0).stdout;
    assert_eq!(second.lines().next(), Some("wrote recipes/second.toml"), "the data and the schema are there");
    env.write("data/questions.jsonl", "{\"q\": \"mine\"}\n");
    env.run(&["init", "recipes/third.toml"]).ends_with(2).says(&["with other rows", "--data data/questions.jsonl"]);
    env.run(&["init", "recipes/third.toml", "--data", "data/questions.jsonl"])
        .ends_with(2)
        .says(&["no field of `data/questions.jsonl`", "its fields are `q`"]);
}

#[test]
fn a_new_recipe_reads_the_users_own_data() {
    let env = TestEnv::new();
    let rows: String = (0..40)
        .map(|n| format!("{{\"problem\": \"{n} + 1\", \"solution\": \"{}\"}}", n + 1))
        .collect::<Vec<_>>()
        .join("\n");
    env.write("data/sums.jsonl", &rows);
    env.run(&["init", "mine.toml", "--model", "models/tiny", "--data", "data/sums.jsonl"]).ends_with(0);
    let recipe = fs_err::read_to_string(env.path("mine.toml")).unwrap();
    assert!(recipe.contains("path = \"data/sums.jsonl\"") && recipe.contains("{{ problem }}"), "{recipe}");
    assert!(!recipe.contains("questions.jsonl") && !recipe.contains("{{ question }}"), "{recipe}");
    assert_eq!(env.run(&["check", "mine.toml"]).ends_with(0).stdout, "mine.toml: ok, 1 variant, 3 stages\n");
}

#[test]
fn keys_are_explained_by_table_by_name_and_as_a_manual_page() {
    let env = TestEnv::new();
    let tables = env.run(&["keys"]).ends_with(0).stdout;
    assert!(tables.contains("grpo") && tables.contains("[runtime.judges.NAME]"), "{tables}");
    let one = env.run(&["keys", "grpo.zero_std"]).ends_with(0).stdout;
    assert!(one.contains("\"keep\"") && one.contains("\"resample\"") && one.contains("default: \"keep\""), "{one}");
    assert_eq!(env.run(&["keys", "stages.grpo.zero_std"]).ends_with(0).stdout, one);
    assert!(
        env.run(&["keys", "kl_coef"]).ends_with(0).stdout.starts_with("kl_coef in [stages.NAME] with kind = \"grpo\"")
    );
    let keys = env.run(&["keys", "grpo", "--json"]).ends_with(0).json();
    assert!(keys.iter().any(|key| key["key"] == "group_size" && key["default"] == "8"), "{keys:?}");
    env.run(&["keys", "grpo.zero_sdt"])
        .ends_with(5)
        .says(&["a recipe has no `grpo.zero_sdt`", "did you mean `zero_std`?"]);
    let page = env.run(&["man", "--recipe"]).ends_with(0).stdout;
    assert!(page.starts_with(".TH orchestrate-recipe 5") && page.contains("\\fBzero_std\\fR"), "{page}");
}

#[test]
fn keys_of_other_trainers_are_answered_with_the_name_here() {
    let env = TestEnv::new();
    let recipe = RECIPE.replace(
        "steps = 3",
        "max_steps = 3\nlearning_rate = 1e-4\nper_device_train_batch_size = 2\nlrr = 1.0\nlrx = 1.0",
    );
    env.write("small.toml", &recipe);
    let ended = env.run(&["check", "small.toml"]).ends_with(3);
    let told = ended.stderr.clone();
    ended.says(&[
        "`max_steps` of TRL and Axolotl is `steps` here",
        "`learning_rate` of TRL and Axolotl is `lr` here",
        "`per_device_train_batch_size` of TRL is `micro_batch_size` here",
    ]);
    assert_eq!(told.matches("known keys: ").count(), 2, "listed once for cpt and once for sft:\n{told}");
}

#[test]
fn stages_of_some_variants_are_shown() {
    let env = TestEnv::new();
    let sweep = "[sweep]\n[[sweep.variants]]\nname = \"fast\"\nset = { \"stages.tuned.lr\" = 3e-4 }\n";
    env.write("small.toml", &format!("{RECIPE}{sweep}"));
    env.run(&["run", "small.toml", "-q"]).ends_with(0);
    let all = env.run(&["metrics", "latest", "tuned", "--json"]).ends_with(0).json();
    let fast = env.run(&["metrics", "latest", "tuned", "--variant", "fast", "--json"]).ends_with(0).json();
    assert!(!fast.is_empty() && fast.len() < all.len(), "{} of {}", fast.len(), all.len());
    for command in ["metrics", "logs", "samples"] {
        env.run(&[command, "latest", "--variant", "fats"])
            .ends_with(5)
            .says(&["no variant matches `fats`", "did you mean `fast`?"]);
    }
    env.run(&["logs", "latest", "tunde"]).ends_with(5).says(&["no stage `tunde`", "did you mean `tuned`?"]);
}

#[test]
fn a_recipe_that_changed_is_reported_when_its_run_is_resumed() {
    let env = TestEnv::new();
    env.behave("tuned", "fail");
    env.run(&["run", "small.toml", "-q"]).ends_with(4).says(&["use `orchestrate run`"]);
    env.behave("tuned", "commit");
    let changed = fs_err::read_to_string(env.path("small.toml")).unwrap() + "\n# mended\n";
    env.write("small.toml", &changed);
    env.run(&["resume"])
        .ends_with(0)
        .says(&["`small.toml` has changed since", "`orchestrate run` runs it as it is now"]);
}

#[test]
fn rewards_are_listed_and_explained() {
    let env = TestEnv::new();
    let list = env.run(&["rewards"]).ends_with(0).stdout;
    for (name, summary) in
        [("rouge", "Overlap of words with the row's reference"), ("http", "The value that your own HTTP service")]
    {
        assert!(list.lines().any(|line| line.starts_with(name) && line.contains(summary)), "{list}");
    }
    let page = env.run(&["rewards", "cot"]).ends_with(0).stdout;
    for words in ["# cot", "| `max_tokens` | none |", "# Keys of every component", "| `on_error` |", "Missing: "] {
        assert!(page.contains(words), "`{words}` is not in:\n{page}");
    }
    let all = env.run(&["rewards", "--json"]).ends_with(0).json();
    let listed = |page: &serde_json::Value| list.lines().any(|line| line.starts_with(page["reward"].as_str().unwrap()));
    assert!(all.len() >= 13 && all.iter().all(listed), "{list}");
    let repetition = all.iter().find(|page| page["reward"] == "repetition").unwrap();
    let ngram = repetition["keys"].as_array().unwrap().iter().find(|key| key["key"] == "ngram").unwrap();
    assert_eq!(ngram["default"], "3");
    env.run(&["rewards", "rogue"]).ends_with(2).says(&["rogue", "rouge"]);
}

#[test]
fn doctor_asks_the_worker() {
    let env = TestEnv::new();
    let found = env.run(&["doctor", "--json"]).ends_with(0).json();
    let worker = found.iter().find(|line| line["what"] == "worker").unwrap();
    assert!(worker["found"].as_str().unwrap().contains("libtorch none"), "{worker}");
    env.run_with(&["doctor"], "ORCHESTRATE_WORKER", "/nowhere").ends_with(1).says(&["worker"]);
}

/// Answers two requests with `body`. Returns the server's address.
fn server_of(body: &'static str) -> String {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming().take(2) {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 4096]).unwrap();
            let length = body.len();
            write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
                .unwrap();
        }
    });
    address
}

#[test]
fn doctor_reaches_the_servers_that_recipes_name() {
    let env = TestEnv::new();
    let here = server_of(r#"{"data": [{"id": "one"}]}"#);
    let servers = |names: [&str; 2]| {
        let judge = |name: &str| format!("[runtime.judges.{name}]\nendpoint = \"{here}/v1\"\n");
        names.map(judge).concat()
    };
    env.write(
        "small.toml",
        &format!("{RECIPE}{}[runtime.endpoints.units]\nurl = \"http://127.0.0.1:9/\"\n", servers(["one", "two"])),
    );
    let ended = env.run(&["doctor", "small.toml", "--json"]).ends_with(1);
    let ok = |what: &str| ended.json().iter().find(|line| line["what"] == what).unwrap()["ok"].as_bool();
    assert_eq!((ok("judge one"), ok("judge two"), ok("endpoint units")), (Some(true), Some(false), Some(false)));
    assert!(ended.stdout.contains("serves no model of this name, but `one`"), "{}", ended.stdout);
    ended.says(&["problems found: endpoint units, judge two", "[runtime]"]);
}

#[test]
fn doctor_looks_into_the_history() {
    let env = TestEnv::new();
    let history = |env: &TestEnv, code: i32| {
        let found = env.run(&["doctor", "--json"]).ends_with(code).json();
        found.iter().find(|line| line["what"] == "history").unwrap()["found"].as_str().unwrap().to_owned()
    };
    assert_eq!(history(&env, 0), "none yet");
    env.run(&["run", "small.toml"]).ends_with(0);
    assert_eq!(history(&env, 0), "runs/history.db: sound, up to date");
    let _ = fs_err::remove_file(env.path("runs/history.db-wal")); // it may hold all pages
    env.write("runs/history.db", "not a database, whatever its name says");
    assert!(history(&env, 1).contains("not a database"), "{}", history(&env, 1));
}

#[test]
fn data_that_a_stage_would_refuse_is_found_before_anything_runs() {
    let env = TestEnv::new();
    let failure = r#"{"class":"input","message":"data/rows.jsonl:1: the row has no field `question`","hint":"its fields are `q` and `a`"}"#;
    env.write("inspection", &format!(r#"{{"stage":"base","kind":"sft","data":[],"failure":{failure}}}"#));
    for command in ["check", "run"] {
        let ended = env.run(&[command, "small.toml"]).ends_with(3);
        ended.says(&[
            "stages would refuse to start: `base`",
            "the row has no field `question`",
            "its fields are `q` and `a`",
        ]);
    }
    env.run(&["history"]).ends_with(0).says(&["nothing has been run here yet"]);
}
