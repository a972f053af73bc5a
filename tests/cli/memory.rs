//! Stages that cannot fit into memory are refused before the run begins, with the setting to change.

use crate::env::{RECIPE, TestEnv};
use crate::scheduling::both_start;

/// Returns the estimated peak of stage `base` in bytes, with rows of `seq_len` tokens.
fn needed(env: &TestEnv, seq_len: u64, checkpointing: &str) -> u64 {
    let settings = settings(seq_len, checkpointing);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    planned(env, "base", &settings)
}

/// Returns the estimated peak of a stage in bytes.
fn planned(env: &TestEnv, stage: &str, settings: &[&str]) -> u64 {
    let plan = env.run(&[&["plan", "small.toml", "--json"][..], settings].concat()).ends_with(0).json();
    plan.iter().find(|line| line["stage"] == stage).unwrap()["memory_bytes"].as_u64().unwrap()
}

fn settings(seq_len: u64, checkpointing: &str) -> Vec<String> {
    let set = |text: String| ["--set".to_owned(), text];
    [
        set(format!("stages.base.seq_len={seq_len}")),
        set(format!("runtime.gradient_checkpointing=\"{checkpointing}\"")),
        set("runtime.device=\"cpu\"".to_owned()),
    ]
    .concat()
}

/// Returns the `seq_len` for which the stage needs `share` of the machine's memory without checkpointing.
fn seq_len_for(env: &TestEnv, share: f64) -> u64 {
    let info = fs_err::read_to_string("/proc/meminfo").unwrap();
    let kib: f64 = info.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().find_map(|path| fs_err::read_to_string(path).ok()?.trim().parse::<f64>().ok());
    let bytes = (kib * 1024.0).min(limit.unwrap_or(f64::INFINITY));
    let per_token = (needed(env, 2_000_000, "off") - needed(env, 1_000_000, "off")) as f64 / 1e6;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "lengths are positive")]
    let seq_len = (share * bytes / per_token) as u64;
    seq_len
}

#[test]
fn longer_rows_need_more_and_checkpointing_needs_less() {
    let env = TestEnv::new();
    assert!(needed(&env, 4096, "off") > needed(&env, 512, "off"));
    assert!(needed(&env, 100_000, "on") < needed(&env, 100_000, "off"));
    let tree = env.run(&["plan", "small.toml"]).ends_with(0).stdout;
    assert!(tree.contains("memory") && tree.contains("GiB"), "{tree}");
}

#[test]
fn what_cannot_fit_is_refused_and_what_fits_with_checkpointing_runs_with_it() {
    let env = TestEnv::new();
    let tight = seq_len_for(&env, 1.2);
    let check = |seq_len: u64, checkpointing: &str| {
        let settings = settings(seq_len, checkpointing);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        env.run(&[&["check", "small.toml"][..], &settings].concat())
    };
    check(tight, "off").ends_with(3).says(&["`base` needs about", "activations", "gradient_checkpointing"]);
    check(tight, "auto").ends_with(0);
    let far = seq_len_for(&env, 50.0);
    check(far, "auto").ends_with(3).says(&["`base` needs about", "micro_batch_size"]);
    env.run(&["run", "small.toml", "--set", &format!("stages.base.seq_len={far}")]).ends_with(3).says(&["GiB"]);
    assert!(!env.path("runs/log").exists(), "something began");
}

#[test]
fn stages_that_do_not_fit_beside_each_other_run_one_after_the_other() {
    for (share, together) in [(0.6, false), (0.3, true)] {
        let env = TestEnv::new();
        let seq_len = seq_len_for(&env, share);
        let mut set = settings(seq_len, "off");
        set.extend(["--set".to_owned(), format!("stages.other.seq_len={seq_len}"), "-j".to_owned(), "2".to_owned()]);
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        assert_eq!(both_start(&env, &set), together, "each needs {share} of the memory");
    }
}

/// A stage whose completions an encoder rates.
const RATED: &str = r#"
[data.questions]
path = "data/rows.jsonl"
prompt = "{{ q }}"
reference = "{{ a }}"

[stages.rated]
kind = "eval"
data = "questions"
split = "all"

[stages.rated.rewards.semantic]
encoder = "models/encoder"
"#;

#[test]
fn a_stage_on_a_gpu_also_holds_its_context_and_its_encoder() {
    let env = TestEnv::new();
    env.write("small.toml", &[RECIPE, RATED].concat());
    env.write("models/encoder/config.json", "{}");
    env.write("models/encoder/tokenizer.json", "{}");
    let needed = |weights: u64, device: &str, dtype: &str| {
        let header = format!(r#"{{"a": {{"dtype": "F32", "shape": [{weights}], "data_offsets": [0, 0]}}}}"#);
        let length = char::from(u8::try_from(header.len()).unwrap());
        env.write("models/encoder/model.safetensors", &format!("{length}\0\0\0\0\0\0\0{header}"));
        let dtype = format!("stages.rated.rewards.semantic.dtype={dtype:?}");
        planned(&env, "rated", &["--set", &format!("runtime.device={device:?}"), "--set", &dtype])
    };
    let on_gpu = |weights: u64, dtype: &str| needed(weights, "cuda:0", dtype);
    let (million, more) = (on_gpu(1_000_000, "float32"), on_gpu(6_000_000, "float32"));
    assert_eq!(more - million, 5_000_000 * 4 * 11 / 10);
    assert_eq!(million - on_gpu(1_000_000, "bfloat16"), 1_000_000 * 2 * 11 / 10);
    let on_cpu = needed(1_000_000, "cpu", "float32");
    assert_eq!(on_cpu, needed(6_000_000, "cpu", "float32"));
    assert!(million > on_cpu + (1 << 30), "{million} bytes on a GPU, {on_cpu} on a CPU");
}
