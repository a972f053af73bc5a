//! The scoring part of the benchmarks in `scripts/peers/`: `rewards embed|rouge|rate [OPTIONS]` prints one line of
//! JSON.

use orchestrate_core::digest::Digest;
use orchestrate_core::recipe::spec::{
    Component, CorrectnessSpec, CotSpec, Dtype, FormatSpec, Grading, Leak, LengthSpec, Match, RepetitionSpec,
    RewardSpec, RougeMeasure, RougeSpec, RougeTokenizer, RougeVariant, Scope, SemanticSpec,
};
use orchestrate_core::rewards::{
    EncoderError, JudgeAccess, RewardContext, RewardMix, Sample, StopCheck, TextEncoder, Total, rouge,
};
use orchestrate_engine::encoder::Encoder;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use tch::{Cuda, Device, Kind};

const USAGE: &str = "rewards embed --model DIR --questions FILE [--texts N] [--dtype D] | rouge --pairs FILE | rate --model DIR --questions FILE [--dtype D]";

fn main() {
    orchestrate_engine::cuda::set_variables();
    let _ = orchestrate_engine::cuda::load(); // a GPU is used where there is one
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mode = arguments.next().unwrap_or_default();
    let mut options = BTreeMap::new();
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        options.insert(name, value);
    }
    let options = Options(options);
    report(&match mode.as_str() {
        "embed" => embed(&options),
        "rouge" => overlap(&options),
        "rate" => rate(&options),
        _ => json!({"usage": USAGE}),
    });
}

struct Options(BTreeMap<String, String>);

impl Options {
    fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map_or(default, String::as_str)
    }

    fn number(&self, name: &str, default: usize) -> usize {
        self.0.get(name).map_or(default, |value| value.parse().expect("a number"))
    }

    fn dtype(&self) -> (Dtype, Kind) {
        match self.text("--dtype", "float32") {
            "bfloat16" => (Dtype::Bfloat16, Kind::BFloat16),
            _ => (Dtype::Float32, Kind::Float),
        }
    }

    /// Reads the first `count` lines of the file in the option `name`.
    fn lines<T: for<'a> Deserialize<'a>>(&self, name: &str, count: usize) -> Vec<T> {
        let text = fs_err::read_to_string(self.text(name, "")).expect("the file can be read");
        text.lines().take(count).map(|line| serde_json::from_str(line).expect("a row")).collect()
    }

    fn encoder(&self) -> Encoder {
        let device = if Cuda::is_available() { Device::Cuda(0) } else { Device::Cpu };
        Encoder::load(Path::new(self.text("--model", "")), device, self.dtype().1).expect("the encoder loads")
    }
}

#[derive(Deserialize)]
struct Question {
    #[serde(rename = "question")]
    prompt: String,
    answer: String,
    explanation: String,
    explanation_full: String,
}

/// Measures texts per second, from text to unit vector.
fn embed(options: &Options) -> Value {
    let questions: Vec<Question> = options.lines("--questions", options.number("--texts", 512));
    let texts: Vec<&str> = questions.iter().map(|question| question.explanation.as_str()).collect();
    let mut encoder = options.encoder();
    let seconds = timed(options.number("--runs", 5), |_| drop(encoder.embed(&texts).expect("texts are embedded")));
    let count = texts.len() as f64;
    json!({
        "dtype": options.text("--dtype", "float32"), "texts": texts.len(), "threads": tch::get_num_threads(),
        "texts_per_s": count / median(&seconds), "best_texts_per_s": count / least(&seconds), "peak_rss_mib": peak_rss_mib(),
    })
}

/// Measures pairs per second on one thread, and the mean F1 of ROUGE-L.
fn overlap(options: &Options) -> Value {
    let pairs: Vec<(String, String)> = options.lines("--pairs", usize::MAX);
    let mut mean = 0.0;
    let seconds = timed(options.number("--runs", 20), |_| {
        let f1 = |(reference, candidate): &(String, String)| {
            rouge(candidate, reference, RougeVariant::L, RougeTokenizer::RougeScore).f1
        };
        mean = pairs.iter().map(f1).sum::<f64>() / pairs.len() as f64;
    });
    json!({"pairs": pairs.len(), "pairs_per_s": pairs.len() as f64 / median(&seconds), "mean": mean})
}

/// Measures the time to score the completions of a GRPO step with every component that needs no server. The step has
/// two prompts with six completions each, whose references are new in every run.
fn rate(options: &Options) -> Value {
    let runs = options.number("--runs", 20);
    let questions: Vec<Question> = options.lines("--questions", 2 * (runs + 1) + 6);
    let mut reward_mix = reward_mix(options);
    let mut parts = BTreeMap::new();
    let seconds = timed(runs, |run| {
        let completions: Vec<(&Question, String)> = (0..12)
            .map(|i| (&questions[2 * run + i / 6], &questions[2 * run + i % 6 + i / 6]))
            .map(|(asked, said)| {
                let Question { answer, explanation, explanation_full, .. } = said;
                let text = format!(
                    "<think>{explanation_full}</think><explanation>{explanation}</explanation><answer>{answer}</answer>"
                );
                (asked, text)
            })
            .collect();
        let samples: Vec<Sample<'_>> = completions
            .iter()
            .map(|(asked, completion)| Sample {
                prompt: &asked.prompt,
                completion,
                reference: Some(&asked.explanation),
                answer: Some(&asked.answer),
                index: 0,
                policy: None,
                row: None,
            })
            .collect();
        let scores = reward_mix.score(&samples).expect("nothing fails");
        parts = scores[0].parts.iter().map(|(name, part)| (name.clone(), part.value)).collect();
        assert!(scores.iter().all(|score| score.total.is_some()), "every component has a value");
    });
    json!({
        "dtype": options.text("--dtype", "float32"), "completions": 12, "components": parts,
        "ms": 1e3 * median(&seconds), "peak_rss_mib": peak_rss_mib(),
    })
}

fn reward_mix(options: &Options) -> RewardMix {
    let (measure, tokenizer) = (RougeMeasure::F1, RougeTokenizer::Unicode);
    let rouge = |variant| Component::Rouge(RougeSpec { variant, measure, tokenizer, stemming: false });
    let (max_words, min_tokens, max_tokens, leak) = (None, None, None, Leak::Ignore);
    let cot = CotSpec { min_words: 20, max_words, min_tokens, max_tokens, leak };
    let semantic = SemanticSpec {
        encoder: Digest::of(b"the encoder"),
        dtype: options.dtype().0,
        baseline: None,
        prompt: None,
        references: None,
        window_sentences: None,
    };
    let tags = ["think", "explanation", "answer"].map(str::to_owned).to_vec();
    let length = LengthSpec { min_words: Some(20), max_words: Some(200), tolerance_words: 10, of_reference: None };
    let components = [
        ("semantic", Scope::Explanation, semantic.into()),
        ("rouge1", Scope::Explanation, rouge(RougeVariant::One)),
        ("rouge2", Scope::Explanation, rouge(RougeVariant::Two)),
        ("rougeL", Scope::Explanation, rouge(RougeVariant::L)),
        ("rougeLsum", Scope::Explanation, rouge(RougeVariant::Lsum)),
        ("correctness", Scope::Answer, CorrectnessSpec { matching: Match::Choice, pattern: None }.into()),
        (
            "format",
            Scope::Completion,
            Component::Format(FormatSpec::Tags { tags, grading: Grading::Graded, answers: Vec::new() }),
        ),
        ("cot", Scope::Think, cot.into()),
        ("length", Scope::Completion, Component::Length(length)),
        ("repetition", Scope::Completion, RepetitionSpec { ngram: 3 }.into()),
    ];
    let spec = components
        .into_iter()
        .map(|(name, scope, component)| (name.to_owned(), RewardSpec::plain(1.0, scope, component)))
        .collect();
    let mut encoder = |_: &Digest, _: Dtype, _: Option<&str>| -> Result<Box<dyn TextEncoder>, EncoderError> {
        Ok(Box::new(options.encoder()))
    };
    let nowhere = Path::new("/nonexistent");
    let judges = JudgeAccess {
        servers: &BTreeMap::new(),
        cache: nowhere,
        ledgers: nowhere,
        variable: &|_| None,
        stop: &StopCheck::never(),
    };
    let around = RewardContext {
        encoder: &mut encoder,
        classifier: &mut |_, _, _| Err("no classifier here".into()),
        count_tokens: &|| Err("no tokenizer here".into()),
        judges,
        file: &|_| None,
        endpoints: &BTreeMap::new(),
        total: &Total::Sum,
        seed: 1,
        rows: &|| Err("no rows here".into()),
        row_fields: &|| Err("no rows here".into()),
    };
    RewardMix::new(&spec, around).expect("the mix is sound")
}

/// Returns the seconds of each of `runs` runs, after a warm-up run.
fn timed(runs: usize, mut work: impl FnMut(usize)) -> Vec<f64> {
    let mut run = |i| {
        let started = Instant::now();
        work(i);
        started.elapsed().as_secs_f64()
    };
    (0..=runs).map(&mut run).collect::<Vec<_>>().split_off(1)
}

fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn least(seconds: &[f64]) -> f64 {
    seconds.iter().copied().fold(f64::INFINITY, f64::min)
}

fn peak_rss_mib() -> Option<u64> {
    orchestrate_engine::memory::peak_resident().map(|bytes| bytes >> 20)
}

#[expect(clippy::print_stdout, reason = "this is the program's output")]
fn report(line: &Value) {
    println!("{line}");
}
