//! Estimates for a GPU, with the numbers of Llama 3.1 8B computed by hand.
//!
//! No peak was measured on a GPU yet. The bounds are computed too, independently of the estimates: the tensors that the
//! engine allocates, and with them the context, the workspaces and the gaps in the allocator's memory.

use super::*;
use crate::digest::Digest;
use crate::plan::planned;
use crate::recipe::spec::{
    Activation, AdvantageBaseline, ArenaJudge, ArenaSpec, ClassifierInput, ClassifierSpec, CompareWith, Component,
    ComponentStd, CptSpec, DataSpec, EvalSpec, GrpoLossSpec, GrpoSpec, Length, LossType, Pairing, ParentAdapter,
    RewardAggregation, RewardSpec, ScaleRewards, Schedule, Scope, Selection, SemanticSpec, SftSpec, Split, Templates,
    Total, Work, ZeroStd,
};
use std::collections::{BTreeMap, BTreeSet};

const LLAMA_3_1_8B: &str = r#"{"model_type": "llama", "max_position_embeddings": 131072, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": false}"#;

/// Bytes of the weights: 8,030,261,248 of 2 bytes.
const WEIGHTS: u64 = 16_060_522_496;
/// Bytes of the adapters' 32-bit weights and gradients, and of two moments: 83,886,080 weights, 16 bytes each.
const ADAPTERS: u64 = 1_342_177_280;
/// Bytes of the reference's 32-bit copy of the adapters.
const REFERENCE: u64 = 335_544_320;
/// Bytes that the backward pass keeps for 4096 tokens: 90,336 values of 2 bytes in each of 32 layers, and in one more.
const KEPT: u64 = 24_421_072_896;
/// Bytes of five 32-bit copies of the logits of 2048 positions.
const LOGITS: u64 = 5_253_365_760;
/// Bytes of the keys and values of one token: 32 layers, twice 1024 numbers of 2 bytes.
const TOKEN: u64 = 131_072;
/// 1.5 GiB.
const CONTEXT: u64 = 1_610_612_736;

fn shape() -> ModelShape {
    let config = serde_json::from_str(LLAMA_3_1_8B).expect("it is JSON");
    ModelShape::from(DecoderConfig::of(&config).expect("it is supported"))
}

pub(super) fn model() -> ModelSpec {
    let names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let target_modules = names.map(str::to_owned).to_vec();
    ModelSpec {
        files: Digest::of(b"model"),
        chat_template: None,
        dtype: Dtype::Bfloat16,
        lora: Some(LoraSpec { rank: 32, alpha: 64.0, dropout: 0.0, rslora: false, target_modules }),
        parent_adapter: ParentAdapter::Continue,
    }
}

pub(super) fn optimizer() -> OptimizerSpec {
    OptimizerSpec {
        optimizer: Optimizer::Adamw { betas: (0.9, 0.999), eps: 1e-8 },
        lr: 1e-4,
        weight_decay: 0.0,
        schedule: Schedule::Constant,
        warmup_steps: 0,
        max_grad_norm: 1.0,
    }
}

pub(super) fn data() -> DataSpec {
    DataSpec {
        files: Vec::new(),
        eval_fraction: 0.0,
        dev_fraction: 0.0,
        split: Split::All,
        max_rows: None,
        messages: None,
        decontaminate: None,
        templates: Templates::default(),
        selection: Selection::default(),
    }
}

fn sampling() -> Sampling {
    Sampling { max_prompt_tokens: 512, ..Sampling::plain(512) }
}

/// Returns a mix with an encoder and a classifier.
fn rewards() -> BTreeMap<String, RewardSpec> {
    let semantic = SemanticSpec {
        encoder: Digest::of(b"encoder"),
        dtype: Dtype::Float32,
        baseline: None,
        prompt: None,
        references: None,
        window_sentences: None,
    };
    let (model, activation, input) = (Digest::of(b"classifier"), Activation::Sigmoid, ClassifierInput::Pair);
    let classifier = ClassifierSpec { model, dtype: Dtype::Bfloat16, label: 0, activation, input };
    let reward = |component| RewardSpec::plain(1.0, Scope::Explanation, component);
    let mix = [("a", Component::Semantic(semantic)), ("b", Component::Classifier(classifier))];
    mix.map(|(name, component)| (name.to_owned(), reward(component))).into()
}

fn cpt() -> Work {
    Work::Cpt(CptSpec {
        data: Vec::new(),
        seq_len: 2048,
        length: Length::Steps(1),
        global_batch_size: 16,
        micro_batch_size: 2,
        optimizer: optimizer(),
    })
}

fn sft() -> Work {
    Work::Sft(SftSpec {
        data: Vec::new(),
        train_on: BTreeSet::new(),
        seq_len: 1024,
        packing: true,
        length: Length::Steps(1),
        global_batch_size: 16,
        micro_batch_size: 4,
        optimizer: optimizer(),
    })
}

/// Returns a stage that decodes 48 rows at a time, of 8 prompts, and trains on 6.
fn grpo() -> Work {
    Work::Grpo(GrpoSpec {
        data: Vec::new(),
        steps: 1,
        prompts_per_step: 8,
        group_size: 6,
        micro_batch_size: 6,
        updates_per_rollout: 1,
        rollout_batch_size: 0,
        mini_batches: 1,
        sampling: sampling(),
        overlong: None,
        reward_aggregation: RewardAggregation::SumThenNormalize,
        component_std: ComponentStd::Group,
        total: Total::Sum,
        zero_std: ZeroStd::Keep,
        pools: None,
        credit: None,
        loss: GrpoLossSpec {
            loss_type: LossType::Dapo,
            scale_rewards: ScaleRewards::Group,
            advantage_baseline: AdvantageBaseline::Group,
            kl_coef: 0.04,
            kl_every: 0,
            entropy_coef: 0.0,
            clip_low: 0.2,
            clip_high: 0.2,
            mask_truncated: false,
        },
        optimizer: optimizer(),
        rewards: rewards(),
        max_missing_fraction: 0.5,
    })
}

fn eval() -> Work {
    Work::Eval(EvalSpec {
        data_set: "mcq".to_owned(),
        out_of_domain: false,
        data: data(),
        best: None,
        options: None,
        by: BTreeSet::new(),
        text: None,
        sampling: sampling(),
        samples_per_question: 1,
        pass_at: BTreeSet::new(),
        maj_at: BTreeSet::new(),
        probes: false,
        batch_size: 32,
        rewards: rewards(),
        total: Total::Sum,
        trained: BTreeSet::new(),
        bootstrap_resamples: 100,
        max_missing_fraction: 0.5,
    })
}

fn arena() -> Work {
    let judge = ArenaJudge::Similarity {
        encoder: Digest::of(b"encoder"),
        dtype: Dtype::Bfloat16,
        prompt: None,
        scope: Scope::Explanation,
        compare_with: CompareWith::Reference,
        tie_margin: 0.0,
    };
    Work::Arena(ArenaSpec {
        data: data(),
        by: BTreeSet::new(),
        questions: None,
        sampling: sampling(),
        batch_size: 32,
        players: Vec::new(),
        pairing: Pairing::Full,
        judges: BTreeMap::from([("similarity".to_owned(), judge)]),
        prior_sd: 400.0,
        bootstrap_resamples: 100,
        max_missing_fraction: 0.5,
    })
}

fn estimate(work: &Work, processor: Processor) -> MemoryEstimate {
    let (spec, shape) = (model(), shape());
    let computing = Computing { processor, ..Computing::default() };
    planned(work).memory(&StageModel { spec: &spec, shape: &shape, computing }).expect("the stage has a model")
}

#[test]
fn the_parts_are_those_computed_by_hand() {
    let base = MemoryEstimate { weights: WEIGHTS, logits: LOGITS, process: CONTEXT, ..MemoryEstimate::default() };
    let base = MemoryEstimate { fragments_percent: 10, ..base };
    let trained = MemoryEstimate { training: ADAPTERS, activations: KEPT, ..base };
    for work in [cpt(), sft()] {
        assert_eq!(estimate(&work, Processor::Gpu), trained);
    }
    // Each of 48 rows has a slot with its prompt. In the update 6 completions of a prompt have its keys before theirs.
    let (kv_cache, prefixes) = (48 * (512 + 512) * TOKEN, 6 * 512 * TOKEN);
    let training = ADAPTERS + REFERENCE;
    let expected = MemoryEstimate { training, activations: KEPT + prefixes, kv_cache, ..trained };
    assert_eq!(estimate(&grpo(), Processor::Gpu), expected);
    for work in [eval(), arena()] {
        let kv_cache = 32 * (512 + 512) * TOKEN;
        assert_eq!(estimate(&work, Processor::Gpu), MemoryEstimate { kv_cache, ..base });
    }
}

#[test]
fn totals_are_within_what_was_computed_for_the_engine() {
    // GiB: the tensors alone, and the least with context, workspaces and gaps. Neither was measured.
    for (work, tensors, all) in [(cpt(), 40.6, 43.0), (sft(), 40.6, 43.0), (grpo(), 41.0, 44.0), (eval(), 20.2, 22.0)] {
        let total = estimate(&work, Processor::Gpu).total() as f64 / f64::from(1 << 30);
        assert!(total >= tensors && total <= 1.4 * all, "{:?}: {total:.1} GiB", work.kind());
    }
}

#[test]
fn gaps_are_a_tenth_of_everything_and_decoding_does_not_overlap_with_training() {
    let parts = estimate(&grpo(), Processor::Gpu);
    assert_eq!(parts.total(), (WEIGHTS + ADAPTERS + REFERENCE + parts.activations + LOGITS + CONTEXT) * 11 / 10);
    let with_encoders = MemoryEstimate { encoders: 1 << 30, ..parts };
    assert_eq!(with_encoders.total() - parts.total(), (11 << 30) / 10);
}

#[test]
fn every_encoder_and_classifier_is_counted_in_its_format() {
    let formats = |work: &Work| planned(work).encoders().into_iter().map(|(_, dtype)| dtype).collect::<Vec<_>>();
    for work in [grpo(), eval()] {
        assert_eq!(formats(&work), [Dtype::Float32, Dtype::Bfloat16]);
    }
    assert_eq!(formats(&arena()), [Dtype::Bfloat16]);
    assert!(formats(&cpt()).is_empty());
}

#[test]
fn estimates_for_a_cpu_share_prompts_and_keep_32_bits() {
    // Computed by hand from the formulas that the estimates for a GPU left as they were.
    for (work, mebibytes) in [(cpt(), 45_762), (sft(), 45_762), (grpo(), 46_466), (eval(), 25_161)] {
        assert_eq!(estimate(&work, Processor::Cpu).total() >> 20, mebibytes, "{:?}", work.kind());
    }
    assert_eq!(estimate(&grpo(), Processor::Cpu).kv_cache, (48 + 8) * 512 * 2 * TOKEN);
}
