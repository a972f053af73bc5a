//! bfloat16 on every CPU: results of a bfloat16 recipe where libtorch's own bfloat16 product is slow.

use crate::project::{Project, json_lines};
use orchestrate_core::cpu::Bfloat16Products;
use orchestrate_engine::products::{activations, bfloat16_products};
use orchestrate_engine::weights::{load_tensors, save_tensors};
use serde_json::Value;
use std::process::Output;
use tch::{Device, Kind};

const FORCED: &str = "ORCHESTRATE_RUNTIME__BFLOAT16_PRODUCTS";

/// Runs `orchestrate` with a forced kind of products, and counts libtorch's own bfloat16 products.
fn run(project: &Project, products: &str, args: &[&str]) -> Output {
    project.command(args).env(FORCED, products).env("ORCHESTRATE_COUNT_PRODUCTS", "1").output().unwrap()
}

#[track_caller]
fn succeed(project: &Project, products: &str, args: &[&str]) -> String {
    let output = run(project, products, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the pipeline of `recipes/demo.toml` in its tiny version. Returns for each stage the number of libtorch's
/// bfloat16 products, and the kind of products that the stage reports.
fn products_of_the_pipeline(products: &str, settings: &[&str]) -> Vec<(String, u64, Value)> {
    let project = Project::new();
    let mut args = vec!["run", "recipes/tiny.toml", "--set", "model.dtype=bfloat16", "--set"];
    args.push("stages.grpo.rewards.semantic.dtype=bfloat16");
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    succeed(&project, products, &args);
    let stages = fs_err::read_dir(project.path("runs/cache")).unwrap().map(|entry| entry.unwrap().path());
    stages
        .map(|dir| {
            let key: Value = serde_json::from_slice(&fs_err::read(dir.join("key.json")).unwrap()).unwrap();
            let log = fs_err::read_to_string(dir.join("worker.log")).unwrap();
            let counted = log.lines().find_map(|line| line.strip_prefix("bfloat16 products on the CPU: "));
            let events = json_lines(&fs_err::read_to_string(dir.join("events.jsonl")).unwrap());
            let started = events.iter().find(|event| !event["kind"]["started"].is_null()).unwrap();
            let told = started["kind"]["started"]["bfloat16_products"].clone();
            (key["kind"].as_str().unwrap().to_owned(), counted.expect(&log).parse().unwrap(), told)
        })
        .collect()
}

#[test]
fn a_recipe_in_bfloat16_takes_no_slow_product_when_they_are_widened() {
    for settings in [&[][..], &["stages.cpt.optimizer=muon", "stages.sft.optimizer=muon"]] {
        let stages = products_of_the_pipeline("widened", settings);
        assert_eq!(stages.len(), 6, "cpt, sft, and of each variant grpo and eval: {stages:?}");
        for (kind, count, told) in &stages {
            assert_eq!(*count, 0, "{kind} with {settings:?} computed {count} products in bfloat16");
            assert_eq!(told, "widened", "{kind}");
        }
    }
    let native = products_of_the_pipeline("native", &[]);
    assert!(native.iter().all(|(_, count, told)| *count > 0 && told == "native"), "the counter counts: {native:?}");
}

/// With bfloat16 weights and 32-bit products, results equal those of the rounded weights in 32 bits, bit for bit.
#[test]
fn widened_products_are_those_of_the_rounded_weights() {
    let project = Project::new();
    let (tiny, rounded) = (project.path("models/tiny"), project.path("models/rounded"));
    fs_err::create_dir_all(&rounded).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs_err::copy(tiny.join(name), rounded.join(name)).unwrap();
    }
    let weights = load_tensors(&tiny.join("model.safetensors")).unwrap();
    let weights: Vec<_> = weights.into_iter().map(|(name, weight)| (name, weight.to_kind(Kind::BFloat16))).collect();
    save_tensors(&rounded.join("model.safetensors"), &weights, &[("format", "pt")]).unwrap();
    project.write("texts.jsonl", "{\"text\":\"The heart pumps blood through the body.\"}\n{\"text\":\"42\"}\n");
    let logprobs = |model: &str, dtype: &str, products: &str| {
        let args = ["model", "logprobs", "--model", model, "--dtype", dtype, "--input", "texts.jsonl"];
        succeed(&project, products, &args)
    };
    let exact = logprobs("models/rounded", "float32", "auto");
    assert_eq!(logprobs("models/tiny", "bfloat16", "widened"), exact);
    assert_ne!(logprobs("models/tiny", "bfloat16", "native"), exact);
}

#[test]
fn a_choice_that_is_none_and_instructions_that_are_not_there_are_errors_at_the_start() {
    let project = Project::new();
    let output = run(&project, "narrow", &["run", "recipes/tiny.toml"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("widened") && stderr.contains("native"), "{stderr}");
    #[cfg(target_arch = "x86_64")]
    if !is_x86_feature_detected!("avx512f") {
        let args = ["run", "recipes/tiny.toml", "--only", "cpt"];
        let output = project.command(&args).env("ATEN_CPU_CAPABILITY", "avx512").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{stderr}");
        assert!(stderr.contains("ATEN_CPU_CAPABILITY asks for AVX-512, which this CPU does not have"), "{stderr}");
    }
}

#[test]
fn activations_follow_the_choice_on_the_cpu_alone() {
    let widened = bfloat16_products() == Bfloat16Products::Widened;
    let expected = if widened { Kind::Float } else { Kind::BFloat16 };
    assert_eq!(activations(Kind::BFloat16, Device::Cpu), expected);
    assert_eq!(activations(Kind::BFloat16, Device::Cuda(0)), Kind::BFloat16);
    assert_eq!(activations(Kind::Float, Device::Cpu), Kind::Float);
}
