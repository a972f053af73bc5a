//! Parity with values of other implementations, recorded in 32 bits on a CPU.

use super::Report;
use crate::adapter;
use crate::encoder::Encoder;
use crate::error::{StageError, StageResult};
use crate::models::{Decoder, Packed};
use crate::weights::load_tensors;
use orchestrate_core::rewards::TextEncoder as _;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Maximum difference of logits and embeddings in 32 bits.
const FLOAT32: f64 = 1e-3;
/// Maximum mean difference of logits in 16 bits, as a fraction of their standard deviation. bfloat16 keeps 8 bits of
/// each number. The sums of two layers lose about one more.
const BFLOAT16: f64 = 0.03;

pub(super) fn run(report: &mut Report, golden: &Path, project: &Path, device: Device) -> StageResult<()> {
    for name in ["llama", "llama_tied", "llama3_rope", "qwen2", "qwen3"] {
        let dir = golden.join("decoders").join(name);
        let expected = load_tensors(&dir.join("golden.safetensors"))?;
        decoder(report, name, &dir, None, &expected, device)?;
    }
    let expected = load_tensors(&golden.join("lora/golden.safetensors"))?;
    let adapter = golden.join("lora");
    decoder(report, "llama with a PEFT adapter", &golden.join("decoders/llama"), Some(&adapter), &expected, device)?;

    report.check("parity, bert embeddings, float32", || encoder(&project.join("encoder"), device))?;
    Ok(())
}

/// Embeddings of texts together on `device` against each alone on the CPU, which the engine's tests hold to the peers'.
fn encoder(dir: &Path, device: Device) -> StageResult<(bool, String)> {
    let texts = ["42", "The heart pumps blood.", "Il cuore umano ha quattro cavità: due atri e due ventricoli."];
    let embed = |device: Device, texts: &[&str]| {
        let embedded = Encoder::load(dir, device, Kind::Float)?.embed(texts);
        embedded.map_err(|e| StageError::input(format!("the encoder failed: {e}")))
    };
    let together = embed(device, &texts)?;
    let mut off: f64 = 0.0;
    for (text, ours) in texts.iter().zip(&together) {
        let alone = embed(Device::Cpu, &[text])?;
        let difference = (Tensor::from_slice(ours) - Tensor::from_slice(&alone[0])).abs().max().double_value(&[]);
        off = if difference.is_nan() { f64::INFINITY } else { off.max(difference) };
    }
    Ok((off < FLOAT32, format!("largest difference {off:.1e}")))
}

fn decoder(
    report: &mut Report,
    name: &str,
    dir: &Path,
    adapter: Option<&Path>,
    expected: &BTreeMap<String, Tensor>,
    device: Device,
) -> StageResult<()> {
    let ids = tensor(expected, "input_ids")?;
    let rows = Vec::<Vec<i64>>::try_from(ids).map_err(|e| StageError::input(format!("golden `input_ids`: {e}")))?;
    let theirs = tensor(expected, "logits")?.to_device(device);
    let logits = |kind: Kind| -> StageResult<Tensor> {
        let mut decoder = Decoder::load(dir, kind, device)?;
        if let Some(adapter) = adapter {
            adapter::attach(adapter, &mut decoder)?;
        }
        let hidden = tch::no_grad(|| decoder.hidden(&Packed::new(&rows, device)));
        Ok(tch::no_grad(|| decoder.logits(&hidden)).view_as(&theirs).to_kind(Kind::Float))
    };
    report.check(&format!("parity, {name}, float32"), || {
        let off = (logits(Kind::Float)? - &theirs).abs().max().double_value(&[]);
        Ok((off < FLOAT32, format!("largest difference {off:.1e}")))
    })?;
    report.check(&format!("parity, {name}, bfloat16"), || {
        let off = (logits(Kind::BFloat16)? - &theirs).abs().mean(Kind::Double) / theirs.std(true).to_kind(Kind::Double);
        let off = off.double_value(&[]);
        Ok((off < BFLOAT16, format!("mean difference {:.2}% of the standard deviation", 100.0 * off)))
    })?;
    Ok(())
}

fn tensor<'a>(tensors: &'a BTreeMap<String, Tensor>, name: &str) -> StageResult<&'a Tensor> {
    tensors.get(name).ok_or_else(|| StageError::input(format!("the golden values lack `{name}`")))
}
