//! `orchestrate-worker self-test` and `scripts/gpu-check.sh`, which GPU hosts run, on the CPU.

use crate::golden;
use std::path::PathBuf;
use std::process::{Command, Output};

fn self_test(device: &str, golden: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_orchestrate-worker"))
        .args(["self-test", "--device", device, "--golden", golden])
        .output()
        .unwrap()
}

#[test]
fn every_check_of_the_self_test_passes_on_the_cpu() {
    let output = self_test("cpu", golden::path("").to_str().unwrap());
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    for check in [
        "parity, qwen3, float32",
        "parity, llama with a PEFT adapter, bfloat16",
        "parity, bert embeddings",
        "grpo self-test/bfloat16",
        "resume after a kill, sft self-test/float32: the same to the bit",
        "resume after a kill, sft self-test/bfloat16: the same to the bit",
        "real widths, float32: ",
        "real widths, bfloat16: ",
        "every check passed",
    ] {
        assert!(text.contains(check), "`{check}` was not checked:\n{text}");
    }
}

#[test]
fn a_self_test_that_cannot_be_done_says_so() {
    let output = self_test("cpu", "/nowhere");
    assert_eq!(output.status.code(), Some(10));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere"), "{output:?}");
    assert_eq!(self_test("tpu", "tests/golden").status.code(), Some(2));
}

#[test]
fn the_gpu_check_skips_where_there_is_no_driver() {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts/gpu-check.sh");
    let tools = tempfile::tempdir().unwrap(); // a PATH without nvidia-smi
    for tool in ["bash", "dirname"] {
        let found =
            ["/usr/bin", "/bin"].map(|dir| PathBuf::from(dir).join(tool)).into_iter().find(|path| path.exists());
        std::os::unix::fs::symlink(found.unwrap(), tools.path().join(tool)).unwrap();
    }
    let output = Command::new(tools.path().join("bash"))
        .arg(script)
        .arg(env!("CARGO_BIN_EXE_orchestrate-worker"))
        .env("PATH", tools.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.starts_with("skipped: "), "{output:?}");
}
