//! No key of a recipe is ignored: a change of each key of the schema, in a full recipe, changes the plan or the
//! runtime settings.

mod golden_keys;
mod project;

use orchestrate::plan::Plan;
use orchestrate::recipe::{LoadedRecipe, Overrides, ProgramRun, RecipeError, schema};
use project::Project;
use std::collections::BTreeSet;

/// The place of each type's table in the full recipe.
const PLACES: &[(&str, &str)] = &[
    ("ModelTable", "model"),
    ("LoraTable", "model.lora"),
    ("CompareSettings", "compare"),
    ("ModelOverride", "stages.cpt.model"),
    ("DataTable", "data.mcq"),
    ("CptTable", "stages.cpt"),
    ("SftTable", "stages.sft"),
    ("GrpoTable", "stages.grpo"),
    ("EvalTable", "stages.eval"),
    ("GenerateTable", "stages.generate"),
    ("JoinTable", "data.guided.join"),
    ("CommandStageTable", "stages.harness"),
    ("ArenaTable", "stages.arena"),
    ("SimilarityTable", "stages.arena.judges.similarity"),
    ("PairJudgesTable", "stages.arena.judges.panel"),
    ("SemanticTable", "stages.grpo.rewards.semantic"),
    ("RougeTable", "stages.grpo.rewards.rouge"),
    ("CorrectnessTable", "stages.grpo.rewards.right"),
    ("FormatTable", "stages.grpo.rewards.format"),
    ("CotTable", "stages.grpo.rewards.cot"),
    ("JudgeTable", "stages.grpo.rewards.judge"),
    ("CommandTable", "stages.grpo.rewards.command"),
    ("LengthTable", "stages.grpo.rewards.length"),
    ("EntropyTable", "stages.grpo.rewards.entropy"),
    ("ClassifierTable", "stages.grpo.rewards.classifier"),
    ("CreditTable", "stages.grpo_owen.credit"),
    ("OfReference", "stages.grpo.rewards.relative.of_reference"),
    ("EditTable", "stages.grpo.rewards.edit"),
    ("RepetitionTable", "stages.grpo.rewards.repetition"),
    ("HttpTable", "stages.grpo.rewards.http"),
    ("RandomTable", "stages.grpo.rewards.random"),
    ("HttpEndpoint", "runtime.endpoints.units"),
    ("JudgeServer", "runtime.judges.one"),
    ("RuntimeTable", "runtime"),
    ("Retries", "runtime.retries"),
    ("SweepTable", "sweep"),
];

/// Returns another value for a key, where the key's name alone does not determine one.
fn special(table: &str, key: &str) -> Option<&'static str> {
    Some(match (table, key) {
        ("CptTable", "snapshots") => "stages.cpt.snapshots=[5]",
        ("SftTable", "snapshots") => "stages.sft.snapshots=[5]",
        ("GrpoTable", "snapshots") => "stages.grpo.snapshots={ every = 4 }",
        ("GrpoTable", "credit") => "stages.grpo_plain.credit={ kind = \"owen\", of = \"cot\" }",
        ("CreditTable", "kind") => "stages.grpo_soft.credit={ kind = \"uniform\" }",
        ("CreditTable", "beta") => "stages.grpo_soft.credit.beta=0.5",
        ("CreditTable", "of") => "stages.grpo_owen.credit.of=cot",
        ("CreditTable", "segments") => "stages.grpo_owen.credit.segments=clauses",
        ("CreditTable", "coalitions") => "stages.grpo_owen.credit.coalitions=owen",
        ("CreditTable", "sign") => "stages.grpo_owen.credit.sign=signed",
        ("CreditTable", "max_coalitions") => "stages.grpo_owen.credit.max_coalitions=8",
        ("CreditTable", "floor") => "stages.grpo_owen.credit.floor=0.5",
        ("EvalTable", "at") => "stages.eval.at=[4]",
        ("EvalTable", "best_by") => "stages.eval_best.best_by=accuracy",
        ("DataTable", "dev_fraction") => "data.far.dev_fraction=0.25",
        ("DataTable", "where") => "data.answers.where=reward > 0.6",
        ("DataTable", "keep") => "data.answers.keep=first 2 per question",
        ("DataTable", "join") => "data.guided.join={ from = \"stage:ask\", field = \"theirs\" }",
        ("JoinTable", "from") => "data.guided.join.from=stage:ask",
        ("JoinTable", "field") => "data.guided.join.field=ours",
        ("JoinTable", "column") => "data.guided.join.column=prompt",
        ("GenerateTable", "kind") => "stages.generate.kind=eval",
        ("GenerateTable", "after") => "stages.generate.after=cpt",
        ("GenerateTable", "judge") => "stages.ask.judge=owner/two",
        ("GenerateTable", "samples_per_question") => "stages.generate.samples_per_question=8",
        ("GenerateTable", "rewards") => "stages.generate.rewards.cot={}",
        ("DataTable", "options") => "data.far.options=choices.text",
        ("DataTable", "option") => "data.far.option={{ option.text }}",
        ("DataTable", "by") => "data.far.by=[\"subject\", \"level >= 3\"]",
        ("EvalTable", "samples_per_question") => "stages.eval.samples_per_question=8",
        ("GrpoTable", "kl_every") => "stages.grpo.kl_every=7",
        ("EvalTable", "probes") => "stages.eval.probes=false",
        ("EvalTable", "maj_at") => "stages.eval.maj_at=[1, 3]",
        ("EvalTable", "pass_at") => "stages.eval.pass_at=[1, 2]",
        ("DataTable", "out_of_domain") => "data.far.out_of_domain=true",
        ("DataTable", "messages") => "data.chat.messages=turns",
        ("CptTable", "epochs") => "stages.cpt_epochs.epochs=3.0",
        ("SftTable", "epochs") => "stages.sft_epochs.epochs=3.0",
        ("CptTable", "optimizer") => "stages.cpt_epochs.optimizer=muon",
        ("SftTable", "optimizer") => "stages.sft_epochs.optimizer=muon",
        ("GrpoTable", "optimizer") => "stages.grpo_plain.optimizer=muon",
        ("CptTable", "schedule") => "stages.cpt_epochs.schedule=linear",
        ("SftTable", "schedule") => "stages.sft_epochs.schedule=linear",
        ("GrpoTable", "schedule") => "stages.grpo_plain.schedule=linear",
        ("CptTable", "kind") => "stages.cpt.kind=sft",
        ("SftTable", "kind") => "stages.sft.kind=cpt",
        ("GrpoTable", "kind") => "stages.grpo.kind=eval",
        ("EvalTable", "kind") => "stages.eval.kind=grpo",
        ("SemanticTable", "kind") => "stages.grpo.rewards.semantic.kind=rouge",
        ("RougeTable", "kind") => "stages.grpo.rewards.rouge.kind=cot",
        ("CorrectnessTable", "requires") => "stages.grpo.rewards.right.requires=[\"format\"]",
        ("CorrectnessTable", "kind") => "stages.grpo.rewards.right.kind=cot",
        ("CorrectnessTable", "match") => "stages.eval.rewards.correctness.match=set",
        ("FormatTable", "pattern") => "stages.grpo_plain.rewards.pattern.pattern='[A-E]'",
        ("FormatTable", "json_schema") => "stages.grpo_plain.rewards.json.json_schema.required=[\"letter\"]",
        ("FormatTable", "kind") => "stages.grpo.rewards.format.kind=cot",
        ("JudgeTable", "kind") => "stages.grpo.rewards.judge.kind=cot",
        ("CommandTable", "kind") => "stages.grpo.rewards.command.kind=cot",
        ("CommandTable", "command") => {
            "stages.grpo.rewards.command.command=[\"python3\", \"-O\", \"rewards/units.py\"]"
        }
        ("CommandTable", "files") => "stages.grpo.rewards.command.files=[\"rewards/*.py\"]",
        ("LengthTable", "kind") => "stages.grpo.rewards.length.kind=correctness",
        ("LengthTable", "of_reference") => "stages.grpo.rewards.relative.of_reference={ min = 0.75 }",
        ("OfReference", "min") => "stages.grpo.rewards.relative.of_reference.min=0.75",
        ("OfReference", "max") => "stages.grpo.rewards.relative.of_reference.max=1.5",
        ("EntropyTable", "kind") => "stages.grpo.rewards.entropy.kind=correctness",
        // its tokens are those of the whole completion
        ("EntropyTable", "scope") => {
            "stages.grpo.rewards.whole={ kind = \"entropy\", scope = \"completion\", target = 2 }"
        }
        ("ClassifierTable", "kind") => "stages.grpo.rewards.classifier.kind=correctness",
        ("ClassifierTable", "model") => "stages.grpo.rewards.classifier.model=models/other_classifier",
        ("ClassifierTable", "label") => "stages.grpo.rewards.classifier.label=0",
        ("ClassifierTable", "input") => "stages.grpo.rewards.classifier.input=text",
        ("EditTable", "kind") => "stages.grpo.rewards.edit.kind=correctness",
        ("RepetitionTable", "kind") => "stages.grpo.rewards.repetition.kind=correctness",
        ("RandomTable", "kind") => "stages.grpo.rewards.random.kind=correctness",
        ("RandomTable", "distribution") => {
            "stages.grpo_plain.rewards.noise={ kind = \"random\", distribution = \"bernoulli\", probability = 0.5 }"
        }
        ("CommandTable", "send") => "stages.grpo.rewards.command.send=[\"step\"]",
        ("HttpTable", "send") => "stages.grpo.rewards.http.send=[\"row\"]",
        ("HttpTable", "kind") => "stages.grpo.rewards.http.kind=cot",
        ("HttpTable", "endpoint") => "stages.grpo.rewards.http.endpoint=spelling",
        ("RuntimeTable", "endpoints") => "runtime.endpoints.third.url=http://127.0.0.1:1/",
        ("RuntimeTable", "timeout_s") => "runtime.timeout_s.eval=60",
        ("RuntimeTable", "retries") => "runtime.retries={ oom = 9 }",
        ("JudgeTable", "judges") => "stages.grpo.rewards.judge.judges=[\"one\"]",
        ("JudgeTable", "mode") => "stages.grpo.rewards.beats_reference.mode=pair_within_group",
        ("JudgeTable", "pair_prompt") => "stages.grpo.rewards.preference.pair_prompt={{ first }} {{ second }}",
        ("JudgeTable", "opponents") => "stages.grpo.rewards.preference.opponents=2",
        ("JudgeTable", "prompt") => "stages.grpo.rewards.judge.prompt={{ completion }}",
        ("RuntimeTable", "judges") => "runtime.judges.three.endpoint=http://127.0.0.1:1/v1",
        ("CotTable", "kind") => "stages.grpo.rewards.cot.kind=correctness",
        // `cpt` has no parent, so its model may differ; the others inherit it from their parents.
        ("SftTable" | "GrpoTable" | "EvalTable" | "GenerateTable", "model") => "stages.sft_epochs.model.dtype=bfloat16",
        ("CptTable", "model") => "stages.cpt.model.dtype=bfloat16",
        ("CptTable", "after") => "stages.cpt.after=cpt_epochs",
        ("SftTable", "after") => "stages.sft.after=cpt",
        ("GrpoTable", "after") => "stages.grpo.after=cpt",
        ("EvalTable", "after") => "stages.eval.after=cpt",
        ("CommandStageTable", "kind") => "stages.harness.kind=eval",
        ("CommandStageTable", "after") => "stages.harness.after=[\"sft\", \"eval\"]",
        ("CommandStageTable", "command") => "stages.harness.command=[\"echo\", \"{{ seed }}\"]",
        ("CommandStageTable", "files") => "stages.harness.files=[\"rewards/*.py\"]",
        ("CommandStageTable", "outputs") => "stages.harness.outputs=[\"scores.jsonl\", \"samples\"]",
        ("CommandStageTable", "parameters") => "stages.harness.parameters.size=4",
        ("CommandStageTable", "working_directory") => "stages.harness.working_directory=data",
        ("CommandStageTable", "resume") => "stages.harness.resume=true",
        ("ArenaTable", "kind") => "stages.arena.kind=eval",
        ("ArenaTable", "after") => "stages.arena.after=[\"sft\"]",
        ("ArenaTable", "pairs") => "stages.arena_full={ pairs = \"adaptive\", max_comparisons = 5 }",
        ("ArenaTable", "judges") => "stages.arena.judges.third={ kind = \"similarity\", encoder = \"models/other\" }",
        ("SimilarityTable", "kind") => "stages.arena.judges.similarity.kind=judge",
        ("PairJudgesTable", "kind") => "stages.arena.judges.panel.kind=similarity",
        ("PairJudgesTable", "judges") => "stages.arena.judges.panel.judges=[\"one\"]",
        ("PairJudgesTable", "pair_prompt") => "stages.arena.judges.panel.pair_prompt={{ first }} {{ second }}",
        ("ModelOverride", "chat_template") => "stages.cpt.model.chat_template=rewards/rate.sh",
        ("ModelOverride", "lora") => "stages.cpt.model.lora.rank=9",
        ("ModelTable", "lora") => "model.lora.rank=9",
        ("RougeTable", "stemming") => "stages.grpo.rewards.rouge.stemming=false",
        ("RougeTable", "tokenizer") => "stages.eval.rewards.rouge={ tokenizer = \"rouge-score\" }",
        ("RougeTable", "variant") => "stages.grpo.rewards.rouge.variant=\"2\"",
        ("GrpoTable", "sampler") => "stages.grpo_plain.sampler=pools",
        ("GrpoTable", "easy_share") => "stages.grpo_pools.easy_share=0.3",
        ("GrpoTable", "hard_share") => "stages.grpo_pools.hard_share=0.3",
        ("GrpoTable", "easy_threshold") => "stages.grpo_pools.easy_threshold=0.7",
        ("GrpoTable", "hard_threshold") => "stages.grpo_pools.hard_threshold=0.3",
        ("GrpoTable", "pass_rate_decay") => "stages.grpo_pools.pass_rate_decay=0.75",
        ("GrpoTable", "pass_rate_of") => "stages.grpo_pools.pass_rate_of=pattern",
        ("GrpoTable", "zero_std") => "stages.grpo_plain.zero_std=drop",
        ("GrpoTable", "component_std") => "stages.grpo_gdpo.component_std=rank",
        ("GrpoTable", "total") => "stages.grpo_plain.total=min",
        ("GrpoTable", "floor") => "stages.grpo_floor.floor=[\"json\"]",
        ("GrpoTable", "reward_aggregation") => "stages.grpo_plain.reward_aggregation=normalize_then_sum",
        ("GrpoTable", "rewards") => "stages.grpo.rewards.another={ kind = \"cot\" }",
        ("EvalTable", "rewards") => "stages.eval.rewards.cot={}",
        ("EvalTable", "more_rewards") => "stages.eval.more_rewards.rouge@l={}",
        ("EvalTable", "text") => "stages.eval.text=other",
        ("ModelTable", "chat_template") => "model.chat_template=rewards/rate.sh",
        ("SweepTable", "matrix") => "sweep.matrix.seed=[1, 3]",
        ("SweepTable", "zip") => {
            "sweep.zip={ \"stages.sft_epochs.lr\" = [1e-5, 2e-5], \"stages.sft_epochs.seq_len\" = [64, 128] }"
        }
        ("SweepTable", "include") => "sweep.include=[\"small\"]",
        ("SweepTable", "exclude") => "sweep.exclude=[\"small\"]",
        ("SweepTable", "variants") => "sweep.variants=[{ name = \"small\", set = { \"stages.grpo.group_size\" = 2 } }]",
        ("CompareSettings", "baseline") => "compare.baseline=rouge",
        ("CompareSettings", "metric") => "compare.metric=semantic",
        ("CompareSettings", "score") => "compare.score.semantic=2.0",
        ("CompareSettings", "higher") => "compare.higher=[\"pass_rate\"]",
        ("CompareSettings", "lower") => "compare.lower=[\"latency_ms\"]",
        ("FormatTable", "answers") => "stages.grpo.rewards.format.answers=[\"A\", \"E\"]",
        _ => return None,
    })
}

/// Returns another value for a key, by its name.
fn other_value(key: &str) -> &'static str {
    match key {
        "path" | "encoder" => "models/other",
        "dtype" => "bfloat16",
        "rank" | "seed" | "series" | "threads" | "keep_resume_points" | "jobs" => "5",
        "alpha" | "resume_interval_s" | "weight" | "prior_sd" => "31.5",
        "max_overlap" | "dropout" | "baseline" | "eval_fraction" | "weight_decay" | "top_p" | "kl_coef"
        | "entropy_coef" | "clip_low" | "clip_high" | "overlong_penalty" | "tie_margin" => "0.55",
        "decontaminate" | "rslora" | "shuffle_references" | "packing" | "cache" | "cuda_graphs" => "true",
        "train_on" => "[\"assistant\"]",
        "mask_truncated" | "base" | "pool_seeds" | "deterministic" | "lowercase" | "remove_punctuation" => "false",
        "compare_with" => "prompt",
        "target_modules" => "[\"o_proj\"]",
        "max_rows"
        | "top_k"
        | "rollout_batch_size"
        | "bootstrap_resamples"
        | "questions"
        | "max_comparisons"
        | "max_prompt_tokens"
        | "max_new_tokens"
        | "seq_len" => "77",
        "system" | "prompt" | "completion" | "reference" | "answer" | "text" => "{{ something }}",
        "data" => "other",
        "steps" => "11",
        "global_batch_size" | "micro_batch_size" | "prompts_per_step" | "updates_per_rollout" | "batch_size" => "16",
        "ngram"
        | "tolerance_words"
        | "group_size"
        | "min_words"
        | "max_words"
        | "min_tokens"
        | "window_sentences"
        | "decay_steps"
        | "max_resampled_prompts"
        | "overlong_buffer_tokens" => "6",
        "temperature" | "min_p" => "0.7",
        "repetition_penalty" => "1.3",
        "min_new_tokens" | "mini_batches" => "1",
        "stop_strings" => "[\"!\"]",
        "loss_type" => "dr_grpo",
        "advantage_baseline" => "leave_one_out",
        "scale_rewards" => "none",
        "lr" | "eps" => "3e-5",
        "momentum" | "tolerance" | "probability" => "0.8",
        "references" => "mean",
        "grading" => "binary",
        "target" => "0.3",
        "side" => "both",
        "activation" => "softmax",
        "level" => "word",
        "leak" => "inside",
        "clip" => "[-1.0, 1.0]",
        "scale" | "exponent" => "1.5",
        "requires" => "[\"right\"]",
        "pattern" => "'=(.*)'",
        "adjust_lr" => "match_rms_adamw",
        "parent_adapter" => "merge",
        "gradient_checkpointing" => "on",
        "bfloat16_products" => "native",
        "warmup_steps" | "min_score" | "concurrency" | "retries" => "3",
        "max_grad_norm" => "0.5",
        "betas" => "[0.7, 0.8]",
        "split" | "text_split" => "all",
        "scope" => "answer",
        "measure" => "f1",
        "tokenizer" => "unicode",
        "tags" => "[\"think\"]",
        "device" => "cuda:1",
        "aggregate" => "min",
        "max_score" | "max_tokens" | "requests_per_minute" | "timeout_s" | "max_calls" | "max_total_tokens" => "99",
        "on_error" => "missing",
        "url" => "http://127.0.0.1:1/",
        "version" => "\"3\"",
        "env" => "[\"OTHER\"]",
        "max_missing_fraction" => "0.75",
        "endpoint" => "http://127.0.0.1:1/v1",
        "api_key_env" => "OTHER_KEY",
        "price_per_million_input_tokens_usd" | "price_per_million_output_tokens_usd" => "2.5",
        "base_name" => "unchanged",
        "gpus" => "[1, 1]",
        "start_step" | "oom" | "crash" | "timeout" | "judge_unavailable" => "4",
        "stop_grace_s" | "backoff_s" | "max_backoff_s" => "12.5",
        _ => panic!("the schema has a new key, `{key}`: say here what else it can be"),
    }
}

fn load(project: &Project, set: &[&str]) -> Result<LoadedRecipe, RecipeError> {
    let overrides = Overrides { set: set.iter().map(ToString::to_string).collect(), ..Overrides::default() };
    project.load(&["full.toml"], &overrides).map(|mut recipes| recipes.remove(0))
}

fn keys(recipe: &LoadedRecipe) -> BTreeSet<String> {
    Plan::build(std::slice::from_ref(recipe)).stages.iter().map(|stage| stage.key.to_string()).collect()
}

/// Returns the programs of `command` stages.
fn programs(recipe: &LoadedRecipe) -> Vec<&ProgramRun> {
    recipe.variants.iter().flat_map(|cell| &cell.stages).filter_map(|stage| stage.program.as_ref()).collect()
}

/// Returns the limits of the overlap of training data with evaluation sets.
fn limits(recipe: &LoadedRecipe) -> Vec<Option<f64>> {
    let stages = recipe.variants.iter().flat_map(|cell| &cell.stages);
    let sets = stages.flat_map(|stage| &stage.data_sets);
    sets.map(|set| set.max_overlap.as_ref().map(|limit| limit.fraction)).collect()
}

fn full_project() -> Project {
    let project = Project::new();
    project.write("full.toml", include_str!("recipes/full.toml"));
    project
}

#[test]
fn every_key_of_the_schema_changes_the_plan_or_the_runtime_settings() {
    let project = full_project();
    let before = load(&project, &[]).unwrap_or_else(|error| panic!("{}", error.render(100, false)));
    let keys_before = keys(&before);
    let schema = schema();
    let mut changes = Vec::new();
    for (table, place) in PLACES {
        let properties = schema["$defs"][table]["properties"].as_object().expect("each table has keys");
        changes.extend(properties.keys().map(|key| (*table, *place, key.as_str())));
    }
    let all: usize = schema["$defs"]
        .as_object()
        .expect("the schema has definitions")
        .iter()
        .filter(|(name, _)| PLACES.iter().any(|(table, _)| table == name))
        .map(|(_, table)| table["properties"].as_object().map_or(0, serde_json::Map::len))
        .sum();
    assert_eq!(changes.len(), all);
    let (project, before) = (&project, (&before, &keys_before));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for part in changes.chunks(changes.len().div_ceil(threads)) {
            scope.spawn(move || {
                for &(table, place, key) in part {
                    changes_the_plan_or_the_settings(project, before, table, place, key);
                }
            });
        }
    });
}

/// Asserts that another value of the key changes what the key is for.
fn changes_the_plan_or_the_settings(
    project: &Project,
    (before, keys_before): (&LoadedRecipe, &BTreeSet<String>),
    table: &str,
    place: &str,
    key: &str,
) {
    let set = match special(table, key) {
        Some(set) => set.to_owned(),
        None if (table, key) == ("DataTable", "path") => "data.mcq.path=data/more.txt".to_owned(),
        None if (table, key) == ("CptTable", "micro_batch_size") => "stages.cpt.micro_batch_size=4".to_owned(),
        None if (table, key) == ("SftTable", "micro_batch_size") => "stages.sft.micro_batch_size=4".to_owned(),
        None => format!("{place}.{key}={}", other_value(key)),
    };
    let after = match load(project, &[&set]) {
        Ok(after) => after,
        // Another kind may refuse the other keys of its table.
        Err(_) if key == "kind" => return,
        // Components that do not compare with the row refuse it.
        Err(error) if key == "shuffle_references" && error.problems()[0].message.contains("does not compare") => return,
        Err(error) => panic!("{table}.{key}: `{set}` is refused: {}", error.render(100, false)),
    };
    let keys_after = keys(&after);
    let labels = |recipe: &LoadedRecipe| recipe.variants.iter().map(|cell| cell.name.clone()).collect::<Vec<_>>();
    match table {
        "RuntimeTable" | "Retries" | "JudgeServer" | "HttpEndpoint" => {
            assert_ne!(before.runtime, after.runtime, "`{set}` changes no runtime setting");
            assert_eq!(*keys_before, keys_after, "`{set}` is no part of a result");
        }
        "CompareSettings" => {
            assert_ne!(before.compare, after.compare, "`{set}` changes no comparison");
            assert_eq!(*keys_before, keys_after, "`{set}` is no part of a result");
        }
        "CommandStageTable" if ["timeout_s", "resume"].contains(&key) => {
            assert_ne!(programs(before), programs(&after), "`{set}` does not reach the program");
            assert_eq!(*keys_before, keys_after, "`{set}` is no part of a result");
        }
        "DataTable" if key == "max_overlap" => {
            assert_ne!(limits(before), limits(&after), "`{set}` limits nothing");
            assert_eq!(*keys_before, keys_after, "`{set}` is no part of a result");
        }
        "SweepTable" if key == "base_name" => assert_ne!(labels(before), labels(&after), "`{set}`"),
        _ => assert_ne!(*keys_before, keys_after, "`{set}` changes no cache key"),
    }
}

#[test]
fn every_table_of_the_schema_has_a_place_in_that_test() {
    let schema = schema();
    for (name, definition) in schema["$defs"].as_object().expect("the schema has definitions") {
        let is_table = definition.get("properties").is_some();
        // A variant has only `name` and `set`, and is changed as a whole.
        if is_table && name != "VariantTable" {
            assert!(PLACES.iter().any(|(table, _)| table == name), "`{name}` is not covered");
        }
    }
    let top: BTreeSet<&str> = schema["properties"].as_object().expect("keys").keys().map(String::as_str).collect();
    let known = ["compare", "data", "extends", "model", "name", "runtime", "seed", "stages", "sweep"];
    assert_eq!(top, BTreeSet::from(known), "top-level keys are covered by the tests below");
}

#[test]
fn the_recipe_seed_changes_the_stages_that_have_none_of_their_own() {
    let project = full_project();
    // The full recipe sweeps `seed`, so `--set seed` is refused because it would have no effect.
    let error = load(&project, &["seed=5"]).expect_err("the sweep sets `seed` in every cell");
    assert!(error.problems()[0].message.contains("no effect"), "{error}");
    let seeds = |recipe: &LoadedRecipe, name: &str| -> BTreeSet<u64> {
        let stages = recipe.variants.iter().flat_map(|cell| &cell.stages);
        stages.filter(|stage| stage.name == name).map(|stage| stage.spec.seed).collect()
    };
    let recipe = load(&project, &[]).expect("the full recipe is valid");
    assert_eq!(seeds(&recipe, "cpt_epochs"), BTreeSet::from([1, 2]), "the matrix's seeds");
    assert_eq!(seeds(&recipe, "cpt"), BTreeSet::from([1]), "its own seed");
}

#[test]
fn a_models_own_path_changes_the_key() {
    let project = full_project();
    let before = load(&project, &[]).expect("the full recipe is valid");
    for set in ["stages.cpt.model.path=models/other", "model.path=models/other"] {
        let after = load(&project, &[set]).unwrap_or_else(|error| panic!("{}", error.render(100, false)));
        assert_ne!(keys(&before), keys(&after), "{set}");
    }
}

#[test]
fn a_command_depends_on_the_seed_and_the_model_only_when_it_names_them() {
    let project = full_project();
    let harness = |set: &[&str]| {
        let plain = ["stages.harness.command=[\"echo\"]"];
        let recipe =
            load(&project, &[&plain, set].concat()).unwrap_or_else(|error| panic!("{}", error.render(100, false)));
        let keys: BTreeSet<String> = Plan::build(std::slice::from_ref(&recipe))
            .stages
            .iter()
            .filter(|stage| stage.name == "harness")
            .map(|stage| stage.key.to_string())
            .collect();
        keys
    };
    let (others, harness_table) =
        include_str!("recipes/full.toml").split_once("[stages.harness]").expect("a command stage");
    let alone = harness_table.replace("resume = false\nseed = 3", "resume = false").replace("after = \"grpo\"", "");
    project.write("full.toml", &format!("{others}[stages.harness]{alone}"));
    assert_eq!(harness(&[]).len(), 1, "the sweep over seeds needs it once");
    assert_eq!(harness(&["stages.harness.command=[\"echo\", \"{{ seed }}\"]"]).len(), 2);
    assert_eq!(harness(&[]), harness(&["model.path=models/other"]));
    let named = "stages.harness.command=[\"echo\", \"{{ model }}\"]";
    assert_ne!(harness(&[named]), harness(&[named, "model.path=models/other"]));
}

#[test]
fn a_commands_files_are_their_content_wherever_they_lie() {
    let project = full_project();
    let before = keys(&load(&project, &[]).expect("the full recipe is valid"));
    let script = fs_err::read_to_string(project.path().join("rewards/units.py")).unwrap();
    project.write("elsewhere/other.py", &script);
    let table = "stages.grpo.rewards.command";
    let moved = [
        format!("{table}.command=[\"python3\", \"elsewhere/other.py\"]"),
        format!("{table}.files=[\"elsewhere/other.py\", \"data/more.txt\"]"),
    ];
    let moved: Vec<&str> = moved.iter().map(String::as_str).collect();
    assert_eq!(before, keys(&load(&project, &moved).expect("the moved script is found")));
    let swapped = format!("{table}.files=[\"data/more.txt\", \"rewards/units.py\"]");
    assert_ne!(before, keys(&load(&project, &[&swapped]).expect("files may stand in any order")));
    project.write("rewards/units.py", "print()\n");
    assert_ne!(before, keys(&load(&project, &[]).expect("scripts are not read here")));
}

#[test]
fn the_content_of_a_file_changes_the_key_and_its_place_does_not() {
    let project = full_project();
    let before = load(&project, &[]).expect("the full recipe is valid");
    project.write("elsewhere/mcq.jsonl", &fs_err::read_to_string(project.path().join("data/mcq.jsonl")).unwrap());
    let moved = load(&project, &["data.mcq.path=elsewhere/mcq.jsonl"]).expect("the moved file is found");
    assert_eq!(keys(&before), keys(&moved));
    project.write("data/mcq.jsonl", "{}\n");
    let changed = load(&project, &[]).expect("rows are not read here");
    assert_ne!(keys(&before), keys(&changed));
}

#[test]
fn a_mixture_is_its_weights_and_contents_whatever_the_names_and_units() {
    let project = full_project();
    project.write("data/zoo.jsonl", "{\"a\": 1}\n");
    let with = |names: [&str; 2], mixture: &str| {
        let set = |name: &str, path: &str| format!("data.{name}={{ path = \"data/{path}\", messages = \"m\" }}");
        let sets = [set(names[0], "mcq.jsonl"), set(names[1], "zoo.jsonl"), format!("stages.sft.data={mixture}")];
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        keys(&load(&project, &sets).unwrap_or_else(|error| panic!("{}", error.render(100, false))))
    };
    let before = with(["a", "b"], "{ a = 1, b = 3 }");
    assert_eq!(before, with(["a", "b"], "{ b = 0.75, a = 0.25 }"), "shares are what counts");
    assert_eq!(before, with(["z", "y"], "{ z = 1, y = 3 }"), "a name is no content");
    assert_ne!(before, with(["a", "b"], "{ a = 3, b = 1 }"));
    assert_ne!(before, with(["a", "b"], "b"));
    assert_eq!(with(["a", "b"], "b"), with(["a", "b"], "{ b = 5 }"), "one data set alone has no rival");
}

#[test]
fn renaming_the_recipe_changes_labels_only() {
    let project = full_project();
    let before = load(&project, &[]).expect("the full recipe is valid");
    let after = load(&project, &["name=another"]).expect("a recipe may have another name");
    assert_eq!((before.name.as_str(), after.name.as_str()), ("full", "another"));
    assert_eq!(keys(&before), keys(&after));
    assert_eq!(Plan::build(&[after]).variants[0].label, "another/plain,lr=1e-5,seq_len=64,seed=1");
}
