//! The rewards `judge` and `http` with servers that misbehave: each failure gives the documented verdict or error, and
//! the key is never printed.

mod http;
mod pairs;
mod server;

use orchestrate::event::FailureClass;
use orchestrate::recipe::JudgeServer;
use orchestrate::recipe::spec::{
    Aggregate, Component, JudgeMode, JudgeSampling, JudgeSpec, OnError, RewardSpec, RubricScale, Scope,
};
use orchestrate::rewards::{
    JudgeAccess, RewardContext, RewardError, RewardMix, RewardMixError, RewardScore, Sample, StopCheck, Total,
};
use server::{Act, Server, score_of, verdict};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const KEY: &str = "sk-do-not-tell-4711";

/// A stage's directory, its judges, and the environment with the key.
struct Stage {
    dir: TempDir,
    spec: JudgeSpec,
    on_error: OnError,
    servers: BTreeMap<String, JudgeServer>,
    stop: StopCheck,
}

fn served(endpoint: &str) -> JudgeServer {
    JudgeServer {
        endpoint: endpoint.to_owned(),
        api_key_env: Some("JUDGE_KEY".to_owned()),
        concurrency: 3,
        requests_per_minute: None,
        timeout_s: 5.0,
        retries: 2,
        max_calls: None,
        max_total_tokens: None,
        price_per_million_input_tokens_usd: None,
        price_per_million_output_tokens_usd: None,
    }
}

fn reward_mix(prompt: &str) -> JudgeMode {
    JudgeMode::Rubric(RubricScale { prompt: prompt.to_owned(), min_score: 1, max_score: 5 })
}

impl Stage {
    /// Creates a stage with one judge, `tiny`.
    fn new(endpoint: &str) -> Self {
        let spec = JudgeSpec {
            judges: vec!["tiny".to_owned()],
            aggregate: Aggregate::Mean,
            mode: reward_mix("Rate: {{ completion }}"),
            sampling: JudgeSampling { temperature: 0.0, seed: 3, max_tokens: 20 },
        };
        let dir = tempfile::tempdir().unwrap();
        let servers = BTreeMap::from([("tiny".to_owned(), served(endpoint))]);
        Self { dir, spec, on_error: OnError::Missing, servers, stop: StopCheck::never() }
    }

    fn server(&mut self) -> &mut JudgeServer {
        self.servers.get_mut("tiny").unwrap()
    }

    fn reward_mix(&self) -> Result<RewardMix, RewardMixError> {
        let component = Component::Judge(self.spec.clone());
        let on_error = self.on_error;
        let reward = RewardSpec { on_error, ..RewardSpec::plain(2.0, Scope::Completion, component) };
        let judges = JudgeAccess {
            servers: &self.servers,
            cache: &self.dir.path().join("judge-cache"),
            ledgers: self.dir.path(),
            variable: &|name| (name == "JUDGE_KEY").then(|| KEY.to_owned()),
            stop: &self.stop,
        };
        let encoder = &mut |_: &_, _, _: Option<&str>| Err("no encoder here".into());
        RewardMix::new(
            &BTreeMap::from([("clear".to_owned(), reward)]),
            RewardContext {
                encoder,
                classifier: &mut |_, _, _| Err("no classifier here".into()),
                count_tokens: &|| Err("no tokenizer here".into()),
                judges,
                file: &|_| None,
                endpoints: &BTreeMap::new(),
                total: &Total::Sum,
                seed: 1,
                rows: &|| Err("no rows here".into()),
                row_fields: &|| Err("no rows here".into()),
            },
        )
    }

    fn scores(&self, completions: &[&str]) -> Result<Vec<RewardScore>, RewardError> {
        score(&mut self.reward_mix().unwrap(), completions)
    }

    /// Returns the value of one completion, or why it is missing.
    #[track_caller]
    fn one(&self) -> Result<f64, String> {
        let scores = self.scores(&["so"]).unwrap();
        values(&scores).remove(0)
    }
}

fn score(reward_mix: &mut RewardMix, completions: &[&str]) -> Result<Vec<RewardScore>, RewardError> {
    let sample = |completion| Sample {
        prompt: "Q",
        completion,
        reference: None,
        answer: None,
        index: 0,
        policy: None,
        row: None,
    };
    let samples: Vec<Sample<'_>> = completions.iter().map(|completion| sample(*completion)).collect();
    let scores = reward_mix.score(&samples);
    assert!(!format!("{scores:?}").contains(KEY), "the key is told: {scores:?}");
    scores
}

fn values(scores: &[RewardScore]) -> Vec<Result<f64, String>> {
    let value = |score: &RewardScore| {
        let part = &score.parts["clear"];
        assert_eq!(score.total, part.value.map(|value| 2.0 * value));
        part.value.ok_or_else(|| part.missing.clone().expect("what is missing has a reason"))
    };
    scores.iter().map(value).collect()
}

fn metrics(reward_mix: &RewardMix) -> BTreeMap<String, f64> {
    reward_mix.metrics().map(|metric| (metric.name.into_owned(), metric.value)).collect()
}

#[test]
fn a_judge_is_asked_as_openai_is_and_its_score_is_the_value() {
    let server = Server::start([verdict(4)]);
    assert_eq!(Stage::new(&server.endpoint()).one(), Ok(0.75));
    let asked = server.asked();
    let [asked] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(
        (asked.path.as_str(), asked.authorization.as_deref()),
        ("/v1/chat/completions", Some(&*format!("Bearer {KEY}")))
    );
    assert_eq!(asked.body["model"], "tiny");
    assert_eq!(asked.body["messages"][0]["content"], "Rate: so");
    assert_eq!((&asked.body["temperature"], &asked.body["seed"]), (&0.0.into(), &3.into()));
    assert_eq!(asked.body["max_tokens"], 20);
    let schema = &asked.body["response_format"]["json_schema"]["schema"];
    assert_eq!(schema["properties"]["score"]["maximum"], 5);
}

#[test]
fn an_explanation_quotes_the_judge_and_asks_nobody() {
    let server = Server::start([verdict(4)]);
    let mut reward_mix = Stage::new(&server.endpoint()).reward_mix().unwrap();
    let sample =
        Sample { prompt: "Q", completion: "so", reference: None, answer: None, index: 0, policy: None, row: None };
    let before = reward_mix.explain(&[sample]);
    assert!(before[0]["clear"].ends_with("`tiny` wrote nothing that was kept"), "{before:?}");
    score(&mut reward_mix, &["so"]).unwrap();
    let after = reward_mix.explain(&[sample]);
    assert!(after[0]["clear"].contains("`tiny` wrote `{\"score\""), "{after:?}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_busy_judge_is_asked_again_when_it_says() {
    let busy = Act::Status(429, "Retry-After: 1\r\n", r#"{"error": {"message": "slow down"}}"#.to_owned());
    let server = Server::start([busy, verdict(5)]);
    assert_eq!(Stage::new(&server.endpoint()).one(), Ok(1.0));
    let asked = server.asked();
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(1), "it waits as long as it is told to");
}

#[test]
fn a_date_to_come_back_at_is_understood_and_one_far_away_is_no_use() {
    let later = |seconds| (chrono::Utc::now() + chrono::TimeDelta::seconds(seconds)).to_rfc2822();
    let dated =
        |date: String| Act::Status(503, Box::leak(format!("Retry-After: {date}\r\n").into_boxed_str()), String::new());
    let server = Server::start([dated(later(2)), verdict(5)]);
    assert_eq!(Stage::new(&server.endpoint()).one(), Ok(1.0));
    let asked = server.asked();
    assert!(asked[1].at - asked[0].at >= Duration::from_millis(900));
    let server = Server::start([dated(later(4000))]);
    let reason = Stage::new(&server.endpoint()).one().unwrap_err();
    assert!(reason.contains("it answers 503"), "{reason}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn failures_of_a_server_are_outlasted() {
    let broken = || Act::Status(500, "", "oops".to_owned());
    let server = Server::start([broken(), broken(), verdict(2)]);
    let stage = Stage::new(&server.endpoint());
    let mut reward_mix = stage.reward_mix().unwrap();
    assert_eq!(values(&score(&mut reward_mix, &["so"]).unwrap()), [Ok(0.25)]);
    let metrics = metrics(&reward_mix);
    assert_eq!((metrics["clear_calls"], metrics["clear_failed_calls"], metrics["clear_tokens"]), (3.0, 2.0, 40.0));
    assert!(metrics["clear_latency_s"] > 0.0);
}

#[test]
fn without_an_answer_in_the_end_the_value_is_missing_with_the_reason() {
    let url = |server: &Server| format!("the judge `tiny` at {}/chat/completions", server.endpoint());
    let cases: [(Act, &str); 5] = [
        (Act::Status(500, "", "oops".to_owned()), "it answers 500 Internal Server Error: `oops`, 3 times in a row"),
        (Act::Half, "the connection broke in the middle of its answer, 3 times in a row"),
        (
            Act::Body("<html>login</html>".to_owned()),
            "its answer is not a chat completion: `<html>login</html>`, 3 times in a row",
        ),
        (Act::Body(r#"{"choices": []}"#.to_owned()), "it sends a chat completion without a choice, 3 times in a row"),
        (Act::Hang(Duration::from_secs(2)), "it does not answer within 0.3 s, 3 times in a row"),
    ];
    for (act, reason) in cases {
        let server = Server::start([act.clone(), act.clone(), act]);
        let mut stage = Stage::new(&server.endpoint());
        stage.server().timeout_s = 0.3;
        assert_eq!(stage.one(), Err(format!("{}: {reason}", url(&server))));
        assert_eq!(server.asked().len(), 3, "{reason}");
        assert_eq!(stage.one(), Ok((score_of("Rate: so") - 1) as f64 / 4.0), "a failure is not kept");
    }
}

#[test]
fn a_refused_connection_is_missing_and_costs_the_retries_once() {
    // an address on which no other test listens, so that the port stays free
    let address = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let stage = Stage::new(&format!("http://{address}/v1"));
    let texts: Vec<String> = (0..30).map(|i| format!("text {i}")).collect();
    let started = Instant::now();
    let scores = stage.scores(&texts.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    for reason in values(&scores) {
        assert!(reason.unwrap_err().contains("connection refused"));
    }
}

#[test]
fn a_server_without_tls_is_not_asked_twice() {
    let server = Server::start([]);
    let stage = Stage::new(&format!("https://127.0.0.1:{}/v1", server.port()));
    let started = Instant::now();
    let reason = stage.one().unwrap_err();
    assert!(reason.contains("no secure connection"), "{reason}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_stale_key_ends_the_stage_at_once_and_is_not_told() {
    for status in [401, 403, 404] {
        let said = format!(r#"{{"error": {{"message": "Incorrect API key provided: {KEY}."}}}}"#);
        let refuse = Act::Status(status, "", said);
        let server = Server::start(std::iter::repeat_n(refuse, 20));
        let stage = Stage::new(&server.endpoint());
        let error = stage.scores(&["a", "b", "c", "d", "e", "f"]).unwrap_err();
        assert!(error.message.contains(&format!("it answers {status}")), "{error}");
        assert!(error.message.contains("Incorrect API key provided: [key]."), "{error}");
        assert!(error.hint.unwrap().contains("`JUDGE_KEY`"));
        assert!(server.asked().len() <= 3, "no more than those that were under way");
    }
}

#[test]
fn a_redirect_is_not_followed_with_the_key() {
    let elsewhere = Server::start([]);
    let header = Box::leak(format!("Location: {}/chat/completions\r\n", elsewhere.endpoint()).into_boxed_str());
    let server = Server::start([Act::Status(307, header, String::new())]);
    let error = Stage::new(&server.endpoint()).scores(&["so"]).unwrap_err();
    assert!(error.message.contains("307"), "{error}");
    assert!(elsewhere.asked().is_empty());
}

#[test]
fn a_question_that_is_refused_is_missing_and_the_others_are_rated() {
    let too_long = Act::Status(400, "", r#"{"error": {"message": "context length exceeded"}}"#.to_owned());
    let server = Server::start([too_long, verdict(5)]);
    let mut stage = Stage::new(&server.endpoint());
    stage.server().concurrency = 1;
    let mut values = values(&stage.scores(&["a", "b"]).unwrap());
    values.sort_by_key(Result::is_err);
    assert_eq!(values[0], Ok(1.0));
    assert!(values[1].as_ref().unwrap_err().ends_with("it answers 400 Bad Request: `context length exceeded`"));
    assert_eq!(server.asked().len(), 2, "what is wrong stays wrong");
}

#[test]
fn an_answer_that_is_no_verdict_is_missing_and_kept() {
    let server = Server::start([Act::Say("Very good!".to_owned(), "stop"), Act::Say("{\"sco".to_owned(), "length")]);
    let mut stage = Stage::new(&server.endpoint());
    let reason = "the judge `tiny`: its answer is not {\"score\": integer}: `Very good!`";
    assert_eq!(stage.one(), Err(reason.to_owned()));
    assert_eq!(stage.one(), Err(reason.to_owned()), "asked the same, it would say the same");
    assert_eq!(server.asked().len(), 1);
    stage.spec.sampling.seed = 4;
    assert_eq!(stage.one(), Err("the judge `tiny`: its answer was cut at `max_tokens`: `{\"sco`".to_owned()));
    stage.on_error = OnError::Fail;
    let error = stage.scores(&["so"]).unwrap_err();
    assert!(error.message.starts_with("reward `clear`: the judge `tiny`: its answer was cut"), "{error}");
}

#[test]
fn what_was_asked_before_is_not_asked_again_wherever_it_is_served() {
    let texts = ["one", "two", "", "one", "three"];
    let first = Server::start([]);
    let mut stage = Stage::new(&first.endpoint());
    let mut reward_mix = stage.reward_mix().unwrap();
    let scores = score(&mut reward_mix, &texts).unwrap();
    let expected: Vec<Result<f64, String>> = texts
        .iter()
        .map(|text| Ok(if text.is_empty() { 0.0 } else { (score_of(&format!("Rate: {text}")) - 1) as f64 / 4.0 }))
        .collect();
    assert_eq!(values(&scores), expected);
    assert_eq!(first.asked().len(), 3, "equal texts are one question, an empty one is none");
    assert_eq!((metrics(&reward_mix)["clear_calls"], metrics(&reward_mix)["clear_cache_hits"]), (3.0, 0.0));
    let second = Server::start([]);
    stage.server().endpoint = second.endpoint();
    stage.server().api_key_env = None;
    let mut reward_mix = stage.reward_mix().unwrap();
    assert_eq!(score(&mut reward_mix, &texts).unwrap(), scores);
    assert!(second.asked().is_empty());
    assert_eq!((metrics(&reward_mix)["clear_calls"], metrics(&reward_mix)["clear_cache_hits"]), (0.0, 3.0));
    for (name, text) in files(stage.dir.path()) {
        assert!(!name.contains(KEY) && !text.contains(KEY), "{name} holds the key");
        assert!(!text.contains(&first.endpoint()), "{name} holds the endpoint");
    }
}

fn files(dir: &std::path::Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(dir.to_owned()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.display().to_string(), fs_err::read_to_string(&path).unwrap()));
        }
    }
    found
}

#[test]
fn a_damaged_answer_is_asked_for_again_with_a_warning() {
    let server = Server::start([verdict(4), verdict(2)]);
    let stage = Stage::new(&server.endpoint());
    assert_eq!(stage.one(), Ok(0.75));
    let (path, text) = files(&stage.dir.path().join("judge-cache")).remove(0);
    fs_err::write(&path, &text[..text.len() / 2]).unwrap();
    let mut reward_mix = stage.reward_mix().unwrap();
    assert_eq!(values(&score(&mut reward_mix, &["so"]).unwrap()), [Ok(0.25)]);
    let warnings = reward_mix.warnings();
    assert!(warnings[0].contains(&path) && warnings[0].contains("damaged"), "{warnings:?}");
    assert!(reward_mix.warnings().is_empty(), "told once");
}

#[test]
fn timing_does_not_change_the_scores() {
    let texts: Vec<String> = (0..40).map(|i| format!("text {i}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let delays = |seed: u64| {
        let delay = move |i: u64| Act::Score(Duration::from_millis((i * seed) % 23));
        Server::start((0..40).map(delay))
    };
    let (slow, other) = (delays(7), delays(11));
    let mut one = Stage::new(&slow.endpoint());
    one.server().concurrency = 8;
    let mut two = Stage::new(&other.endpoint());
    two.server().concurrency = 1;
    assert_eq!(one.scores(&texts).unwrap(), two.scores(&texts).unwrap());
    assert!((2..=8).contains(&slow.most_at_once()), "{}", slow.most_at_once());
    assert_eq!(other.most_at_once(), 1, "`concurrency` is the most at once");
}

#[test]
fn requests_keep_the_pace_that_is_set() {
    let server = Server::start([]);
    let mut stage = Stage::new(&server.endpoint());
    stage.server().requests_per_minute = Some(300.0);
    stage.scores(&["a", "b", "c", "d"]).unwrap();
    let asked = server.asked();
    let took = asked.iter().map(|asked| asked.at).max().unwrap() - asked[0].at;
    assert!(took >= Duration::from_millis(550), "four requests, 200 ms apart, in {took:?}");
}

#[test]
fn a_budget_ends_the_stage_and_is_that_of_all_attempts() {
    let server = Server::start([]);
    let mut stage = Stage::new(&server.endpoint());
    stage.server().max_calls = Some(3);
    stage.scores(&["a", "b"]).unwrap();
    assert!(stage.scores(&["a", "b"]).is_ok(), "what is kept costs nothing");
    let error = stage.scores(&["c", "d", "e"]).unwrap_err();
    assert!(error.message.ends_with("has used up this stage's budget of 3 calls"), "{error}");
    assert_eq!(error.class, FailureClass::JudgeBudget, "another try would find it used up too");
    assert!(error.hint.unwrap().contains("`max_calls`"));
    assert_eq!(server.asked().len(), 3);
    stage.server().max_calls = None;
    stage.server().max_total_tokens = Some(160);
    assert!(stage.scores(&["c", "d", "e"]).unwrap_or_default().len() <= 3);
    let error = stage.scores(&["f", "g"]).unwrap_err();
    assert!(error.message.contains("budget of 160 tokens"), "{error}");
}

#[test]
fn several_judges_are_aggregated_and_none_may_be_lacking() {
    let (one, two) = (Server::start([]), Server::start([Act::Say("?".to_owned(), "stop")]));
    let mut stage = Stage::new(&one.endpoint());
    stage.spec.judges.push("other".to_owned());
    stage.servers.insert("other".to_owned(), JudgeServer { concurrency: 1, ..served(&two.endpoint()) });
    let reason = stage.one().unwrap_err();
    assert_eq!(reason, "the judge `other`: its answer is not {\"score\": integer}: `?`");
    stage.spec.mode = reward_mix("Grade: {{ completion }}");
    let value = (score_of("Grade: so") - 1) as f64 / 4.0;
    for aggregate in [Aggregate::Mean, Aggregate::Median, Aggregate::Min] {
        stage.spec.aggregate = aggregate;
        assert_eq!(stage.one(), Ok(value));
    }
    assert_eq!(two.asked().last().unwrap().body["model"], "other");
    let two = Server::start([verdict(1)]);
    stage.servers.insert("other".to_owned(), served(&two.endpoint()));
    stage.spec.mode = reward_mix("Mark: {{ completion }}");
    stage.spec.aggregate = Aggregate::Min;
    let mut reward_mix = stage.reward_mix().unwrap();
    assert_eq!(values(&score(&mut reward_mix, &["so"]).unwrap()), [Ok(0.0)]);
    let apart = (score_of("Mark: so") - 1) as f64 / 4.0;
    assert_eq!(metrics(&reward_mix)["clear_spread"].to_bits(), apart.to_bits());
}

#[test]
fn a_judge_without_its_key_or_its_server_is_no_judge() {
    let mut stage = Stage::new("http://127.0.0.1:1/v1");
    stage.server().api_key_env = Some("ANOTHER_KEY".to_owned());
    let with_sources = |error: RewardMixError| {
        let source = std::error::Error::source(&error).unwrap().to_string();
        format!("{error}: {source}")
    };
    let message = with_sources(stage.reward_mix().err().unwrap());
    assert_eq!(
        message,
        "the reward `clear` cannot be computed: the environment variable `ANOTHER_KEY`, the key of the judge `tiny`, is \
         not set"
    );
    stage.servers.clear();
    assert!(with_sources(stage.reward_mix().err().unwrap()).ends_with("the judge `tiny` has no address"));
}

/// Returns so many compressed zeros.
fn gzipped_zeros(bytes: usize) -> Vec<u8> {
    let script = format!("head -c {bytes} /dev/zero | gzip");
    Command::new("sh").args(["-c", &script]).output().unwrap().stdout
}

#[test]
fn a_short_answer_that_unpacks_to_a_long_one_is_not_unpacked() {
    let bomb = gzipped_zeros(64 << 20);
    assert!(bomb.len() < 100_000);
    let server = Server::start([Act::Gzip(bomb)]);
    let mut stage = Stage::new(&server.endpoint());
    stage.server().retries = 0;
    let reason = stage.one().unwrap_err();
    assert!(reason.contains("larger than request limit: 8388608"), "{reason}");
}

#[test]
fn a_key_that_a_server_repeats_escaped_is_hidden() {
    let escaped = KEY.replace('-', "\\u002d");
    for said in [
        Act::Status(400, "", format!(r#"{{"error": {{"message": "bad key {escaped}"}}}}"#)),
        Act::Status(400, "", format!("no JSON, and the key {escaped}")),
        Act::Body(format!("{{ no chat completion, and the key {escaped}")),
        Act::Say(format!("no score, and the key {KEY}"), "stop"),
    ] {
        let server = Server::start([said]);
        let mut stage = Stage::new(&server.endpoint());
        stage.server().retries = 0;
        let reason = stage.one().unwrap_err();
        assert!(reason.contains("[key]") && !reason.contains("4711"), "{reason}");
    }
}

#[test]
fn whoever_waits_for_a_judge_hears_a_request_to_stop() {
    for act in [Act::Status(429, "Retry-After: 299\r\n", String::new()), Act::Hang(Duration::from_mins(1))] {
        let server = Server::start([act.clone()]);
        let mut stage = Stage::new(&server.endpoint());
        stage.server().timeout_s = 50.0;
        let began = Instant::now();
        let asked_at = began + Duration::from_millis(700);
        stage.stop = StopCheck::new(move || Instant::now() >= asked_at);
        let error = stage.scores(&["so", "or so"]).unwrap_err();
        assert_eq!(error.class, FailureClass::Interrupted, "{error}");
        assert!(began.elapsed() < Duration::from_millis(1700), "{act:?}: {:?}", began.elapsed());
    }
}
