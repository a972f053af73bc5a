//! Bad input gives one clear error before or at the step it concerns, with the documented exit code, and leaves nothing
//! in the cache.

use crate::project::{Project, RECIPE, questions};

/// Runs the recipe, which must fail with `code`, and returns its stderr.
#[track_caller]
fn failure(project: &Project, code: i32) -> String {
    project.fail(&["run", "recipes/tiny.toml", "--only", "sft"], code)
}

#[track_caller]
fn assert_mentions(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "the message lacks `{word}`:\n{text}");
    }
}

fn committed(project: &Project) -> usize {
    fs_err::read_dir(project.path("runs/cache")).map_or(0, Iterator::count)
}

#[test]
fn an_unknown_key_stops_before_anything_runs() {
    let project = Project::new();
    project.edit_recipe("kl_coef = 0.01", "kl_coeff = 0.01");
    assert_mentions(&failure(&project, 3), &["kl_coeff", "kl_coef", "tiny.toml"]);
    assert_eq!(committed(&project), 0);
}

#[test]
fn a_missing_model_directory_stops_before_anything_runs() {
    let project = Project::new();
    project.edit_recipe("models/tiny\"", "models/absent\"");
    assert_mentions(&failure(&project, 3), &["models/absent", "tiny.toml"]);
}

#[test]
fn a_missing_weights_file_is_named() {
    let project = Project::new();
    fs_err::remove_file(project.path("models/tiny/model.safetensors")).unwrap();
    let message = project.orchestrate(&["run", "recipes/tiny.toml", "--only", "sft"]);
    let text = String::from_utf8_lossy(&message.stderr).into_owned();
    assert!(matches!(message.status.code(), Some(3 | 4)), "{text}");
    assert_mentions(&text, &["models/tiny", "safetensors"]);
    assert_eq!(committed(&project), 0);
}

#[test]
fn a_tokenizer_beyond_the_models_vocabulary_is_refused() {
    let project = Project::new();
    let path = project.path("models/tiny/tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_str(&fs_err::read_to_string(&path).unwrap()).unwrap();
    tokenizer["added_tokens"][2]["id"] = 4000.into();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    vocabulary.insert("<|endoftext|>".to_owned(), 4000.into());
    fs_err::write(&path, tokenizer.to_string()).unwrap();
    let text = failure(&project, 4);
    assert_mentions(&text, &["vocab", "320"]);
    assert_eq!(committed(&project), 0);
}

#[test]
fn an_empty_data_set_is_refused() {
    let project = Project::new();
    project.write("data/mcq.jsonl", "");
    let output = project.orchestrate(&["run", "recipes/tiny.toml", "--only", "sft"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(3 | 4)), "{text}");
    assert_mentions(&text, &["mcq.jsonl"]);
}

#[test]
fn a_row_without_a_needed_field_is_named_by_file_and_line() {
    let project = Project::new();
    let mut lines: Vec<String> = questions(24).lines().map(str::to_owned).collect();
    lines[4] = lines[4].replace("\"explanation\"", "\"explained\"");
    project.write("data/mcq.jsonl", &(lines.join("\n") + "\n"));
    // some stage reads the row, on whichever side of the split it is
    project.edit_recipe("eval_fraction = 0.25", "eval_fraction = 0.0");
    let all = "stages.eval.split=all";
    let text = project.fail(&["run", "recipes/tiny.toml", "--only", "sft", "--set", all], 3);
    assert_mentions(&text, &["mcq.jsonl:5", "explanation"]);
}

#[test]
fn a_prompt_longer_than_the_context_is_named_with_its_lengths() {
    let project = Project::new();
    project.edit_recipe("seq_len = 256", "seq_len = 40");
    assert_mentions(&failure(&project, 3), &["mcq.jsonl", "40", "seq_len"]);
}

#[test]
fn a_template_that_renders_no_trained_token_is_refused() {
    let project = Project::new();
    project.edit_recipe(
        "completion = \"<think>{{ explanation }}</think><answer>{{ answer }}</answer>\"",
        "completion = \"{{ explanation if false }}\"",
    );
    assert_mentions(&failure(&project, 3), &["completion", "mcq.jsonl"]);
}

#[test]
fn a_loss_that_is_not_finite_stops_at_its_step_and_commits_nothing() {
    let project = Project::new();
    project.edit_recipe(
        "seq_len = 64\nsteps = 3\nglobal_batch_size = 4\nmicro_batch_size = 2\nlr = 1e-2",
        "seq_len = 64\nsteps = 30\nglobal_batch_size = 4\nmicro_batch_size = 2\nlr = 1e38",
    );
    let text = failure(&project, 4);
    assert_mentions(&text, &["step", "lr"]);
    assert!(text.contains("NaN") || text.contains("inf"), "{text}");
    assert_eq!(committed(&project), 0);
}

#[test]
fn every_bad_recipe_here_starts_from_one_that_checks() {
    let project = Project::new();
    assert_eq!(fs_err::read_to_string(project.path("recipes/tiny.toml")).unwrap(), RECIPE);
    project.succeed(&["check", "recipes/tiny.toml"]);
}

#[test]
fn a_template_that_grows_a_text_over_and_over_is_stopped_before_the_memory_is_full() {
    let bomb = "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}";
    let project = Project::new();
    project.edit_recipe("completion = \"<think>", &format!("completion = \"{bomb}<think>"));
    assert_mentions(&failure(&project, 4), &["more than 1 GiB of memory", "hint: look for a loop", "chat template"]);
    let project = Project::new();
    let path = project.path("models/tiny/tokenizer_config.json");
    let mut settings: serde_json::Value = serde_json::from_str(&fs_err::read_to_string(&path).unwrap()).unwrap();
    settings["chat_template"] = format!("{{{{ '%3000000000d'|format(1) }}}}{bomb}").into();
    fs_err::write(&path, settings.to_string()).unwrap();
    assert_mentions(&failure(&project, 4), &["more than 1 GiB of memory"]);
    assert_eq!(committed(&project), 0);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_data() {
    let project = Project::new();
    let plain = project.plan();
    let rows = fs_err::read_to_string(project.path("data/mcq.jsonl")).unwrap();
    project.write("data/mcq.jsonl", &format!("\u{feff}{rows}"));
    assert_ne!(plain, project.plan(), "the file is another one");
    project.succeed(&["run", "recipes/tiny.toml", "--only", "sft"]);
}
