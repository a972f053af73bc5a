//! The capabilities of this machine's CPU that affect the program's choices.
//!
//! `ATEN_CPU_CAPABILITY` (`default`, `avx2`, `avx512`) limits the instructions of libtorch. The engine's own kernels
//! follow it. `ONEDNN_MAX_CPU_ISA` limits those of oneDNN, which multiplies bfloat16 matrices inside libtorch. Together
//! they make a CPU with wide instructions behave like one without.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

const CAPABILITY: &str = "ATEN_CPU_CAPABILITY";
const ONEDNN_LIMITS: [&str; 2] = ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"];

/// The environment variable that selects the library for products of 32-bit matrices: `mkl` or `onednn`.
const FLOAT32_PRODUCTS: &str = "ORCHESTRATE_FLOAT32_PRODUCTS";

/// The instruction set for which kernels are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instructions {
    /// The instructions that every CPU has.
    Portable,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// AVX-512: F, BW, VL and DQ.
    Avx512,
}

impl Instructions {
    /// Returns the name of the instruction set in events and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

/// The library that multiplies 32-bit matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Float32Products {
    /// Intel MKL, which libtorch uses by default.
    Mkl,
    /// oneDNN, which is faster on AMD CPUs with AVX2, as measured on Zen 3.
    Onednn,
}

impl Float32Products {
    /// Returns the library's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mkl => "MKL",
            Self::Onednn => "oneDNN",
        }
    }
}

/// The CPU's capabilities, limited by the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// The widest instruction set that may be used.
    pub instructions: Instructions,
    /// The library that multiplies 32-bit matrices.
    pub float32_products: Float32Products,
    /// Whether libtorch multiplies bfloat16 matrices at least as fast as 32-bit ones.
    pub fast_bfloat16: bool,
    /// The reason why bfloat16 products are slow; absent where they are fast.
    pub why_slow: Option<String>,
}

/// An error of the environment variables, which ask for something unavailable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChoice {
    /// The CPU does not have these instructions, so libtorch would crash.
    #[error("{CAPABILITY} asks for {0}, which this CPU does not have")]
    MissingInstructions(&'static str),
    /// The library is unknown.
    #[error("{FLOAT32_PRODUCTS}: expected `mkl` or `onednn`, found `{0}`")]
    UnknownLibrary(String),
}

impl BadChoice {
    /// Advice about the error.
    pub const HINT: &str = "unset the variable: the fastest that the CPU can do is the default";
}

static CPU: LazyLock<Result<Cpu, BadChoice>> =
    LazyLock::new(|| Cpu::with(|name| std::env::var(name).ok(), &Found::here()));

/// Returns the capabilities of the CPU of this process.
///
/// # Errors
/// The environment asks for something that the CPU or the program does not support.
pub fn cpu() -> Result<&'static Cpu, &'static BadChoice> {
    CPU.as_ref()
}

/// Returns the instructions that kernels may use; the portable ones when the environment asks for unavailable ones.
pub fn instructions() -> Instructions {
    CPU.as_ref().map_or(Instructions::Portable, |cpu| cpu.instructions)
}

/// Returns the library that multiplies 32-bit matrices.
pub fn float32_products() -> Float32Products {
    CPU.as_ref().map_or(Float32Products::Mkl, |cpu| cpu.float32_products)
}

/// The capabilities of the CPU itself.
struct Found {
    instructions: Instructions,
    avx512_bf16: bool,
    amx_bf16: bool,
    is_amd: bool,
}

impl Found {
    #[cfg(target_arch = "x86_64")]
    fn here() -> Self {
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq");
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let instructions = match (avx512, avx2) {
            (true, _) => Instructions::Avx512,
            (false, true) => Instructions::Avx2,
            (false, false) => Instructions::Portable,
        };
        // Bit 22 of EDX in CPUID leaf 7 is AMX-BF16, which the standard library cannot detect yet.
        let amx_bf16 = std::arch::x86_64::__cpuid_count(7, 0).edx & (1 << 22) != 0;
        // CPUID leaf 0 has the name of the vendor.
        let maker = std::arch::x86_64::__cpuid(0);
        let is_amd = [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD";
        Self { instructions, avx512_bf16: avx512 && is_x86_feature_detected!("avx512bf16"), amx_bf16, is_amd }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn here() -> Self {
        Self { instructions: Instructions::Portable, avx512_bf16: false, amx_bf16: false, is_amd: false }
    }
}

impl Cpu {
    /// Limits the capabilities `found` by the environment.
    fn with(variable: impl Fn(&str) -> Option<String>, found: &Found) -> Result<Self, BadChoice> {
        let mut instructions = found.instructions;
        if let Some(wanted) = variable(CAPABILITY) {
            let wanted = match wanted.to_ascii_lowercase().as_str() {
                "avx512" => Instructions::Avx512,
                "avx2" => Instructions::Avx2,
                "default" => Instructions::Portable,
                _ => found.instructions, // libtorch ignores unknown values
            };
            if wanted > found.instructions {
                let name = if wanted == Instructions::Avx512 { "AVX-512" } else { "AVX2" };
                return Err(BadChoice::MissingInstructions(name));
            }
            instructions = wanted;
        }
        let limit = ONEDNN_LIMITS.into_iter().find_map(|name| Some((name, variable(name)?)));
        let float32_products = match variable(FLOAT32_PRODUCTS).as_deref() {
            Some("mkl") => Float32Products::Mkl,
            Some("onednn") => Float32Products::Onednn,
            Some(other) => return Err(BadChoice::UnknownLibrary(other.to_owned())),
            None if found.is_amd && instructions == Instructions::Avx2 && limit.is_none() => Float32Products::Onednn,
            None => Float32Products::Mkl,
        };
        let limit = limit.filter(|(_, value)| lacks_bfloat16(value));
        let why_slow = if !found.avx512_bf16 && !found.amx_bf16 {
            Some("the CPU has neither AVX512-BF16 nor AMX-BF16".to_owned())
        } else if instructions < Instructions::Avx512 {
            Some(format!("{CAPABILITY} forbids AVX-512"))
        } else {
            limit.map(|(name, value)| format!("{name}={value} forbids AVX512-BF16 and AMX"))
        };
        Ok(Self { instructions, float32_products, fast_bfloat16: why_slow.is_none(), why_slow })
    }
}

/// Whether a limit of `oneDNN`'s instructions excludes those for bfloat16.
fn lacks_bfloat16(limit: &str) -> bool {
    let limit = limit.to_ascii_uppercase();
    limit.starts_with("SSE")
        || limit.starts_with("AVX2")
        || ["AVX", "AVX512_CORE", "AVX512_CORE_VNNI"].contains(&limit.as_str())
}

/// How a CPU multiplies with weights that are held in bfloat16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bfloat16Products {
    /// In bfloat16 on a CPU with AVX512-BF16 or AMX, else widened.
    #[default]
    Auto,
    /// In bfloat16, by libtorch. Without AVX512-BF16 or AMX this takes 7 to 60 times as long.
    Native,
    /// In 32 bits; each weight is widened whenever it is used.
    Widened,
}

impl Bfloat16Products {
    /// Whether weights are widened. `is_fast` says whether the CPU's own bfloat16 product is fast.
    pub fn widens(self, is_fast: bool) -> bool {
        match self {
            Self::Auto => !is_fast,
            Self::Native => false,
            Self::Widened => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILAN: Found = Found { instructions: Instructions::Avx2, avx512_bf16: false, amx_bf16: false, is_amd: true };
    const SAPPHIRE_RAPIDS: Found =
        Found { instructions: Instructions::Avx512, avx512_bf16: true, amx_bf16: true, is_amd: false };

    fn under(found: &Found, variables: &[(&str, &str)]) -> Result<Cpu, BadChoice> {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Cpu::with(find, found)
    }

    #[test]
    fn bfloat16_is_fast_where_the_cpu_has_instructions_for_it_and_the_environment_allows_them() {
        assert!(under(&SAPPHIRE_RAPIDS, &[]).unwrap().fast_bfloat16);
        assert!(under(&SAPPHIRE_RAPIDS, &[("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")]).unwrap().fast_bfloat16);
        for (found, variables, why) in [
            (&MILAN, vec![], "neither AVX512-BF16 nor AMX"),
            (&SAPPHIRE_RAPIDS, vec![("ATEN_CPU_CAPABILITY", "avx2")], "ATEN_CPU_CAPABILITY"),
            (&SAPPHIRE_RAPIDS, vec![("ONEDNN_MAX_CPU_ISA", "avx2")], "ONEDNN_MAX_CPU_ISA=avx2"),
            (&SAPPHIRE_RAPIDS, vec![("DNNL_MAX_CPU_ISA", "AVX512_CORE")], "DNNL_MAX_CPU_ISA=AVX512_CORE"),
        ] {
            let cpu = under(found, &variables).unwrap();
            assert!(!cpu.fast_bfloat16 && cpu.why_slow.as_ref().unwrap().contains(why), "{variables:?}: {cpu:?}");
        }
    }

    #[test]
    fn onednn_multiplies_on_amds_narrow_cpus_unless_it_is_limited_or_the_user_chooses() {
        let products = |found, variables: &[(&str, &str)]| under(found, variables).unwrap().float32_products;
        assert_eq!(products(&MILAN, &[]), Float32Products::Onednn);
        assert_eq!(products(&MILAN, &[("ONEDNN_MAX_CPU_ISA", "SSE41")]), Float32Products::Mkl);
        assert_eq!(products(&MILAN, &[("ATEN_CPU_CAPABILITY", "default")]), Float32Products::Mkl);
        assert_eq!(products(&MILAN, &[(FLOAT32_PRODUCTS, "mkl")]), Float32Products::Mkl);
        assert_eq!(products(&SAPPHIRE_RAPIDS, &[]), Float32Products::Mkl);
        assert_eq!(products(&SAPPHIRE_RAPIDS, &[(FLOAT32_PRODUCTS, "onednn")]), Float32Products::Onednn);
        let error = under(&MILAN, &[(FLOAT32_PRODUCTS, "blas")]).unwrap_err();
        assert_eq!(error.to_string(), "ORCHESTRATE_FLOAT32_PRODUCTS: expected `mkl` or `onednn`, found `blas`");
    }

    #[test]
    fn instructions_that_are_not_there_are_refused() {
        assert_eq!(under(&MILAN, &[("ATEN_CPU_CAPABILITY", "default")]).unwrap().instructions, Instructions::Portable);
        assert_eq!(under(&SAPPHIRE_RAPIDS, &[]).unwrap().instructions, Instructions::Avx512);
        let error = under(&MILAN, &[("ATEN_CPU_CAPABILITY", "avx512")]).unwrap_err();
        assert_eq!(error.to_string(), "ATEN_CPU_CAPABILITY asks for AVX-512, which this CPU does not have");
    }
}
