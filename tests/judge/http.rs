//! The reward `http`.

use crate::KEY;
use crate::server::{Act, Server};
use orchestrate::recipe::HttpEndpoint;
use orchestrate::recipe::spec::{Component, HttpSpec, RewardSpec, Scope};
use orchestrate::rewards::{
    JudgeAccess, RewardContext, RewardError, RewardMix, RewardMixError, Sample, StopCheck, Total,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A stage's directory and its service, `units`.
struct Stage {
    dir: TempDir,
    spec: HttpSpec,
    endpoint: HttpEndpoint,
    stop: StopCheck,
}

type Values = Vec<Result<f64, String>>;

impl Stage {
    fn new(server: &Server) -> Self {
        Self::at(format!("http://127.0.0.1:{}/rate", server.port()))
    }

    fn at(url: String) -> Self {
        let endpoint = HttpEndpoint {
            url,
            api_key_env: Some("RATE_KEY".to_owned()),
            batch_size: 16,
            concurrency: 2,
            requests_per_minute: None,
            timeout_s: 5.0,
            retries: 2,
        };
        let spec = HttpSpec { endpoint: "units".to_owned(), version: None, cache: true, send: Vec::new() };
        Self { dir: tempfile::tempdir().unwrap(), spec, endpoint, stop: StopCheck::never() }
    }

    fn reward_mix(&self, named: &str, key: Option<&str>) -> Result<RewardMix, RewardMixError> {
        let component = Component::Http(self.spec.clone());
        let reward = RewardSpec::plain(1.0, Scope::Answer, component);
        let judges = JudgeAccess {
            servers: &BTreeMap::new(),
            cache: &self.dir.path().join("judge-cache"),
            ledgers: self.dir.path(),
            variable: &|name| key.filter(|_| name == "RATE_KEY").map(str::to_owned),
            stop: &self.stop,
        };
        let encoder = &mut |_: &_, _, _: Option<&str>| Err("no encoder here".into());
        let endpoints = &BTreeMap::from([(named.to_owned(), self.endpoint.clone())]);
        let count_tokens = &|| Err("no tokenizer here".into());
        let (rows, row_fields) = (&|| Err("no rows here".into()), &|| Err("no rows here".into()));
        let classifier = &mut |_: &_, _, _| Err("no classifier here".into());
        let surroundings = RewardContext {
            encoder,
            classifier,
            count_tokens,
            judges,
            file: &|_: &_| None,
            endpoints,
            total: &Total::Sum,
            seed: 1,
            rows,
            row_fields,
        };
        RewardMix::new(&BTreeMap::from([("units".to_owned(), reward)]), surroundings)
    }

    /// Returns the values of completions with these answers, and the metrics of rating them.
    fn rate(&self, answers: &[&str]) -> Result<(Values, BTreeMap<String, String>), RewardError> {
        let mut reward_mix = self.reward_mix("units", Some(KEY)).unwrap();
        let completions: Vec<String> = answers.iter().map(|answer| format!("<answer>{answer}</answer>")).collect();
        let sample = |completion| Sample {
            prompt: "Q",
            completion,
            reference: None,
            answer: Some("B"),
            index: 0,
            policy: None,
            row: None,
        };
        let samples: Vec<Sample<'_>> = completions.iter().map(|completion| sample(completion.as_str())).collect();
        let scores = reward_mix.score(&samples);
        assert!(!format!("{scores:?}").contains(KEY), "the key is told: {scores:?}");
        let value = |mut parts: BTreeMap<String, orchestrate::event::ComponentScore>| {
            let part = parts.remove("units").unwrap();
            part.value.ok_or_else(|| part.missing.expect("what is missing has a reason"))
        };
        let values = scores?.into_iter().map(|score| value(score.parts)).collect();
        Ok((values, reward_mix.metrics().map(|metric| (metric.name.into_owned(), metric.value.to_string())).collect()))
    }

    #[track_caller]
    fn values(&self, answers: &[&str]) -> Values {
        self.rate(answers).unwrap().0
    }

    #[track_caller]
    fn reason(&self) -> String {
        self.values(&["so"]).remove(0).unwrap_err()
    }
}

#[test]
fn a_service_is_posted_an_array_of_questions() {
    let server = Server::start([]);
    let stage = Stage::new(&server);
    let mut reward_mix = stage.reward_mix("units", Some(KEY)).unwrap();
    let with = Sample {
        prompt: "Q",
        completion: "<answer>abc</answer>",
        reference: Some("r"),
        answer: None,
        index: 0,
        policy: None,
        row: None,
    };
    let scores = reward_mix.score(&[with, Sample { completion: "none", ..with }]).unwrap();
    assert_eq!(scores.iter().map(|score| score.total).collect::<Vec<_>>(), [Some(3.0), Some(-1.0)]);
    let asked = server.asked();
    let [asked] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!((asked.path.as_str(), asked.authorization.as_deref()), ("/rate", Some(&*format!("Bearer {KEY}"))));
    let question = |completion, text| json!({"prompt": "Q", "completion": completion, "text": text, "reference": "r", "answer": null});
    let questions = [question("<answer>abc</answer>", json!("abc")), question("none", json!(null))];
    assert_eq!(asked.body.as_array().map(|asked| asked.iter().all(|one| questions.contains(one))), Some(true));
    assert_eq!(asked.body.as_array().map(Vec::len), Some(2));
}

#[test]
fn questions_are_posted_some_at_a_time_and_answers_keep_their_order() {
    let server = Server::start([]);
    let mut stage = Stage::new(&server);
    stage.endpoint.batch_size = 2;
    let answers = ["a", "bb", "ccc", "dddd", "eeeee", "bb"];
    let (values, metrics) = stage.rate(&answers).unwrap();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 2.0].map(Ok));
    let asked = server.asked();
    let questions: usize = asked.iter().map(|asked| asked.body.as_array().unwrap().len()).sum();
    assert_eq!((asked.len(), questions), (3, 5), "equal questions are asked once");
    assert!(server.most_at_once() <= 2);
    assert_eq!(metrics["units_calls"].as_str(), "3");
    assert!(metrics.contains_key("units_latency_s"));
}

#[test]
fn kept_answers_are_not_asked_for_again_wherever_the_service_is() {
    let server = Server::start([]);
    let mut stage = Stage::new(&server);
    let before = stage.values(&["a", "bb"]);
    stage.endpoint.url = "http://127.0.0.1:9/gone".to_owned();
    let (values, metrics) = stage.rate(&["bb", "a"]).unwrap();
    assert_eq!(values, [before[1].clone(), before[0].clone()]);
    assert_eq!((metrics["units_cache_hits"].as_str(), metrics["units_calls"].as_str()), ("2", "0"));
    stage.spec.version = Some("2".to_owned());
    stage.endpoint.retries = 0;
    assert!(stage.reason().contains("connection refused"), "another version has other answers");
}

#[test]
fn a_service_that_draws_lots_is_asked_every_time() {
    let draws = |value: f64| Act::Body(json!([{"value": value}, {"value": value + 1.0}]).to_string());
    let server = Server::start([draws(0.0), draws(5.0)]);
    let mut stage = Stage::new(&server);
    stage.spec.cache = false;
    let mut first = stage.values(&["a", "a"]);
    first.sort_by(|a, b| a.clone().unwrap().total_cmp(&b.clone().unwrap()));
    assert_eq!(first, [0.0, 1.0].map(Ok), "equal completions are asked about for themselves");
    assert_eq!(stage.values(&["a", "a"]), [5.0, 6.0].map(Ok));
    assert!(!stage.dir.path().join("judge-cache").exists());
}

#[test]
fn failures_are_outlasted() {
    let busy = Act::Status(429, "Retry-After: 1\r\n", String::new());
    let server = Server::start([busy, Act::Status(500, "", String::new())]);
    let (values, metrics) = Stage::new(&server).rate(&["abc"]).unwrap();
    assert_eq!(values, [Ok(3.0)]);
    assert_eq!((metrics["units_calls"].as_str(), metrics["units_failed_calls"].as_str()), ("3", "2"));
    let asked = server.asked();
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(1), "it waits as long as it is told to");
}

#[test]
fn without_an_answer_the_values_are_missing_with_the_reason() {
    let cases = [
        (Act::Hang(Duration::from_secs(2)), "it does not answer within 0.5 s"),
        (Act::Half, "the connection broke in the middle of its answer"),
        (Act::Body("<html>".to_owned()), "its answer is not a JSON array: `<html>`"),
        (Act::Body("{\"value\": 1}".to_owned()), "its answer is not a JSON array"),
        (Act::Body("[]".to_owned()), "it sends 0 answers to 1 questions"),
        (Act::Body("[{\"value\": 1}, {\"value\": 1}]".to_owned()), "it sends 2 answers to 1 questions"),
        (Act::Body("[{\"value\": NaN}]".to_owned()), "its answer is not a JSON array"),
        (Act::Body("[{\"value\": \"1\"}]".to_owned()), "its answer is not {\"value\": number}"),
        (Act::Body("[{\"missing\": \"no table\"}]".to_owned()), "no table"),
        (Act::Status(503, "", "later".to_owned()), "it answers 503 Service Unavailable: `later`"),
        (Act::Status(422, "", "what?".to_owned()), "it answers 422 Unprocessable Entity: `what?`"),
    ];
    for (act, expected) in cases {
        let shown = format!("{act:?}");
        let server = Server::start([act]);
        let mut stage = Stage::new(&server);
        (stage.endpoint.timeout_s, stage.endpoint.retries) = (0.5, 0);
        let began = Instant::now();
        let reason = stage.reason();
        assert!(reason.contains(expected), "{shown}: {reason}");
        assert!(began.elapsed() < Duration::from_secs(2), "{shown}");
    }
}

#[test]
fn nobody_there_or_no_secure_connection_is_missing() {
    // an address on which no other test listens, so that the port stays free
    let address = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let mut stage = Stage::at(format!("http://{address}/"));
    stage.endpoint.retries = 0;
    assert!(stage.reason().ends_with("connection refused"));
    let server = Server::start([]);
    let stage = Stage::at(format!("https://127.0.0.1:{}/", server.port()));
    assert!(stage.reason().contains("no secure connection"));
}

#[test]
fn an_answer_that_is_none_is_missing_alone_and_not_kept() {
    let server = Server::start([Act::Body(r#"[{"value": 1}, {"score": 1}, {"missing": "odd"}]"#.to_owned())]);
    let stage = Stage::new(&server);
    let values = stage.values(&["a", "b", "c"]);
    assert_eq!(values.iter().filter(|value| value.is_ok()).count(), 1);
    assert!(values.contains(&Err("odd".to_owned())));
    let (again, metrics) = stage.rate(&["a", "b", "c"]).unwrap();
    assert_eq!(again.iter().filter(|value| **value == Ok(1.0)).count(), 2, "{again:?}");
    assert_eq!((metrics["units_cache_hits"].as_str(), metrics["units_calls"].as_str()), ("2", "1"));
}

#[test]
fn a_stale_key_and_a_redirect_end_the_stage() {
    let stale = Act::Status(401, "", format!("bad key {KEY}"));
    let moved = Act::Status(302, "Location: http://127.0.0.1:9/\r\n", String::new());
    for (act, expected) in [(stale, "it answers 401"), (moved, "it answers 302")] {
        let server = Server::start([act]);
        let error = Stage::new(&server).rate(&["a"]).unwrap_err();
        assert!(error.message.contains(expected) && !error.message.contains(KEY), "{error}");
        assert!(error.hint.unwrap().contains("`[runtime.endpoints.\"units\"]`"));
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn a_service_without_its_key_or_its_address_is_none() {
    let stage = Stage::at("http://127.0.0.1:9/".to_owned());
    let reason = |named, key| stage.reward_mix(named, key).err().unwrap().source().unwrap().to_string();
    assert_eq!(reason("other", Some(KEY)), "the endpoint `units` has no address");
    let without = "the environment variable `RATE_KEY`, the key of the endpoint `units`, is not set";
    assert_eq!((reason("units", None), reason("units", Some(""))), (without.to_owned(), without.to_owned()));
}
