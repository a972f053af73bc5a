//! The layers of a decoder on the weights' memory, and the rows that are decoded.

use super::attention::{Span, attend, sum_of_squares};
use super::linear::{Adapter, Matrix, Projection, Store, project, project_gated};
use crate::models::decoder::Decoder;
use crate::models::kv_cache::PromptCache;
use crate::models::layers::{Layer, Linear, RmsNorm};
use half::bf16;
use rayon::prelude::*;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// A decoder's weights in the form that the kernels read, with the rows that are being decoded.
pub struct CpuDecoding<'a> {
    pub(in crate::models) decoder: &'a Decoder,
    layers: Vec<CpuLayer<'a>>,
    norm: Norm,
    embed_tokens: Matrix<'a>, // (V, C)
    head: Projection<'a>,
    cos: Vec<f32>, // (max positions, D)
    sin: Vec<f32>, // (max positions, D), the first half negated
    hidden_size: usize,
    head_dim: usize,
    max_new_tokens: usize,
    pool: rayon::ThreadPool,
    rows: Vec<CachedRow>,
    /// Caches of ended rows, for reuse by new rows.
    free: Vec<Vec<Vec<HeadCache>>>,
}

pub(super) struct CpuLayer<'a> {
    input_layernorm: Norm,
    q_proj: Projection<'a>,
    k_proj: Projection<'a>,
    v_proj: Projection<'a>,
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    o_proj: Projection<'a>,
    post_attention_layernorm: Norm,
    gate_proj: Projection<'a>,
    up_proj: Projection<'a>,
    down_proj: Projection<'a>,
}

pub(super) struct Norm {
    weight: Vec<f32>,
    eps: f32,
}

/// Keys and values of a prompt, shared by the rows that continue it.
pub(in crate::models) struct CpuPrompt {
    layers: Vec<(Vec<f32>, Vec<f32>)>, // each (K, n, D)
    length: usize,
}

/// A row: its prompt, with the keys and values of its own tokens.
pub(super) struct CachedRow {
    prompt: Arc<CpuPrompt>,
    /// Position of the row's next token.
    position: usize,
    layers: Vec<Vec<HeadCache>>, // by layer and key-value head
}

/// Keys and values of a row's own tokens in one key-value head, allocated for the maximum number of tokens.
pub(super) struct HeadCache {
    keys: Vec<f32>,   // (tokens, D)
    values: Vec<f32>, // (tokens, D)
}

impl<'a> CpuDecoding<'a> {
    /// Creates a state without rows. Each row will have room for `max_new_tokens`.
    pub(in crate::models) fn new(decoder: &'a Decoder, max_new_tokens: usize) -> Self {
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
        let size = |n: i64| usize::try_from(n).expect("sizes are positive");
        let (vocabulary, hidden_size) = (size(decoder.config.vocab_size), size(decoder.config.hidden_size));
        Self {
            decoder,
            layers: decoder.layers.iter().map(layer).collect(),
            norm: norm(&decoder.norm),
            embed_tokens: matrix(&decoder.embed_tokens),
            head: Projection {
                weight: matrix(decoder.head()),
                out_features: vocabulary,
                in_features: hidden_size,
                bias: None,
                adapter: None,
            },
            cos: to_vec(&decoder.rotary.cos),
            sin: to_vec(&decoder.rotary.sin),
            hidden_size,
            head_dim: size(decoder.config.head_dim),
            max_new_tokens,
            pool,
            rows: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Adds a row that continues `prompt`, after the other rows.
    pub(in crate::models) fn enter(&mut self, prompt: Arc<CpuPrompt>) {
        let room = self.max_new_tokens * self.head_dim;
        let layers = self.free.pop().unwrap_or_else(|| {
            let cache = || HeadCache { keys: Vec::with_capacity(room), values: Vec::with_capacity(room) };
            let heads = |layer: &CpuLayer<'_>| layer.k_proj.out_features / self.head_dim;
            self.layers.iter().map(|layer| (0..heads(layer)).map(|_| cache()).collect()).collect()
        });
        self.rows.push(CachedRow { position: prompt.length, prompt, layers });
    }

    /// Keeps only these rows, given in ascending order.
    pub(in crate::models) fn keep(&mut self, rows: &[usize]) {
        let (mut kept, mut index) = (rows.iter().copied().peekable(), 0..);
        for row in self.rows.extract_if(.., |_| kept.next_if_eq(&index.next().expect("counting goes on")).is_none()) {
            let mut layers = row.layers;
            for cache in layers.iter_mut().flatten() {
                cache.keys.clear();
                cache.values.clear();
            }
            self.free.push(layers);
        }
    }

    pub(in crate::models) fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }

    /// Adds a token to each row and returns the next logits. // (B,) -> (B, V)
    pub(in crate::models) fn decode(&mut self, input_ids: &[i64]) -> Tensor {
        let count = self.rows.len();
        assert_eq!(input_ids.len(), count, "every row gets one token");
        let mut logits =
            Tensor::empty([i64_of(count), i64_of(self.head.out_features)], (Kind::Float, tch::Device::Cpu));
        let Self { layers, norm, embed_tokens, head, cos, sin, hidden_size, head_dim, pool, rows, .. } = self;
        let c = *hidden_size;
        let mut x = vec![0.0; count * c]; // (B, C)
        for (x, &id) in x.chunks_exact_mut(c).zip(input_ids) {
            embed_tokens.row(usize::try_from(id).expect("token ids are positive"), x);
        }
        pool.install(|| {
            for (index, layer) in layers.iter().enumerate() {
                layer.decode(index, &mut x, rows, *head_dim, cos, sin);
            }
            let normed = norm.forward(&x);
            project(&normed, count, &[head], &mut [floats_mut(&mut logits)], Store::Set);
        });
        for row in rows {
            row.position += 1;
        }
        logits
    }
}

impl CpuLayer<'_> {
    fn decode(&self, index: usize, x: &mut [f32], rows: &mut [CachedRow], head_dim: usize, cos: &[f32], sin: &[f32]) {
        let count = rows.len();
        let (q_size, kv_size) = (self.q_proj.out_features, self.k_proj.out_features);
        let normed = self.input_layernorm.forward(x);
        let (mut q, mut k, mut v) = (vec![0.0; count * q_size], vec![0.0; count * kv_size], vec![0.0; count * kv_size]);
        let projections = [&self.q_proj, &self.k_proj, &self.v_proj];
        project(&normed, count, &projections, &mut [&mut q, &mut k, &mut v], Store::Set);

        // the query heads of a key-value head are adjacent, (B, K, H / K * D)
        let group = q_size / (kv_size / head_dim);
        let heads: Vec<Head<'_>> = rows
            .iter_mut()
            .flat_map(|row| {
                let at = row.position * head_dim..(row.position + 1) * head_dim;
                let (cos, sin) = (&cos[at.clone()], &sin[at]);
                let prompt = &row.prompt;
                row.layers[index].iter_mut().enumerate().map(move |(head, cache)| Head {
                    prompt: prompt.span(index, head, head_dim),
                    cache,
                    cos,
                    sin,
                })
            })
            .collect();
        let mut y = vec![0.0; count * q_size];
        heads
            .into_par_iter()
            .zip(q.par_chunks_exact_mut(group))
            .zip(k.par_chunks_exact_mut(head_dim).zip(v.par_chunks_exact(head_dim)))
            .zip(y.par_chunks_exact_mut(group))
            .for_each_init(Vec::new, |scores, (((head, q), (k, v)), y)| {
                head.turn(k, self.k_norm.as_ref());
                head.cache.keys.extend_from_slice(k);
                head.cache.values.extend_from_slice(v);
                let own = Span { keys: &head.cache.keys, values: &head.cache.values };
                for (q, y) in q.chunks_exact_mut(head_dim).zip(y.chunks_exact_mut(head_dim)) {
                    head.turn(q, self.q_norm.as_ref());
                    attend(q, &[head.prompt, own], scores, y);
                }
            });
        project(&y, count, &[&self.o_proj], &mut [x], Store::Add);

        let normed = self.post_attention_layernorm.forward(x);
        let mut gated = vec![0.0; count * self.gate_proj.out_features];
        project_gated(&normed, count, &self.gate_proj, &self.up_proj, &mut gated);
        project(&gated, count, &[&self.down_proj], &mut [x], Store::Add);
    }
}

/// One key-value head of one row in one layer.
pub(super) struct Head<'a> {
    prompt: Span<'a>,
    cache: &'a mut HeadCache,
    cos: &'a [f32], // (D,)
    sin: &'a [f32], // (D,)
}

impl Head<'_> {
    /// Applies the norm and the rotation to one head, like [`crate::models::rotary::Rotation::apply`]. // (D,)
    fn turn(&self, x: &mut [f32], norm: Option<&Norm>) {
        if let Some(norm) = norm {
            let normed = norm.forward(x);
            x.copy_from_slice(&normed);
        }
        let half = x.len() / 2;
        let (low, high) = x.split_at_mut(half);
        for i in 0..half {
            let (a, b) = (low[i], high[i]);
            low[i] = a * self.cos[i] + b * self.sin[i];
            high[i] = b * self.cos[half + i] + a * self.sin[half + i];
        }
    }
}

impl Norm {
    /// Normalizes every row of `x`. // (M, C) -> (M, C)
    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let size = self.weight.len();
        let mut y = Vec::with_capacity(x.len());
        for row in x.chunks_exact(size) {
            let scale = 1.0 / (sum_of_squares(row) / size as f32 + self.eps).sqrt();
            y.extend(row.iter().zip(&self.weight).map(|(x, weight)| x * scale * weight));
        }
        y
    }
}

impl Matrix<'_> {
    /// Writes row `index` to `to`, in 32 bits.
    fn row(&self, index: usize, to: &mut [f32]) {
        let range = index * to.len()..(index + 1) * to.len();
        match self {
            Self::Float(values) => to.copy_from_slice(&values[range]),
            Self::Bfloat16(values) => {
                for (to, value) in to.iter_mut().zip(&values[range]) {
                    *to = value.to_f32();
                }
            }
        }
    }
}

impl CpuPrompt {
    pub(in crate::models) fn new(cache: &PromptCache) -> Self {
        let by_head = |t: &Tensor| to_vec(&t.transpose(0, 1)); // (n, K, D) -> (K, n, D)
        let layers = cache.layers.iter().map(|(keys, values)| (by_head(keys), by_head(values))).collect();
        Self { layers, length: cache.length() }
    }

    fn span(&self, layer: usize, head: usize, head_dim: usize) -> Span<'_> {
        let (keys, values) = &self.layers[layer];
        let size = self.length * head_dim;
        let at = head * size..(head + 1) * size;
        Span { keys: &keys[at.clone()], values: &values[at] }
    }
}

pub(super) fn layer(layer: &Layer) -> CpuLayer<'_> {
    let (attention, mlp) = (&layer.self_attn, &layer.mlp);
    CpuLayer {
        input_layernorm: norm(&layer.input_layernorm),
        q_proj: projection(&attention.q_proj),
        k_proj: projection(&attention.k_proj),
        v_proj: projection(&attention.v_proj),
        q_norm: attention.q_norm.as_ref().map(norm),
        k_norm: attention.k_norm.as_ref().map(norm),
        o_proj: projection(&attention.o_proj),
        post_attention_layernorm: norm(&layer.post_attention_layernorm),
        gate_proj: projection(&mlp.gate_proj),
        up_proj: projection(&mlp.up_proj),
        down_proj: projection(&mlp.down_proj),
    }
}

pub(super) fn projection(linear: &Linear) -> Projection<'_> {
    let (out, input) = linear.weight.size2().expect("a linear weight is (out, in)");
    let size = |n: i64| usize::try_from(n).expect("sizes are positive");
    Projection {
        weight: matrix(&linear.weight),
        out_features: size(out),
        in_features: size(input),
        bias: linear.bias.as_ref().map(to_vec),
        adapter: linear.lora.as_ref().map(|lora| Adapter {
            a: floats(&lora.a),
            b: floats(&lora.b),
            rank: size(lora.a.size()[0]),
            scale: lora.scale() as f32,
        }),
    }
}

pub(super) fn norm(norm: &RmsNorm) -> Norm {
    Norm { weight: to_vec(&norm.weight), eps: norm.eps as f32 }
}

pub(super) fn matrix(tensor: &Tensor) -> Matrix<'_> {
    match tensor.kind() {
        Kind::Float => Matrix::Float(floats(tensor)),
        Kind::BFloat16 => {
            assert!(tensor.is_contiguous() && tensor.device() == tch::Device::Cpu, "weights lie row by row on the CPU");
            #[expect(unsafe_code, reason = "tch has no borrowed view of a tensor's numbers")]
            // SAFETY: the tensor is contiguous, on the CPU and of this kind, and is borrowed as long as the slice.
            Matrix::Bfloat16(unsafe { std::slice::from_raw_parts(tensor.data_ptr() as *const bf16, tensor.numel()) })
        }
        kind => unreachable!("weights are held in 32 bits or bfloat16, not {kind:?}"),
    }
}

/// Returns the numbers of a 32-bit tensor.
pub(super) fn floats(tensor: &Tensor) -> &[f32] {
    check_floats(tensor);
    #[expect(unsafe_code, reason = "tch has no borrowed view of a tensor's numbers")]
    // SAFETY: the tensor is contiguous, on the CPU and of this kind, and is borrowed as long as the slice.
    unsafe {
        std::slice::from_raw_parts(tensor.data_ptr() as *const f32, tensor.numel())
    }
}

pub(super) fn check_floats(tensor: &Tensor) {
    assert!(tensor.kind() == Kind::Float && tensor.is_contiguous() && tensor.device() == tch::Device::Cpu);
}

/// Returns the numbers of a 32-bit tensor for writing.
pub(super) fn floats_mut(tensor: &mut Tensor) -> &mut [f32] {
    check_floats(tensor);
    #[expect(unsafe_code, reason = "tch has no borrowed view of a tensor's numbers")]
    // SAFETY: the tensor is contiguous, on the CPU and of this kind, and is mutably borrowed as long as the slice.
    unsafe {
        std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), tensor.numel())
    }
}

pub(super) fn to_vec(tensor: &Tensor) -> Vec<f32> {
    floats(&tensor.detach().to_kind(Kind::Float).to_device(tch::Device::Cpu).contiguous()).to_vec()
}

pub(super) fn i64_of(n: usize) -> i64 {
    i64::try_from(n).expect("sizes fit i64")
}
