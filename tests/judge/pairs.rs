//! Pairs: both orders, their outcome, and the effect of a server that misbehaves.

use crate::server::{Act, Server, preferred};
use crate::{KEY, Stage, files, metrics, served, values};
use orchestrate::recipe::spec::{Aggregate, JudgeMode, JudgeSampling};
use orchestrate::rewards::{JudgeAccess, Pair, PairJudges, PairVerdict, Preference, RewardError, Sample, StopCheck};
use proptest::prelude::*;
use std::net::TcpListener;
use std::time::Duration;

const PROMPT: &str = "{{ first }}|{{ second }}";
const SAMPLING: JudgeSampling = JudgeSampling { temperature: 0.0, seed: 3, max_tokens: 20 };

fn within_group(opponents: Option<usize>) -> JudgeMode {
    JudgeMode::PairWithinGroup { prompt: PROMPT.to_owned(), opponents }
}

fn with_reference() -> JudgeMode {
    JudgeMode::PairWithReference { prompt: PROMPT.to_owned() }
}

fn judges(stage: &Stage) -> PairJudges {
    let access = JudgeAccess {
        servers: &stage.servers,
        cache: &stage.dir.path().join("judge-cache"),
        ledgers: stage.dir.path(),
        variable: &|_| Some(KEY.to_owned()),
        stop: &StopCheck::never(),
    };
    PairJudges::new(PROMPT, SAMPLING, &["tiny".to_owned()], access).unwrap()
}

fn pair<'a>(a: &'a str, b: &'a str) -> Pair<'a> {
    Pair { prompt: "Q", a, b, reference: None, answer: None }
}

fn compare(stage: &Stage, pairs: &[Pair<'_>]) -> Result<Vec<PairVerdict>, RewardError> {
    let verdicts = judges(stage).compare(pairs)?;
    Ok(verdicts.into_iter().map(|mut of_judges| of_judges.remove(0)).collect())
}

/// Returns the outcome of `ab` against `c`.
fn win(stage: &Stage) -> Result<f64, String> {
    compare(stage, &[pair("ab", "c")]).unwrap()[0].win()
}

#[test]
fn a_pair_is_asked_about_in_both_orders() {
    let server = Server::start([]);
    let stage = Stage::new(&server.endpoint());
    let verdicts = compare(&stage, &[pair("ab", "c"), pair("c", "ab"), pair("ab", "cd")]).unwrap();
    let wins: Vec<f64> = verdicts.iter().map(|verdict| verdict.win().unwrap()).collect();
    assert_eq!(wins, [1.0, 0.0, 0.5]);
    let PairVerdict::Asked { a_first: Ok(said), .. } = &verdicts[0] else { panic!("{verdicts:?}") };
    assert_eq!((said.preference, said.reason.as_str()), (Preference::First, "so it is"));
    let mut asked: Vec<String> =
        server.asked().iter().map(|asked| asked.body["messages"][0]["content"].as_str().unwrap().to_owned()).collect();
    asked.sort();
    assert_eq!(asked, ["ab|c", "ab|cd", "cd|ab", "c|ab"], "a pair the other way round is the same two requests");
}

#[test]
fn a_judge_that_always_prefers_one_place_decides_nothing() {
    for (place, preference) in [("first", Preference::First), ("second", Preference::Second)] {
        let server = Server::start(std::iter::repeat_n(preferred(place), 2));
        let verdicts = compare(&Stage::new(&server.endpoint()), &[pair("ab", "c")]).unwrap();
        assert_eq!((verdicts[0].win(), verdicts[0].position()), (Ok(0.5), Some(preference)));
    }
}

#[test]
fn equal_and_empty_texts_are_not_asked_about() {
    let server = Server::start([]);
    let pairs = [pair("a b", " a b"), pair("", "a"), pair("a", " \n"), pair("", " ")];
    let verdicts = compare(&Stage::new(&server.endpoint()), &pairs).unwrap();
    assert_eq!(verdicts, [0.5, 0.0, 1.0, 0.5].map(PairVerdict::Trivial));
    assert!(server.asked().is_empty());
}

#[test]
fn a_failure_that_passes_is_outlasted() {
    let busy = Act::Status(429, "Retry-After: 1\r\n", String::new());
    let server = Server::start([busy, Act::Half]);
    let mut stage = Stage::new(&server.endpoint());
    stage.server().concurrency = 1;
    assert_eq!(win(&stage), Ok(1.0));
    assert_eq!(server.asked().len(), 4);
}

#[test]
fn without_one_order_a_pair_is_missing_with_the_reason() {
    let say = |content: &str, end| Act::Say(content.to_owned(), end);
    let form = "its answer is not {\"reason\": text, \"verdict\": \"first\", \"second\" or \"tie\"}";
    let cases = [
        (Act::Status(429, "", "slow down".to_owned()), "it answers 429 Too Many Requests: `slow down`"),
        (Act::Hang(Duration::from_secs(2)), "it does not answer within 0.5 s"),
        (Act::Half, "the connection broke in the middle of its answer"),
        (Act::Body("<html>".to_owned()), "its answer is not a chat completion: `<html>`"),
        (say("{\"score\": 3}", "stop"), form),
        (say("the first", "stop"), form),
        (say("{\"reason\": \"\", \"verdict\": \"both\"}", "stop"), form),
        (say("{\"reason\": \"It is lon", "length"), "its answer was cut at `max_tokens`: `{\"reason\": \"It is lon`"),
        (say("{\"reason\": \"\", \"verdict\": \"first\"}", "length"), "its answer was cut at `max_tokens`"),
    ];
    for (act, expected) in cases {
        for before in 0..2 {
            let honest = std::iter::repeat_n(preferred("tie"), before);
            let server = Server::start(honest.chain([act.clone()]));
            let mut stage = Stage::new(&server.endpoint());
            let tiny = stage.server();
            (tiny.retries, tiny.timeout_s, tiny.concurrency) = (0, 0.5, 1);
            let reason = win(&stage).unwrap_err();
            assert!(reason.starts_with("the judge `tiny`") && reason.contains(expected), "{act:?}: {reason}");
        }
    }
    // an address on which no other test listens, so that the port stays free
    let address = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let mut stage = Stage::new(&format!("http://{address}/v1"));
    stage.server().retries = 0;
    assert!(win(&stage).unwrap_err().ends_with("connection refused"));
}

#[test]
fn a_missing_pair_leaves_its_completions_without_a_value_and_the_others_with_theirs() {
    let server = Server::start([Act::Say("?".to_owned(), "stop")]);
    let mut stage = Stage::new(&server.endpoint());
    stage.spec.mode = within_group(Some(1));
    stage.server().concurrency = 1;
    // A group of four in a ring: with one opponent, one unanswered request affects one completion.
    let found = values(&stage.scores(&["a", "bb", "ccc", "dddd"]).unwrap());
    assert_eq!(found.iter().filter(|value| value.is_err()).count(), 1, "{found:?}");
    assert!(found.iter().flatten().all(|value| [0.0, 1.0].contains(value)), "{found:?}");
}

#[test]
fn completions_of_a_group_are_compared_with_each_other() {
    let server = Server::start([]);
    let mut stage = Stage::new(&server.endpoint());
    stage.spec.mode = within_group(None);
    let completions = ["a", "bb", "ccc", "bb", ""];
    let mut reward_mix = stage.reward_mix().unwrap();
    let found = values(&crate::score(&mut reward_mix, &completions).unwrap());
    // `bb` beats `a` and the empty one, and ties with its equal.
    assert_eq!(found, [0.25, 0.625, 1.0, 0.625, 0.0].map(Ok));
    // Six pairs of texts that are not empty, minus one of equal texts, minus two that repeat another pair.
    assert_eq!(server.asked().len(), 2 * 3);
    assert_eq!(metrics(&reward_mix)["clear_calls"].to_bits(), 6.0_f64.to_bits());
    let sample =
        Sample { prompt: "Q", completion: "bb", reference: None, answer: None, index: 0, policy: None, row: None };
    let explained = reward_mix.explain(&[sample]).remove(0).remove("clear").unwrap();
    assert!(explained.ends_with("`tiny`: 62% of the wins over 4 others"), "{explained}");

    stage.spec.mode = within_group(Some(2));
    assert_eq!(values(&stage.scores(&["a", "bb", "ccc", "dddd"]).unwrap()), [0.0, 0.5, 0.5, 1.0].map(Ok));
    let alone = values(&stage.scores(&["a"]).unwrap());
    assert_eq!(alone, [Err("its group has no other completion to compare it with".to_owned())]);
}

#[test]
fn a_completion_is_compared_with_its_reference() {
    let server = Server::start([]);
    let mut stage = Stage::new(&server.endpoint());
    stage.spec.mode = with_reference();
    let mut reward_mix = stage.reward_mix().unwrap();
    let sample = |completion, reference| Sample {
        prompt: "Q",
        completion,
        reference,
        answer: None,
        index: 0,
        policy: None,
        row: None,
    };
    let samples = [
        sample("longer", Some("long")),
        sample("so", Some("long")),
        sample("long", Some("long")),
        sample("", Some("long")),
        sample("so", None),
    ];
    let found = values(&reward_mix.score(&samples).unwrap());
    let missing = Err("the row has no reference".to_owned());
    assert_eq!(found, [Ok(1.0), Ok(0.0), Ok(0.5), Ok(0.0), missing]);
    assert_eq!(server.asked().len(), 4);
    let explained = reward_mix.explain(&samples[..1]).remove(0).remove("clear").unwrap();
    let expected = "reading it first, `tiny` prefers this one: `so it is`; reading it second, this one: `so it is`";
    assert!(explained.ends_with(expected), "{explained}");
}

#[test]
fn several_judges_of_pairs_are_aggregated() {
    let (one, two) = (Server::start([]), Server::start(std::iter::repeat_n(preferred("tie"), 2)));
    let mut stage = Stage::new(&one.endpoint());
    stage.spec.judges.push("other".to_owned());
    stage.servers.insert("other".to_owned(), served(&two.endpoint()));
    stage.spec.mode = within_group(None);
    let mut reward_mix = stage.reward_mix().unwrap();
    assert_eq!(values(&crate::score(&mut reward_mix, &["a", "bb"]).unwrap()), [Ok(0.25), Ok(0.75)]);
    assert_eq!(metrics(&reward_mix)["clear_spread"].to_bits(), 0.5_f64.to_bits());
    stage.spec.aggregate = Aggregate::Min;
    assert_eq!(values(&stage.scores(&["a", "bb"]).unwrap()), [Ok(0.0), Ok(0.5)]);
}

#[test]
fn kept_verdicts_give_the_same_bits_and_cost_nothing() {
    let server = Server::start([Act::Say("?".to_owned(), "stop")]);
    let mut stage = Stage::new(&server.endpoint());
    stage.spec.mode = within_group(None);
    let completions = ["a", "bb", "ccc"];
    let first = stage.scores(&completions).unwrap();
    assert_eq!(server.asked().len(), 6);
    stage.server().endpoint = "http://127.0.0.1:9/v1".to_owned();
    let mut reward_mix = stage.reward_mix().unwrap();
    assert_eq!(crate::score(&mut reward_mix, &completions).unwrap(), first);
    let metrics = metrics(&reward_mix);
    assert_eq!((metrics["clear_calls"], metrics["clear_cache_hits"]), (0.0, 6.0));
    assert_eq!(values(&first).iter().filter(|value| value.is_err()).count(), 2, "what was said to one pair stays said");
    assert!(files(stage.dir.path()).iter().all(|(_, text)| !text.contains(KEY)));
}

#[test]
fn repeats_are_asked_for_themselves_and_kept() {
    let server = Server::start([]);
    let stage = Stage::new(&server.endpoint());
    let mut judges = judges(&stage);
    for repeat in [0, 1, 2, 1, 0] {
        judges.compare_again(&[pair("ab", "c")], repeat).unwrap();
    }
    let seeds: std::collections::BTreeSet<u64> =
        server.asked().iter().map(|asked| asked.body["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds, [3, 4, 5].into());
    let expenses = judges.expenses()["tiny"];
    assert_eq!((expenses.calls, expenses.cache_hits), (6, 4));
}

#[test]
fn what_is_asked_costs_what_the_recipe_says_over_all_attempts() {
    let server = Server::start([Act::Status(500, "", String::new())]);
    let mut stage = Stage::new(&server.endpoint());
    stage.server().price_per_million_input_tokens_usd = Some(100.0);
    stage.server().price_per_million_output_tokens_usd = Some(1000.0);
    let mut reward_mix = stage.reward_mix().unwrap();
    crate::score(&mut reward_mix, &["a", "b"]).unwrap();
    // Two answers to 30 tokens with 10 tokens each.
    let cost = metrics(&reward_mix)["clear_cost_usd"];
    assert!((cost - 2.0 * (0.003 + 0.01)).abs() < 1e-12, "{cost}");
    assert_eq!(
        (metrics(&reward_mix)["clear_prompt_tokens"], metrics(&reward_mix)["clear_completion_tokens"]),
        (60.0, 20.0)
    );
    let mut reward_mix = stage.reward_mix().unwrap();
    crate::score(&mut reward_mix, &["a", "c"]).unwrap();
    let expenses = reward_mix.expenses()["tiny"];
    assert_eq!((expenses.calls, expenses.cache_hits), (4, 1));
    assert_eq!((expenses.prompt_tokens, expenses.completion_tokens), (90, 30));
    assert!((expenses.cost_usd.unwrap() - 0.039).abs() < 1e-12);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whether the judge is honest or not, swapping both texts swaps the outcome.
    #[test]
    fn swapping_a_pair_gives_the_rest_of_the_win(
        one in "[a-c]{0,3}",
        other in "[a-c]{0,3}",
        says in prop::collection::vec(prop::sample::select(vec!["first", "second", "tie"]), 0..3),
    ) {
        let server = Server::start(says.into_iter().map(preferred));
        let stage = Stage::new(&server.endpoint());
        let verdicts = compare(&stage, &[pair(&one, &other), pair(&other, &one)]).unwrap();
        prop_assert_eq!(verdicts[0].win(), verdicts[1].win().map(|win| 1.0 - win));
        prop_assert!(server.asked().len() <= 2);
    }
}
