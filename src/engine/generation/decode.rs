//! The decoding loop, which samples completions until all have ended.

use super::draw::{Drawn, draw};
use super::stop::Stop;
use crate::models::{Decoder, Decoding, NextLogits, Prompt};
use crate::seed;
use orchestrate_core::event::StopReason;
use orchestrate_core::recipe::spec::Sampling;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use std::time::Instant;
use tch::Tensor;

/// A prompt and the seeds of the completions to sample for it.
#[derive(Debug)]
pub struct Request<'a> {
    /// Tokens of the prompt, at least one.
    pub prompt_ids: &'a [i64],
    /// Seed of each completion, at least one.
    pub seeds: Vec<u64>,
}

/// A sampled completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Tokens of the completion, including the stop token.
    pub ids: Vec<i64>,
    /// Log-probability of each token under the policy, at the sampling temperature and over the whole vocabulary.
    /// Penalties, top-k, top-p and min-p are not applied.
    pub logprobs: Vec<f32>,
    /// Entropy of the distribution of each log-probability, in nats; empty unless [`Draws::entropies`].
    pub entropies: Vec<f32>,
    /// The reason why the completion ended.
    pub stop_reason: StopReason,
}

/// The settings of draws, and what is kept of their distributions.
#[derive(Clone, Copy, Debug)]
pub struct Draws<'a> {
    /// The settings.
    pub sampling: &'a Sampling,
    /// Whether the entropies of the distributions are computed. The draws have the same bits either way.
    pub entropies: bool,
}

impl<'a> From<&'a Sampling> for Draws<'a> {
    /// Keeps no entropies.
    fn from(sampling: &'a Sampling) -> Self {
        Self { sampling, entropies: false }
    }
}

/// Duration of sampling, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seconds {
    /// Seconds spent on reading prompts.
    pub prefill: f64,
    /// Seconds spent on drawing and decoding tokens.
    pub decode: f64,
}

/// A completion that is being decoded.
pub(super) struct DecodingRow {
    pub(super) request: usize,
    index: usize,
    rng: ChaCha8Rng,
    pub(super) sampled: Sampled,
}

/// Samples every completion of `requests`, at most `batch_size` at a time (0: all). Returns them in the order of the
/// requests and their seeds.
pub fn sample(
    decoder: &Decoder,
    requests: &[Request<'_>],
    sampling: &Sampling,
    stop: &Stop<'_>,
    batch_size: usize,
) -> Vec<Sampled> {
    sample_while(decoder, requests, sampling, stop, batch_size, |_| true).expect("`go_on` is always true")
}

/// Samples like [`sample`] as long as `go_on` returns true (see [`sample_groups`]). Returns `None` once it returns
/// false.
pub fn sample_while<'a>(
    decoder: &'a Decoder,
    requests: &[Request<'_>],
    draws: impl Into<Draws<'a>>,
    stop: &Stop<'_>,
    batch_size: usize,
    go_on: impl FnMut(f64) -> bool,
) -> Option<Vec<Sampled>> {
    let mut groups: Vec<Vec<Sampled>> = requests.iter().map(|_| Vec::new()).collect();
    let ended = |request: usize, group| groups[request] = group;
    sample_groups(Decoding::new, decoder, requests, draws, stop, batch_size, ended, go_on)?;
    Some(groups.into_iter().flatten().collect())
}

/// Samples every completion of `requests`, at most `batch_size` at a time (0: all). Passes the completions of a request
/// to `ended` as soon as the last of them has ended. Returns the time that sampling took.
///
/// `go_on` is called before each token with the fraction of the work that is done, in `[0, 1]`. The whole is
/// `max_new_tokens` for every completion, and a completion that has ended counts in full. When `go_on` returns false,
/// sampling stops, its tokens are discarded, and the function returns `None`.
///
/// `decoding` creates the state of the rows. It is [`Decoding::new`] except in measurements.
#[expect(clippy::too_many_arguments, reason = "what is sampled, how, and the two callbacks")]
pub fn sample_groups<'a>(
    decoding: impl FnOnce(&'a Decoder, usize, usize) -> Decoding<'a>,
    decoder: &'a Decoder,
    requests: &[Request<'_>],
    draws: impl Into<Draws<'a>>,
    stop: &Stop<'_>,
    batch_size: usize,
    mut ended: impl FnMut(usize, Vec<Sampled>),
    mut go_on: impl FnMut(f64) -> bool,
) -> Option<Seconds> {
    let draws = draws.into();
    let sampling = draws.sampling;
    let _no_grad = tch::no_grad_guard();
    let longest = requests.iter().map(|r| r.prompt_ids.len()).max().unwrap_or(0);
    let mut decoding = decoding(decoder, longest, sampling.max_new_tokens);
    let mut seconds = Seconds::default();
    let mut groups: Vec<Group> = requests.iter().map(|r| Group::new(r.seeds.len())).collect();
    let mut waiting: VecDeque<(usize, usize)> = requests
        .iter()
        .enumerate()
        .flat_map(|(request, r)| (0..r.seeds.len()).map(move |index| (request, index)))
        .collect();
    let capacity = if batch_size == 0 { waiting.len() } else { batch_size };
    let mut rows: Vec<DecodingRow> = Vec::new();
    let most = (waiting.len() * sampling.max_new_tokens) as f64;
    loop {
        let left = |row: &DecodingRow| sampling.max_new_tokens - row.sampled.ids.len();
        let to_draw = waiting.len() * sampling.max_new_tokens + rows.iter().map(left).sum::<usize>();
        if !go_on(1.0 - to_draw as f64 / most) {
            return None;
        }
        // 1. waiting completions take the free places and draw their first tokens
        let entering = waiting.len().min(capacity - rows.len());
        if entering > 0 {
            let places: Vec<(usize, usize)> = waiting.drain(..entering).collect();
            let started = Instant::now();
            read_prompts(&decoding, requests, &places, &mut groups);
            seconds.prefill += started.elapsed().as_secs_f64();
            let started = Instant::now();
            let mut new: Vec<DecodingRow> = Vec::with_capacity(entering);
            let mut prompts: Vec<Prompt> = Vec::with_capacity(entering);
            for (request, index) in places {
                let Request { seeds, .. } = &requests[request];
                let group = &mut groups[request];
                let is_last = index + 1 == seeds.len();
                let prompt = if is_last { group.prompt.take() } else { group.prompt.clone() };
                prompts.push(prompt.expect("the prompt was read"));
                new.push(DecodingRow::new(request, index, seeds[index]));
            }
            let logits = Tensor::stack(&prompts.iter().map(Prompt::logits).collect::<Vec<_>>(), 0); // (B, V)
            let uniform = Tensor::from_slice(&numbers(&mut new, sampling)).to_device(logits.device());
            let next = NextLogits { logits, uniform };
            let on = advance(&mut new, &next, &decoding, requests, draws, stop);
            decoding.enter(&on.iter().map(|&i| &prompts[i]).collect::<Vec<_>>());
            retire(&mut new, &on, &mut groups, &mut ended);
            rows.append(&mut new);
            seconds.decode += started.elapsed().as_secs_f64();
            continue;
        }
        if rows.is_empty() {
            return Some(seconds);
        }
        // 2. draw one more token in each row
        let started = Instant::now();
        let last: Vec<i64> = rows.iter().map(DecodingRow::last).collect();
        let uniform = numbers(&mut rows, sampling);
        let next = decoding.decode(&last, &uniform);
        let on = advance(&mut rows, &next, &decoding, requests, draws, stop);
        if on.len() < rows.len() {
            decoding.keep(&on);
            retire(&mut rows, &on, &mut groups, &mut ended);
        }
        seconds.decode += started.elapsed().as_secs_f64();
    }
}

/// Reads the prompts of the completions that enter, each once.
fn read_prompts(decoding: &Decoding<'_>, requests: &[Request<'_>], places: &[(usize, usize)], groups: &mut [Group]) {
    let mut unread: Vec<usize> = places.iter().map(|&(request, _)| request).collect();
    unread.dedup();
    unread.retain(|&request| groups[request].prompt.is_none());
    let prompts: Vec<&[i64]> = unread.iter().map(|&request| requests[request].prompt_ids).collect();
    for (request, prompt) in unread.into_iter().zip(decoding.prefill(&prompts)) {
        groups[request].prompt = Some(prompt);
    }
}

/// Returns the number in `[0, 1)` for the next draw of each row, or none if the likeliest token is taken.
fn numbers(rows: &mut [DecodingRow], sampling: &Sampling) -> Vec<f64> {
    if sampling.temperature == 0.0 {
        return Vec::new();
    }
    rows.iter_mut().map(|row| row.rng.random::<f64>()).collect()
}

/// Draws a token for each row. Returns the indices of the rows that continue.
fn advance(
    rows: &mut [DecodingRow],
    next: &NextLogits,
    decoding: &Decoding<'_>,
    requests: &[Request<'_>],
    draws: Draws<'_>,
    stop: &Stop<'_>,
) -> Vec<usize> {
    let Drawn { ids, logprobs, entropies } = draw(next, draws, stop, decoding, rows, requests);
    let mut on = Vec::with_capacity(rows.len());
    for (i, row) in rows.iter_mut().enumerate() {
        row.sampled.ids.push(ids[i]);
        row.sampled.logprobs.push(logprobs[i]);
        row.sampled.entropies.extend(entropies.get(i));
        match stop.reason(&row.sampled.ids) {
            Some(reason) => row.sampled.stop_reason = reason,
            None if row.sampled.ids.len() < draws.sampling.max_new_tokens => on.push(i),
            None => {}
        }
    }
    on
}

/// Removes the rows that are not in `on`, and passes complete groups to `ended`.
fn retire(
    rows: &mut Vec<DecodingRow>,
    on: &[usize],
    groups: &mut [Group],
    ended: &mut impl FnMut(usize, Vec<Sampled>),
) {
    let (mut kept, mut index) = (on.iter().copied().peekable(), 0..);
    for row in rows.extract_if(.., |_| kept.next_if_eq(&index.next().expect("counting goes on")).is_none()) {
        let group = &mut groups[row.request];
        group.ended[row.index] = Some(row.sampled);
        if group.ended.iter().all(Option::is_some) {
            ended(row.request, group.ended.drain(..).flatten().collect());
        }
    }
}

/// The completions of one request.
struct Group {
    /// The prompt, kept from the entry of the first completion to that of the last.
    prompt: Option<Prompt>,
    ended: Vec<Option<Sampled>>,
}

impl Group {
    fn new(size: usize) -> Self {
        Self { prompt: None, ended: vec![None; size] }
    }
}

impl DecodingRow {
    fn new(request: usize, index: usize, seed: u64) -> Self {
        let sampled =
            Sampled { ids: Vec::new(), logprobs: Vec::new(), entropies: Vec::new(), stop_reason: StopReason::Length };
        Self { request, index, rng: seed::generator(seed), sampled }
    }

    fn last(&self) -> i64 {
        *self.sampled.ids.last().expect("a row that is decoded has a token")
    }
}
