//! Cache keys: the digests of everything on which a stage's result depends.
//!
//! | input | treatment |
//! |---|---|
//! | every field of [`StageSpec`], defaults written out | hashed, by serialization, without exceptions |
//! | content of model, tokenizer, encoder and data files | hashed, as the digests in the spec |
//! | the seed | hashed, in the spec |
//! | the parent stage | hashed, as its key; those of an `arena` in the order of their keys |
//! | the kind of stage and the version of its code ([`PlannedWork::version`](super::PlannedWork::version)) | hashed |
//! | the form of this document ([`KEY_FORMAT`]) | hashed |
//! | names of judges and services, and of the variables that a reward's program receives | hashed, in the spec |
//! | of an `arena`: names of its players, and which models form one player | hashed, because the result contains them |
//! | of a `command` stage: the program's words, files' content, parameters, outputs, names of variables | hashed, in the spec |
//! | of a `command` stage: the seed and the model | hashed when its words use them, else 0 and absent |
//! | device, threads, libtorch, host, process, times of each attempt | recorded, in `events.jsonl` beside the result |
//! | version of `orchestrate`, `--set`, `ORCHESTRATE_*`, `--variant`, `--only` | recorded, in `runs/log/<run>/` |
//! | names of recipes, variants and stages, the recipes' texts | recorded, in `runs/log/<run>/` |
//! | paths of files, digests of their rows | recorded, in `runs/inputs/`, to explain a miss |
//! | the name of the data set that an `eval` stage measures | hashed, in the spec, because the result contains it |
//! | names of other data sets, the order of keys, comments, how a number is written | ignored |
//! | modification times of files; files of a model that nothing reads, such as a README | ignored |
//! | `[runtime]`: device, threads, jobs, resume points, checkpointing, addresses of judges and services | ignored |
//! | values of those variables, what a reward's command finds on `PATH` | ignored: list a program's files in `files` |
//! | of a `command` stage: `timeout_s`, `resume` | ignored |
//! | executor, retries, logging | ignored |
//!
//! A user's cache holds weeks of work, so keys must not change without need. A new recipe key whose default means "as
//! before" changes no key of recipes that do not set it, because its neutral value is not serialized
//! (`#[serde(skip_serializing_if = ...)]`). A change that affects results raises
//! [`PlannedWork::version`](super::PlannedWork::version), for the affected specs only. A new form of the document
//! raises [`KEY_FORMAT`]. Either is listed under *Breaking* in the changelog. `tests/golden_keys.rs` compares the keys
//! of the shipped recipes with earlier ones.
//!
//! The document of a key is `key.json`, beside each result: `{key_format, kind, stage_version, spec, parents}`, as
//! canonical JSON. It contains the parents' keys, so every key is known before anything runs. A change affects exactly
//! the stages below it.

use super::kinds::planned;
use crate::digest::{Digest, canonical_json};
use crate::recipe::spec::{StageSpec, Work};
use serde_json::Value;

/// The form of `key.json`. A new form changes all keys.
pub const KEY_FORMAT: u32 = 4;

/// A key with the document of which it is the digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageKey {
    /// The SHA-256 digest of `text`.
    pub key: Digest,
    /// The content of `key.json`, in its canonical form.
    pub text: String,
}

impl StageKey {
    /// Returns the content of `key.json`.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("the text is JSON")
    }
}

/// Computes the key of a stage with `spec` and the keys of its `parents`.
pub fn stage_key(spec: &StageSpec, parents: &[Digest]) -> StageKey {
    key_of_text(&spec.work, &spec_text(spec), parents)
}

/// Returns the canonical form of `spec`.
pub(super) fn spec_text(spec: &StageSpec) -> String {
    canonical_json(&serde_json::to_value(spec).expect("a spec has string keys and finite numbers"))
}

/// Computes the key of a stage from its kind, the canonical text of its spec and its parents. The document is in
/// canonical form, so its keys are sorted.
pub(super) fn key_of_text(work: &Work, spec_text: &str, parents: &[Digest]) -> StageKey {
    let (kind, version) = (work.kind(), planned(work).version());
    let parents: Vec<String> = parents.iter().map(|parent| format!("\"{parent}\"")).collect();
    let parents = parents.join(",");
    let text = format!(
        r#"{{"key_format":{KEY_FORMAT},"kind":"{kind}","parents":[{parents}],"spec":{spec_text},"stage_version":{version}}}"#
    );
    StageKey { key: Digest::of(text.as_bytes()), text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::spec::{
        Activation, AdjustLr, AdvantageBaseline, Aggregate, ArenaJudge, ArenaSpec, Argument, BestSpec, ClassifierInput,
        ClassifierSpec, CommandSpec, CommandStageSpec, CompareWith, Component, ComponentStd, CorrectnessSpec, CotSpec,
        CptSpec, CreditSpec, DataFile, DataFormat, DataSpec, Distribution, Dtype, EditLevel, EditSpec, EntropySide,
        EntropySpec, EvalSpec, Evaluated, FormatSpec, GenerateSpec, Grading, GrpoLossSpec, GrpoSpec, HeldOut, HttpSpec,
        Join, JudgeMode, JudgeSampling, JudgeSpec, Keep, Leak, Length, LengthSpec, LoraSpec, LossType, Match,
        ModelSpec, OfReference, OnError, Optimizer, OptimizerSpec, OptionsSpec, OverlongSpec, Pairing, ParentAdapter,
        PlayerModel, PlayerSpec, PoolsSpec, RandomSpec, RepetitionSpec, RewardAggregation, RewardSpec, Role,
        RougeMeasure, RougeSpec, RougeTokenizer, RougeVariant, RubricScale, Sampling, ScaleRewards, Schedule, Scope,
        Selection, SemanticSpec, Sent, SeveralReferences, SftSpec, SoftReturnSpec, Split, Templates, TextUse, Total,
        WeightRamp, WeightedData, ZeroStd,
    };
    use proptest::prelude::*;
    use regex::Regex;
    use serde_json::json;
    use std::collections::{BTreeMap, BTreeSet};

    fn result(file: &str) -> DataFile {
        DataFile::Result { source: 0, file: file.to_owned(), format: DataFormat::Jsonl }
    }

    fn data() -> DataSpec {
        let template = |text: &str| Some(text.to_owned());
        DataSpec {
            files: vec![
                DataFile::File { digest: Digest::of(b"text"), format: DataFormat::Text },
                DataFile::File { digest: Digest::of(b"rows"), format: DataFormat::Jsonl },
            ],
            eval_fraction: 0.125,
            dev_fraction: 0.0,
            split: Split::Train,
            max_rows: Some(100),
            messages: Some("m".to_owned()),
            decontaminate: None,
            templates: Templates {
                system: template("s"),
                prompt: template("p"),
                completion: template("c"),
                reference: template("r"),
                answer: template("a"),
                text: template("t"),
            },
            selection: Selection::default(),
        }
    }

    /// Returns a data set with answers of stages.
    fn generated() -> DataSpec {
        DataSpec {
            files: vec![result("rows.jsonl")],
            selection: Selection {
                join: Some(Join {
                    from: result("a.jsonl"),
                    field: "theirs".to_owned(),
                    column: "completion".to_owned(),
                }),
                only: Some("reward > 0.5".to_owned()),
                keep: Some(Keep::Best(2)),
                held_out: vec![HeldOut {
                    files: vec![result("b.jsonl")],
                    eval_fraction: 0.25,
                    dev_fraction: 0.0,
                    split: Split::Eval,
                }],
            },
            ..data()
        }
    }

    fn mixture() -> Vec<WeightedData> {
        vec![WeightedData { weight: 0.75, data: data() }, WeightedData { weight: 0.25, data: data() }]
    }

    fn optimizer() -> OptimizerSpec {
        OptimizerSpec {
            optimizer: Optimizer::Adamw { betas: (0.9, 0.999), eps: 1e-8 },
            lr: 1e-4,
            weight_decay: 0.5,
            schedule: Schedule::Cosine,
            warmup_steps: 3,
            max_grad_norm: 1.0,
        }
    }

    fn muon() -> OptimizerSpec {
        let adjust_lr = AdjustLr::MatchRmsAdamw;
        let optimizer = Optimizer::Muon { momentum: 0.95, adjust_lr, betas: (0.9, 0.999), eps: 1e-8 };
        OptimizerSpec { optimizer, schedule: Schedule::Wsd { decay_steps: 2 }, ..self::optimizer() }
    }

    fn sampling() -> Sampling {
        Sampling {
            max_prompt_tokens: 100,
            max_new_tokens: 50,
            min_new_tokens: 5,
            temperature: 1.0,
            top_p: 0.9,
            top_k: 40,
            min_p: 0.1,
            repetition_penalty: 1.1,
            stop_strings: vec!["</answer>".to_owned()],
        }
    }

    /// Returns every component. `size` and `name` are names that a careless key function might leave out.
    fn rewards() -> BTreeMap<String, RewardSpec> {
        let (variant, measure) = (RougeVariant::L, RougeMeasure::F1);
        let rouge = RougeSpec { variant, measure, tokenizer: RougeTokenizer::Unicode, stemming: false };
        let (encoder, prompt) = (Digest::of(b"encoder"), Some("query: ".to_owned()));
        let (references, window_sentences) = (Some(SeveralReferences::Max), Some(2));
        let (dtype, baseline) = (Dtype::Float32, Some(0.25));
        let semantic = SemanticSpec { encoder, dtype, baseline, prompt, references, window_sentences };
        let tags = vec!["think".to_owned(), "answer".to_owned()];
        let (endpoint, version) = ("units".to_owned(), Some("2".to_owned()));
        let http = HttpSpec { endpoint, version, cache: true, send: Vec::new() };
        let random = RandomSpec { distribution: Distribution::Bernoulli { probability: 0.25 }, series: 1 };
        let length = LengthSpec { min_words: Some(20), max_words: Some(200), tolerance_words: 10, of_reference: None };
        let relative = OfReference { min: Some(0.5), max: Some(1.5), tolerance: 0.25 };
        let relative =
            LengthSpec { min_words: None, max_words: None, tolerance_words: 0, of_reference: Some(relative) };
        let (model, activation, input) = (Digest::of(b"classifier"), Activation::Softmax, ClassifierInput::Pair);
        let classifier = ClassifierSpec { model, dtype: Dtype::Bfloat16, label: 1, activation, input };
        let entropy = EntropySpec { target: 1.25, tolerance: 0.5, side: EntropySide::Above };
        let edit = EditSpec { level: EditLevel::Character, lowercase: true, remove_punctuation: true };
        let leak = Leak::Before;
        let (min_words, max_words, min_tokens, max_tokens) = (5, Some(50), Some(8), Some(90));
        let cot = CotSpec { min_words, max_words, min_tokens, max_tokens, leak };
        let components = [
            ("semantic", Component::Semantic(semantic)),
            ("size", Component::Rouge(rouge)),
            (
                "name",
                Component::Correctness(CorrectnessSpec {
                    matching: Match::Numeric { tolerance: 0.5 },
                    pattern: Some("=(.*)".to_owned()),
                }),
            ),
            ("format", Component::Format(FormatSpec::Tags { tags, grading: Grading::Graded, answers: Vec::new() })),
            ("pattern", Component::Format(FormatSpec::Pattern("a+".to_owned()))),
            ("json", Component::Format(FormatSpec::JsonSchema(json!({ "type": "object", "maxProperties": 2 })))),
            ("cot", Component::Cot(cot)),
            ("judge", Component::Judge(judge(JudgeMode::Rubric(rubric())))),
            (
                "with_reference",
                Component::Judge(judge(JudgeMode::PairWithReference { prompt: "{{ first }}".to_owned() })),
            ),
            (
                "within_group",
                Component::Judge(judge(JudgeMode::PairWithinGroup {
                    prompt: "{{ first }}".to_owned(),
                    opponents: Some(3),
                })),
            ),
            ("command", Component::Command(command())),
            ("http", Component::Http(http)),
            ("length", Component::Length(length)),
            ("relative", Component::Length(relative)),
            ("edit", Component::Edit(edit)),
            ("entropy", Component::Entropy(entropy)),
            ("classifier", Component::Classifier(classifier)),
            ("repetition", Component::Repetition(RepetitionSpec { ngram: 3 })),
            ("random", Component::Random(random)),
        ];
        let spec = |component| {
            let (scope, clip, on_error) = (Scope::Tag("work".to_owned()), Some((0.0, 0.5)), OnError::Missing);
            RewardSpec {
                weight: 1.5,
                ramp: Some(WeightRamp { from: 0.5, over_steps: 20 }),
                start_step: 5,
                scope,
                clip,
                exponent: 2.0,
                scale: 2.0,
                requires: BTreeSet::from(["format".to_owned(), "name".to_owned()]),
                shuffle_references: true,
                on_error,
                component,
            }
        };
        components.into_iter().map(|(name, component)| (name.to_owned(), spec(component))).collect()
    }

    fn with_answers(mut rewards: BTreeMap<String, RewardSpec>) -> BTreeMap<String, RewardSpec> {
        for reward in rewards.values_mut() {
            if let Component::Format(FormatSpec::Tags { answers, .. }) = &mut reward.component {
                answers.push("A".to_owned());
            }
        }
        rewards
    }

    fn floor_mean() -> Total {
        Total::FloorMean { floor: BTreeSet::from(["format".to_owned(), "name".to_owned()]) }
    }

    fn judge(mode: JudgeMode) -> JudgeSpec {
        let judges = vec!["one".to_owned(), "two".to_owned()];
        let sampling = JudgeSampling { temperature: 0.5, seed: 7, max_tokens: 64 };
        JudgeSpec { judges, aggregate: Aggregate::Median, mode, sampling }
    }

    fn rubric() -> RubricScale {
        RubricScale { prompt: "{{ completion }}".to_owned(), min_score: 1, max_score: 5 }
    }

    fn command() -> CommandSpec {
        CommandSpec {
            command: vec![Argument::Text("python3".to_owned()), Argument::File(Digest::of(b"script"))],
            files: vec![Digest::of(b"script"), Digest::of(b"table")],
            env: vec!["TABLE".to_owned()],
            timeout_s: 30.0,
            send: Vec::new(),
        }
    }

    fn spec(work: Work) -> StageSpec {
        let lora = LoraSpec {
            rank: 8,
            alpha: 16.0,
            dropout: 0.0,
            rslora: false,
            target_modules: vec!["q_proj".to_owned(), "v_proj".to_owned()],
        };
        let parent_adapter = ParentAdapter::Continue;
        let model = ModelSpec {
            files: Digest::of(b"model"),
            chat_template: None,
            dtype: Dtype::Float32,
            lora: Some(lora),
            parent_adapter,
        };
        StageSpec { seed: 17, model: Some(model), until: None, work }
    }

    /// Returns a stage with parameters whose names a careless key function might leave out.
    fn command_stage() -> StageSpec {
        let parameters =
            [("size", json!(3)), ("name", json!("harness")), ("options", json!({ "path": ["a", 0.5, true] }))];
        spec(Work::Command(CommandStageSpec {
            command: vec![Argument::Text("python3".to_owned()), Argument::File(Digest::of(b"script"))],
            files: vec![Digest::of(b"script"), Digest::of(b"tasks")],
            outputs: BTreeSet::from(["scores.jsonl".to_owned(), "samples".to_owned()]),
            parameters: parameters.map(|(name, value)| (name.to_owned(), value)).into(),
            env: vec!["HF_HOME".to_owned()],
            working_directory: "harness".to_owned(),
        }))
    }

    /// Returns an arena with a trained player, an untrained one, and both kinds of judges.
    fn arena() -> StageSpec {
        let trained = spec(Work::Command(CommandStageSpec {
            command: Vec::new(),
            files: Vec::new(),
            outputs: BTreeSet::new(),
            parameters: BTreeMap::new(),
            env: Vec::new(),
            working_directory: String::new(),
        }));
        let model = trained.model.expect("it has one");
        let player = |name: &str, parent: Option<usize>| PlayerSpec {
            name: name.to_owned(),
            models: vec![PlayerModel { parent, seed: parent.map(|_| 3), model: model.clone() }],
        };
        let similarity = ArenaJudge::Similarity {
            encoder: Digest::of(b"encoder"),
            dtype: Dtype::Float32,
            prompt: Some("query: ".to_owned()),
            scope: Scope::Explanation,
            compare_with: CompareWith::Reference,
            tie_margin: 0.25,
        };
        let models = ArenaJudge::Models {
            judges: vec!["one".to_owned(), "two".to_owned()],
            scope: Scope::Completion,
            prompt: "{{ first }}".to_owned(),
            sampling: JudgeSampling { temperature: 0.5, seed: 7, max_tokens: 64 },
        };
        let work = ArenaSpec {
            data: data(),
            by: BTreeSet::new(),
            questions: Some(20),
            sampling: sampling(),
            batch_size: 4,
            players: vec![player("grpo [rouge]", Some(0)), player("base", None)],
            pairing: Pairing::Adaptive { max_comparisons: 60 },
            judges: BTreeMap::from([("name".to_owned(), similarity), ("panel".to_owned(), models)]),
            prior_sd: 400.0,
            bootstrap_resamples: 1000,
            max_missing_fraction: 0.5,
        };
        StageSpec { seed: 17, model: None, until: None, work: Work::Arena(work) }
    }

    fn cpt() -> StageSpec {
        spec(Work::Cpt(CptSpec {
            data: mixture(),
            seq_len: 64,
            length: Length::Steps(10),
            global_batch_size: 8,
            micro_batch_size: 2,
            optimizer: optimizer(),
        }))
    }

    /// Returns a spec of each kind with every optional field set.
    fn specs() -> Vec<StageSpec> {
        let sft = SftSpec {
            data: mixture(),
            train_on: BTreeSet::from([Role::User, Role::Assistant]),
            seq_len: 64,
            packing: true,
            length: Length::Epochs(1.5),
            global_batch_size: 8,
            micro_batch_size: 2,
            optimizer: muon(),
        };
        let grpo = GrpoSpec {
            data: mixture(),
            steps: 10,
            prompts_per_step: 2,
            group_size: 4,
            micro_batch_size: 2,
            rollout_batch_size: 12,
            updates_per_rollout: 1,
            mini_batches: 1,
            sampling: sampling(),
            overlong: Some(OverlongSpec { buffer_tokens: 10, penalty: 0.5 }),
            reward_aggregation: RewardAggregation::SumThenNormalize,
            component_std: ComponentStd::Running,
            total: floor_mean(),
            zero_std: ZeroStd::Resample { max_prompts: 4 },
            pools: None,
            credit: None,
            loss: GrpoLossSpec {
                loss_type: LossType::Dapo,
                scale_rewards: ScaleRewards::Group,
                advantage_baseline: AdvantageBaseline::LeaveOneOut,
                kl_coef: 0.0,
                kl_every: 0,
                entropy_coef: 0.01,
                clip_low: 0.2,
                clip_high: 0.25,
                mask_truncated: false,
            },
            optimizer: optimizer(),
            rewards: rewards(),
            max_missing_fraction: 0.5,
        };
        let eval = EvalSpec {
            data_set: "mcq".to_owned(),
            out_of_domain: true,
            data: data(),
            best: None,
            options: Some(OptionsSpec { options: "choices".to_owned(), option: "{{ option.text }}".to_owned() }),
            by: BTreeSet::new(),
            text: Some(data()),
            sampling: sampling(),
            samples_per_question: 8,
            pass_at: BTreeSet::from([1, 4]),
            maj_at: BTreeSet::new(),
            probes: false,
            batch_size: 4,
            rewards: with_answers(rewards()),
            total: floor_mean(),
            trained: BTreeSet::from(["semantic".to_owned()]),
            bootstrap_resamples: 100,
            max_missing_fraction: 0.5,
        };
        let generate = GenerateSpec {
            data_set: "mcq".to_owned(),
            data: generated(),
            judge: Some("one".to_owned()),
            sampling: sampling(),
            samples_per_question: 4,
            batch_size: 4,
            rewards: rewards(),
            max_missing_fraction: 0.5,
        };
        let mut sft = spec(Work::Sft(sft));
        sft.model.as_mut().expect("sft has a model").chat_template = Some("{{ messages }}".to_owned());
        let generate = StageSpec { until: Some(5), ..spec(Work::Generate(generate)) };
        vec![cpt(), sft, spec(Work::Grpo(grpo)), spec(Work::Eval(eval)), generate, command_stage(), arena()]
    }

    fn key_of(json: &Value) -> Digest {
        Digest::of(canonical_json(json).as_bytes())
    }

    /// Returns every document that differs from `json` in one leaf, or lacks or renames one field.
    fn changed(json: &Value) -> Vec<Value> {
        match json {
            Value::Object(fields) => {
                let mut all = Vec::new();
                for (name, value) in fields {
                    for other in changed(value) {
                        let mut fields = fields.clone();
                        fields[name] = other;
                        all.push(Value::Object(fields));
                    }
                    let mut less = fields.clone();
                    let value = less.shift_remove(name).expect("the field is there");
                    all.push(Value::Object(less.clone()));
                    less.insert(format!("{name}_"), value);
                    all.push(Value::Object(less));
                }
                all
            }
            Value::Array(items) => {
                let mut all: Vec<Value> = vec![items.iter().rev().skip(1).rev().cloned().collect()];
                for (index, item) in items.iter().enumerate() {
                    for other in changed(item) {
                        let mut items = items.clone();
                        items[index] = other;
                        all.push(Value::Array(items));
                    }
                }
                all
            }
            Value::String(text) => vec![json!(format!("{text}x")), Value::Null],
            Value::Number(number) => {
                let float = number.as_f64().expect("numbers of a spec are finite");
                let next =
                    if number.is_f64() { json!(f64::from_bits(float.to_bits() + 1)) } else { json!(float + 0.5) };
                vec![next, json!(number.to_string())]
            }
            Value::Bool(boolean) => vec![json!(!boolean)],
            Value::Null => vec![json!(0)],
        }
    }

    fn reversed(json: &Value) -> Value {
        match json {
            Value::Object(fields) => {
                Value::Object(fields.iter().rev().map(|(name, value)| (name.clone(), reversed(value))).collect())
            }
            Value::Array(items) => items.iter().map(reversed).collect(),
            scalar => scalar.clone(),
        }
    }

    #[test]
    fn any_change_of_any_spec_field_changes_the_key() {
        for spec in specs() {
            let json = stage_key(&spec, &[Digest::of(b"parent")]).json();
            let variations = changed(&json);
            assert!(variations.len() > 100, "{} variations", variations.len());
            let keys: BTreeSet<Digest> = variations.iter().map(key_of).collect();
            assert!(!keys.contains(&key_of(&json)), "a change keeps the key of {}", spec.work.kind());
            let distinct: BTreeSet<String> = variations.iter().map(canonical_json).collect();
            assert_eq!(keys.len(), distinct.len(), "two changes share a key");
        }
    }

    #[test]
    fn the_document_is_in_its_canonical_form() {
        for spec in specs() {
            let key = stage_key(&spec, &[Digest::of(b"one"), Digest::of(b"two")]);
            assert_eq!(key.text, canonical_json(&key.json()));
        }
    }

    #[test]
    fn the_order_of_fields_does_not_change_the_key() {
        for spec in specs() {
            let key = stage_key(&spec, &[]);
            assert_eq!(key.key, key_of(&reversed(&key.json())));
        }
    }

    #[test]
    fn a_spec_read_back_from_key_json_has_the_same_key() {
        for spec in specs() {
            let key = stage_key(&spec, &[]);
            let text = serde_json::to_string_pretty(&key.json()).expect("JSON can be written");
            let json: Value = serde_json::from_str(&text).expect("JSON can be read");
            assert_eq!(key_of(&json), key.key);
            let read: StageSpec = serde_json::from_value(json["spec"].clone()).expect("the spec can be read");
            assert_eq!(stage_key(&read, &[]), key);
        }
    }

    #[test]
    fn the_parent_is_part_of_the_key() {
        let keys: BTreeSet<Digest> = [vec![], vec![Digest::of(b"one")], vec![Digest::of(b"two")]]
            .iter()
            .map(|parents| stage_key(&cpt(), parents).key)
            .collect();
        assert_eq!(keys.len(), 3);
    }

    /// Fails when specs are serialized differently than before, which would lose every user's results to the cache. If
    /// the change is intended, describe it in the changelog, raise `KEY_FORMAT`, and put the new key here.
    #[test]
    fn keys_are_those_of_earlier_versions() {
        let parent = [Digest::of(b"parent")];
        let found: Vec<String> = specs()
            .iter()
            .map(|spec| format!("{} {}", spec.work.kind(), stage_key(spec, &parent).key))
            .chain([format!("cpt, first {}", stage_key(&cpt(), &[]).key)])
            .collect();
        let golden = [
            "cpt 413ed5c04d23e7993ea1a359f6315d11be947f0fdd0ba2a118f5d1956a82b924",
            "sft e9676d9a04d04abd112da600ad78474a326e06deeb47d7dba4d8901c90f542a4",
            "grpo ab22a97f6ff00fb7a670fcb5a5fbce829c0942dffcb66e46308e3e1508591c56",
            "eval 76d048bafed81a181b95728bfb51d8d35a4ae6924d9c0eed7363dbc9be4aa3bb",
            "generate 5131bcdba4fe6898d086e9735094f274b44ed352344224fb91f0d035d899c356",
            "command bd2d53948043e38251f467e427b045619db8ad11aefd2602ad3ce143abd26dcd",
            "arena 776454aa14fb75b38a570c4f969e2c86177f13f5f555315d7486104319b11849",
            "cpt, first 8e27e974599c86d7db862899e644fe9f688a8deb2d69a1e12d873e755b750af1",
        ];
        assert_eq!(found, golden);
    }

    /// Returns the source of the types from which reward components are hashed.
    fn components() -> String {
        let rewards = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("rewards");
        let mut files = vec![rewards.join("spec.rs"), rewards.join("components/judge/spec.rs")];
        files.push(rewards.join("components/command/keys.rs"));
        let entries = fs_err::read_dir(rewards.join("components")).expect("the folder is there");
        files.extend(entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()));
        let item = Regex::new(r"(?ms)^#\[derive\([^\]]*Serialize, Deserialize[^\]]*\)\]\n.*?^\}")
            .expect("the pattern is right");
        let items = |file: &std::path::PathBuf| {
            let text = fs_err::read_to_string(file).expect("a source file is text");
            item.find_iter(&text).map(|item| item.as_str().to_owned() + "\n").collect::<String>()
        };
        files.iter().map(items).collect()
    }

    /// Returns an evaluation with the fields whose neutral values are not written.
    fn sliced() -> StageSpec {
        let mut spec = specs().into_iter().find(|spec| matches!(spec.work, Work::Eval(_))).expect("there is one");
        let Work::Eval(eval) = &mut spec.work else { unreachable!("its kind is eval") };
        eval.by = BTreeSet::from(["subject".to_owned()]);
        eval.data.decontaminate = Some(vec![Evaluated { data: data(), used: TextUse::Documents }]);
        spec
    }

    /// Returns the specs with fields that are not serialized where they are neutral, as they are in [`specs`].
    fn later_specs() -> Vec<StageSpec> {
        let mut specs = specs();
        for spec in &mut specs {
            match &mut spec.work {
                Work::Grpo(grpo) => {
                    grpo.loss.kl_every = 10;
                    grpo.pools = Some(PoolsSpec {
                        easy_threshold: 0.9,
                        hard_threshold: 0.1,
                        easy_share: 0.2,
                        hard_share: 0.1,
                        decay: 0.5,
                        component: Some("format".to_owned()),
                    });
                    grpo.credit = Some(CreditSpec::SoftReturn(SoftReturnSpec { beta: 0.5 }));
                    for reward in grpo.rewards.values_mut() {
                        if let Component::Http(http) = &mut reward.component {
                            http.send = vec![Sent::Group];
                        }
                    }
                }
                Work::Eval(eval) => {
                    eval.maj_at = BTreeSet::from([3]);
                    eval.data.dev_fraction = 0.25;
                    let metric = "eval/accuracy".to_owned();
                    let direction = serde_json::from_value(json!("higher")).expect("it is a direction");
                    eval.best = Some(BestSpec { metric, direction, steps: vec![4, 8] });
                    eval.probes = true;
                }
                Work::Arena(arena) => arena.by = BTreeSet::from(["subject".to_owned()]),
                _ => {}
            }
        }
        specs
    }

    /// Fails when a field is untested: `specs` must contain every field, with every alternative that has content.
    #[test]
    fn the_specs_of_these_tests_have_every_field_there_is() {
        let later = later_specs();
        let documents =
            specs().iter().chain([&sliced()]).chain(&later).map(|spec| stage_key(spec, &[]).text).collect::<Vec<_>>();
        let source = include_str!("../recipe/spec/stage.rs").to_owned() + &components();
        let fields = Regex::new(r"(?m)^ {4,8}(?:pub )?([a-z_]+): ").expect("the pattern is right");
        let alternatives = Regex::new(r"(?m)^ {4}([A-Z][A-Za-z]+)(?:\(| \{)").expect("the pattern is right");
        let snake_case = Regex::new("([a-z])([A-Z])").expect("the pattern is right");
        let names = fields.captures_iter(&source).map(|found| found[1].to_owned());
        let names = names.chain(
            alternatives
                .captures_iter(&source)
                .map(|found| snake_case.replace_all(&found[1], "${1}_$2").to_lowercase()),
        );
        let mut checked = 0;
        // A file in the result of a stage is written without a tag.
        for name in names.filter(|name| name != "result") {
            let written = if name == "matching" { "match" } else { &name };
            let is_there = documents.iter().any(|document| document.contains(&format!("\"{written}\":")));
            assert!(is_there, "no spec of these tests has `{name}`");
            checked += 1;
        }
        assert!(checked > 120, "only {checked} fields were found");
    }

    proptest! {
        #[test]
        fn different_numbers_give_different_keys(one in any::<f64>(), other in any::<f64>()) {
            prop_assume!(one.is_finite() && other.is_finite() && one.to_bits() != other.to_bits());
            let with = |lr: f64| {
                let mut spec = cpt();
                let Work::Cpt(work) = &mut spec.work else { unreachable!("the spec is one of cpt") };
                work.optimizer.lr = lr;
                stage_key(&spec, &[]).key
            };
            prop_assert_ne!(with(one), with(other));
        }
    }
}
