//! Conversations with their masks, documents and prompts, on the tiny project's byte-level tokenizer.

use crate::project::{Project, json_lines, tokenizer};
use orchestrate_core::digest::Digest;
use orchestrate_core::recipe::spec::{DataFile, DataFormat, DataSpec, Role, Selection, Split, Templates};
use orchestrate_engine::data::{self, Sequence};
use orchestrate_engine::error::StageResult;
use orchestrate_engine::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

fn lines(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().map(|row| row.to_string()).collect::<Vec<_>>().join("\n")
}

/// Returns a data set of one file, with the file's path.
fn data_set(project: &Project, rows: &[Value]) -> (DataSpec, BTreeMap<Digest, PathBuf>) {
    let text = lines(rows.iter().cloned());
    project.write("data/rows.jsonl", &text);
    let digest = Digest::of(text.as_bytes());
    let spec = DataSpec {
        files: vec![DataFile::File { digest: digest.clone(), format: DataFormat::Jsonl }],
        eval_fraction: 0.0,
        dev_fraction: 0.0,
        split: Split::All,
        max_rows: None,
        messages: Some("turns".to_owned()),
        decontaminate: None,
        templates: Templates::default(),
        selection: Selection::default(),
    };
    (spec, BTreeMap::from([(digest, project.path("data/rows.jsonl"))]))
}

fn turn(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

fn two_questions() -> Value {
    let said = ["Be brief.", "One?", "Eins.", "Two?", "Zwei."];
    let turns = ["system", "user", "assistant", "user", "assistant"].into_iter().zip(said);
    json!({ "turns": turns.map(|(role, content)| turn(role, content)).collect::<Vec<_>>() })
}

fn conversations(project: &Project, rows: &[Value], train_on: &[Role]) -> StageResult<Vec<Sequence>> {
    let (spec, inputs) = data_set(project, rows);
    let tokenizer = Tokenizer::load(&project.path("models/tiny")).unwrap();
    data::conversations(&spec, &inputs, &tokenizer, 1000, &train_on.iter().copied().collect())
}

/// Returns the text of `sequence`, with brackets around the tokens that carry loss.
fn marked(project: &Project, sequence: &Sequence) -> String {
    let tokenizer = Tokenizer::load(&project.path("models/tiny")).unwrap();
    let mut text = String::new();
    let mut start = 0;
    for run in sequence.trained().chunk_by(|a, b| a == b) {
        let part = tokenizer.decode_verbatim(&sequence.ids[start..start + run.len()]);
        if run[0] {
            text.extend(["[", &part, "]"]);
        } else {
            text.push_str(&part);
        }
        start += run.len();
    }
    text
}

fn set_template(project: &Project, template: &str, more: &Value) {
    let mut settings = json!({"chat_template": template, "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"});
    settings.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    project.write("models/tiny/tokenizer_config.json", &settings.to_string());
}

const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                      {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[test]
fn the_recipes_chat_template_takes_the_place_of_the_models_own_and_goes_with_what_was_trained() {
    let project = Project::new();
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}\
                    {% if add_generation_prompt %}assistant: {% endif %}";
    project.write("plain.jinja", template);
    let with = "model.chat_template=plain.jinja";
    let shown = project.succeed(&["check", "--show-data", "recipes/tiny.toml", "--set", with]);
    assert!(shown.contains("assistant: ") && !shown.contains("im_start"), "{shown}");
    project.succeed(&["run", "recipes/tiny.toml", "--only", "sft", "--set", with]);
    let plan = json_lines(&project.succeed(&["plan", "--json", "recipes/tiny.toml", "--set", with]));
    let sft = plan.iter().find(|line| line["stage"] == "sft").unwrap();
    let checkpoint = project.path("runs/cache").join(sft["key"].as_str().unwrap());
    assert_eq!(fs_err::read_to_string(checkpoint.join("chat_template.jinja")).unwrap(), template);
    let merge = ["--model", "models/tiny", "--adapter", checkpoint.to_str().unwrap(), "--output", "merged"];
    project.succeed(&[&["model", "merge"], &merge[..]].concat());
    assert_eq!(fs_err::read_to_string(project.path("merged/chat_template.jinja")).unwrap(), template);
    let broken = project.path("plain.jinja");
    fs_err::write(broken, "{% for %}").unwrap();
    let message = project.fail(&["check", "--show-data", "recipes/tiny.toml", "--set", with], 3);
    assert!(message.contains("`model.chat_template` does not compile"), "{message}");
}

#[test]
fn every_turn_of_the_assistant_carries_loss_with_its_end_and_nothing_else_does() {
    let project = Project::new();
    let sequences = conversations(&project, &[two_questions()], &[Role::Assistant]).unwrap();
    assert_eq!(
        marked(&project, &sequences[0]),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n\
         [Eins.<|im_end|>]\n<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n[Zwei.<|im_end|>]\n"
    );
    let tokenizer = Tokenizer::load(&project.path("models/tiny")).unwrap();
    let whole = tokenizer.render(two_questions()["turns"].as_array().unwrap(), false).unwrap();
    assert_eq!(sequences[0].ids, tokenizer.encode(&whole).unwrap(), "the text is encoded as a whole");
}

#[test]
fn other_roles_carry_loss_where_the_stage_says_so() {
    let project = Project::new();
    let user = conversations(&project, &[two_questions()], &[Role::User]).unwrap();
    assert_eq!(
        marked(&project, &user[0]),
        "<|im_start|>system\nBe brief.<|im_end|>\n[<|im_start|>user\nOne?<|im_end|>]\n<|im_start|>assistant\nEins.\
         <|im_end|>\n[<|im_start|>user\nTwo?<|im_end|>]\n<|im_start|>assistant\nZwei.<|im_end|>\n"
    );
    let all = [Role::System, Role::User, Role::Assistant];
    let both = conversations(&project, &[two_questions()], &all).unwrap();
    let untrained: Vec<i64> =
        both[0].ids.iter().zip(both[0].trained()).filter(|(_, trained)| !**trained).map(|(id, _)| *id).collect();
    let tokenizer = Tokenizer::load(&project.path("models/tiny")).unwrap();
    let headers = "<|im_start|>\n\n<|im_start|>assistant\n\n\n<|im_start|>assistant\n\n";
    assert_eq!(tokenizer.decode_verbatim(&untrained), headers, "the first token, handing over, and line breaks");
}

#[test]
fn the_end_of_a_turn_is_trained_though_it_is_the_padding_token_too() {
    let project = Project::new();
    set_template(&project, CHATML, &json!({}));
    let tokenizer = Tokenizer::load(&project.path("models/tiny")).unwrap();
    for sequence in conversations(&project, &[two_questions()], &[Role::Assistant]).unwrap() {
        let ends = sequence.targets().filter(|(_, target)| *target == tokenizer.end_of_turn()).count();
        assert_eq!(ends, 2, "{}", marked(&project, &sequence));
    }
}

#[test]
fn prompt_and_completion_train_the_completion_word_for_word() {
    let project = Project::new();
    let (mut spec, inputs) = data_set(&project, &[json!({"q": "One?", "a": "<think>so</think> Eins."})]);
    spec.messages = None;
    spec.templates.system = Some("Be brief.".to_owned());
    spec.templates.prompt = Some("{{ q }}".to_owned());
    spec.templates.completion = Some("{{ a }}".to_owned());
    let tokenizer = Tokenizer::load(&project.path("models/tiny")).unwrap();
    let read = |train_on: &[Role]| {
        let train_on: BTreeSet<Role> = train_on.iter().copied().collect();
        let sequences = data::conversations(&spec, &inputs, &tokenizer, 1000, &train_on).unwrap();
        marked(&project, &sequences[0])
    };
    let system = "<|im_start|>system\nBe brief.<|im_end|>\n";
    assert_eq!(
        read(&[Role::Assistant]),
        format!("{system}<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n[<think>so</think> Eins.<|im_end|>]")
    );
    assert_eq!(
        read(&[Role::User]),
        format!("{system}[<|im_start|>user\nOne?<|im_end|>]\n<|im_start|>assistant\n<think>so</think> Eins.<|im_end|>")
    );
}

#[test]
fn a_template_that_rewrites_earlier_turns_is_refused_with_a_way_out() {
    let project = Project::new();
    // like Qwen3's template, which keeps the reasoning of the last turn only
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n\
                    {{ m.content if loop.last else m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    set_template(&project, template, &json!({}));
    let thinking = |question: &str| [turn("user", question), turn("assistant", "<think>so</think>Yes.")];
    let turns = [thinking("One?"), thinking("Two?")].concat();
    let two = json!({ "turns": turns });
    let error = conversations(&project, &[two], &[Role::Assistant]).unwrap_err();
    assert!(error.message.contains("rows.jsonl:1: the chat template renders the first 2 of 4"), "{error}");
    assert!(error.hint.unwrap().contains("write one row for each of the assistant's turns"));
    let one = json!({"turns": thinking("One?")});
    let sequences = conversations(&project, &[one], &[Role::Assistant]).unwrap();
    assert!(marked(&project, &sequences[0]).ends_with("[<think>so</think>Yes.<|im_end|>]\n"));
}

#[test]
fn a_template_sees_all_of_a_message_and_tools_speak_where_it_lets_them() {
    let project = Project::new();
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}{{ ' ' ~ m.name if m.name }}\n{{ m.content }}\
                    <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    set_template(&project, template, &json!({}));
    let tool = json!({"role": "tool", "name": "clock", "content": "12:00"});
    let row = json!({"turns": [turn("user", "Time?"), tool, turn("assistant", "Noon.")]});
    let sequences = conversations(&project, &[row], &[Role::Assistant]).unwrap();
    assert!(marked(&project, &sequences[0]).contains("tool clock\n12:00<|im_end|>"));
}

#[test]
fn a_row_that_is_no_conversation_is_named() {
    let project = Project::new();
    let refused = |row: Value| {
        let error = conversations(&project, &[two_questions(), row], &[Role::Assistant]).unwrap_err();
        assert!(error.message.contains("rows.jsonl:2"), "{error}");
        format!("{} {}", error.message, error.hint.unwrap_or_default())
    };
    assert!(refused(json!({"messages": []})).contains("the row has the fields messages"));
    assert!(refused(json!({"turns": "hello"})).contains("no list in the field `turns`"));
    assert!(refused(json!({"turns": []})).contains("is empty"));
    assert!(refused(json!({"turns": [{"from": "human", "value": "hi"}]})).contains("`turns[0]` has no text in `role`"));
    assert!(refused(json!({"turns": [turn("user", "a"), turn("bot", "b")]})).contains("has the role `bot`"));
    assert!(refused(json!({"turns": [{"role": "user", "content": null}]})).contains("no text in `content`"));
}

#[test]
fn a_prompt_is_the_conversation_before_the_assistants_last_word() {
    let project = Project::new();
    let unanswered = json!({"turns": [turn("user", "One?"), turn("assistant", "Eins."), turn("user", "Two?")]});
    let alone = json!({"turns": [turn("assistant", "Hello.")]});
    let tokenizer = Tokenizer::load(&project.path("models/tiny")).unwrap();
    let (spec, inputs) = data_set(&project, &[two_questions(), unanswered.clone()]);
    let prompts = data::prompts(&spec, &inputs, &tokenizer, 1000).unwrap();
    for prompt in &prompts {
        let text = tokenizer.decode_verbatim(&prompt.prompt_ids);
        assert!(text.ends_with("Eins.<|im_end|>\n<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n"), "{text}");
        assert_eq!(prompt.prompt, "Two?");
    }
    let (spec, inputs) = data_set(&project, &[alone]);
    let error = data::prompts(&spec, &inputs, &tokenizer, 1000).unwrap_err();
    assert!(error.message.contains("no turn before the assistant's"), "{error}");
}

/// Installs a tokenizer that puts `<|endoftext|>` (258) before a plain text, as Llama 3's does with its BOS.
fn with_bos(project: &Project) {
    let special = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"];
    let processor = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [258], "tokens": ["<|endoftext|>"]}},
    });
    project.write("models/tiny/tokenizer.json", &tokenizer(&special, &processor).to_string());
}

#[test]
fn there_is_one_bos_at_most_whoever_writes_it() {
    let project = Project::new();
    with_bos(&project);
    for writes in ["{{ bos_token }}", "{{ bos_token }}{{ bos_token }}", "<|endoftext|>{{ bos_token }}"] {
        set_template(&project, &format!("{writes}{CHATML}"), &json!({"bos_token": "<|endoftext|>"}));
        let sequence = &conversations(&project, &[two_questions()], &[Role::Assistant]).unwrap()[0];
        assert_eq!(sequence.ids.iter().filter(|id| **id == 258).count(), 1, "the template writes {writes}");
        assert_eq!(sequence.ids[..2], [258, 256]);
        assert!(marked(&project, sequence).contains("assistant\n[Eins.<|im_end|>]"));
    }
    // without a BOS in the template there is no BOS
    set_template(&project, CHATML, &json!({"bos_token": "<|endoftext|>"}));
    let sequence = &conversations(&project, &[two_questions()], &[Role::Assistant]).unwrap()[0];
    assert_eq!(sequence.ids[0], 256);
}

#[test]
fn a_document_begins_as_the_tokenizer_begins_a_text_and_ends_with_eos() {
    let project = Project::new();
    let ids = |text: &str| -> Vec<i64> {
        let (mut spec, inputs) = data_set(&project, &[json!({ "text": text })]);
        spec.messages = None;
        let tokenizer = Tokenizer::load(&project.path("models/tiny")).unwrap();
        data::documents(&spec, &inputs, &tokenizer).unwrap().remove(0).ids
    };
    assert_eq!(ids("ab"), [97, 98, 257], "a tokenizer that puts nothing before a text");
    with_bos(&project);
    assert_eq!(ids("ab"), [258, 97, 98, 257]);
    assert_eq!(ids("<|endoftext|>ab<|im_end|>"), [258, 97, 98, 257], "what stands there already is not added");
}

#[test]
fn data_is_shown_with_its_mask_before_anything_is_trained() {
    let project = Project::new();
    let text = project.succeed(&["check", "--show-data", "recipes/tiny.toml"]);
    for word in ["trained", "EOS trained", "100.0%", "longest", "data/mcq.jsonl", "⟦<think>Number"] {
        assert!(text.contains(word), "`{word}` is missing:\n{text}");
    }
    assert!(text.contains("</answer><|im_end|>⟧"), "{text}");
    let lines = json_lines(&project.succeed(&["check", "--show-data", "--json", "recipes/tiny.toml"]));
    // the variants of grpo and eval read the same data, which is shown once
    let kinds: Vec<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["cpt", "sft", "grpo", "eval"]);
    let sft = &lines[1]["data"][0];
    assert_eq!(sft["eos_trained"], 1.0);
    assert_eq!(sft["duplicate_rows"], 0);
    assert!(sft["trained_tokens"].as_u64().unwrap() * 10 > sft["tokens"].as_u64().unwrap());
    assert!(sft["tokens_p50"].as_u64() <= sft["tokens_max"].as_u64());
    assert_eq!(lines[2]["data"][0]["trained_tokens"], Value::Null, "prompts are not trained on");
    assert!(!project.path("runs/log").exists(), "something ran");
}

#[test]
fn absurd_data_stops_the_check_and_the_stage() {
    let project = Project::new();
    project.edit_recipe(
        "prompt = \"{{ question }}\\n{% for k, v in options|items %}{{ k }}) {{ v }}\\n{% endfor %}\"",
        "prompt = \"What?\"",
    );
    let row = |i| json!({"question": i, "explanation": "because", "answer": "A", "options": {}});
    project.write("data/mcq.jsonl", &lines((0..40).map(row)));
    let text = project.fail(&["check", "--show-data", "recipes/tiny.toml"], 3);
    for word in ["`sft`", "rows repeat others", "mcq.jsonl", "hint:"] {
        assert!(text.contains(word), "`{word}` is missing:\n{text}");
    }
    let text = project.fail(&["run", "recipes/tiny.toml", "--only", "sft"], 3);
    assert!(text.contains("rows repeat others"), "{text}");
}

#[test]
fn a_chat_template_without_an_end_of_turn_is_refused() {
    let project = Project::new();
    let row = |i| {
        let turns = [turn("user", &format!("Question {i}?")), turn("assistant", "Yes.")];
        json!({"question": i, "explanation": "", "answer": "", "options": {}, "turns": turns})
    };
    project.write("data/mcq.jsonl", &lines((0..20).map(row)));
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}assistant: {% endif %}";
    set_template(&project, template, &json!({}));
    let chat = "data.chat={ path = \"data/mcq.jsonl\", messages = \"turns\" }";
    let args = ["check", "--show-data", "recipes/tiny.toml", "--set", chat, "--set", "stages.sft.data=chat"];
    let text = project.fail(&args, 3);
    assert!(text.contains("no row trains the token that ends a turn"), "{text}");
}

#[test]
fn a_mixture_of_conversations_and_questions_trains_packed() {
    let project = Project::new();
    let rows = (0..12).map(|i| {
        let turns = [turn("user", &format!("Question {i}?")), turn("assistant", &format!("Answer {i}."))];
        json!({ "turns": turns })
    });
    project.write("data/chat.jsonl", &lines(rows));
    let chat = "data.chat={ path = \"data/chat.jsonl\", messages = \"turns\" }";
    let mixture = "stages.sft.data={ chat = 0.25, mcq = 0.75 }";
    let set = ["--set", chat, "--set", mixture, "--set", "stages.sft.packing=true", "--set", "stages.sft.seq_len=512"];
    let shown = project.succeed(&[&["check", "--show-data", "--json", "recipes/tiny.toml"], &set[..]].concat());
    let sft = &json_lines(&shown)[1];
    let mut weights: Vec<f64> = sft["data"].as_array().unwrap().iter().map(|d| d["weight"].as_f64().unwrap()).collect();
    weights.sort_by(f64::total_cmp);
    assert_eq!(weights, [0.25, 0.75]);
    for report in sft["data"].as_array().unwrap() {
        assert!(report["packed_rows"].as_u64().unwrap() < report["rows"].as_u64().unwrap(), "{report}");
    }
    project.succeed(&[&["run", "recipes/tiny.toml", "--only", "sft"], &set[..]].concat());
}

#[test]
fn a_parquet_file_trains() {
    let project = Project::new();
    let from = crate::golden::path("parquet/zstd.parquet");
    fs_err::copy(from, project.path("data/rows.parquet")).unwrap();
    let chat = "data.chat={ path = \"data/*.parquet\", prompt = \"{{ question }}\", completion = \"{{ count }}\" }";
    let set = ["--set", chat, "--set", "stages.sft.data=chat"];
    let shown = project.succeed(&[&["check", "--show-data", "recipes/tiny.toml"], &set[..]].concat());
    assert!(shown.contains("rows.parquet:row"), "{shown}");
    project.succeed(&[&["run", "recipes/tiny.toml", "--only", "sft"], &set[..]].concat());
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn masks_equal_those_of_transformers() {
    let model = crate::golden::path("../../models/smollm2-135m-instruct");
    if !model.exists() {
        eprintln!("skipped: {} is missing; `./justw test` fetches it", model.display());
        assert!(std::env::var_os("CI").is_none(), "CI must have the real models");
        return;
    }
    let tokenizer = Tokenizer::load(&model).unwrap();
    let project = Project::new();
    for case in crate::golden::json("masks.json").as_array().unwrap() {
        let (spec, inputs) = data_set(&project, &[json!({"turns": case["messages"]})]);
        let train_on = BTreeSet::from([Role::Assistant]);
        let sequence = data::conversations(&spec, &inputs, &tokenizer, 1000, &train_on).unwrap().remove(0);
        assert_eq!(json!(sequence.ids), case["ids"]);
        let trained: Vec<u8> = sequence.trained().iter().map(|&trained| u8::from(trained)).collect();
        assert_eq!(json!(trained), case["trained"], "{}", case["messages"]);
    }
}

#[test]
fn rows_with_evaluation_questions_are_dropped_and_counted() {
    let project = Project::new();
    let question = "Which of the large organs below the diaphragm stores iron and vitamins?";
    let mut text = fs_err::read_to_string(project.path("data/text.txt")).unwrap();
    for i in 0..6 {
        write!(text, "\nNote {i}: {}, as was said.\n", question.to_lowercase()).unwrap();
    }
    project.write("data/text.txt", &text);
    let options = json!({"A": "heart", "B": "liver"});
    let row = json!({"question": question, "options": options, "answer": "B", "explanation": "It is the liver."});
    project.write("data/mcq.jsonl", &format!("{}{row}\n", crate::project::questions(24)));
    let settings = ["--set", "data.text.decontaminate=true", "--set", "stages.eval.split=all", "--variant", "semantic"];
    let with = |args: &[&str]| project.succeed(&[args, &settings].concat());
    let checked = json_lines(&with(&["check", "recipes/tiny.toml", "--json"]));
    let pairs = checked[0]["overlaps"].as_array().unwrap();
    let pair = pairs.iter().find(|pair| pair["trained"] == "text" && pair["evaluated"] == "mcq").unwrap();
    let dropped = pair["overlapping_rows"].as_u64().unwrap();
    assert!(dropped >= 2 && pair["dropped"] == true && pair["overlapping_questions"] == 1, "{pair}");
    let shown = json_lines(&with(&["check", "recipes/tiny.toml", "--show-data", "--json"]));
    let of = |stage: &str| shown.iter().find(|line| line["stage"] == stage).unwrap()["data"][0].clone();
    assert_eq!((&of("cpt")["decontaminated_rows"], of("sft").get("decontaminated_rows")), (&json!(dropped), None));
    assert!(of("cpt")["rows"].as_u64().unwrap() + dropped <= 36);
    with(&["run", "recipes/tiny.toml", "--only", "cpt"]);
    let plan = json_lines(&with(&["plan", "recipes/tiny.toml", "--json"]));
    let key = plan.iter().find(|line| line["stage"] == "cpt").unwrap()["key"].as_str().unwrap().to_owned();
    let events = fs_err::read_to_string(project.path("runs/cache").join(key).join("events.jsonl")).unwrap();
    assert!(events.contains(&format!("{dropped} dropped by `decontaminate`")), "{events}");
}
