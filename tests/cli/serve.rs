//! `serve`: answers and refusals.

use crate::dispatch::ended;
use crate::env::TestEnv;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Child;
use std::time::Duration;

/// A server over the project of a [`TestEnv`], until it is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(env: &TestEnv, args: &[&str]) -> Self {
        let mut child = env.start(&[&["serve", "--port", "0", "--json"], args].concat());
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url: Value = serde_json::from_str(&line).expect("one line of JSON");
        let address = url["url"].as_str().unwrap().trim_start_matches("http://").trim_end_matches('/').to_owned();
        Self { child, address }
    }

    fn request(&self, method: &str, path: &str, host: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        stream
    }

    /// Returns the status line with the headers, and the body.
    fn answer(&self, method: &str, path: &str, host: &str) -> (String, String) {
        let mut text = String::new();
        self.request(method, path, host).read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("headers and a body");
        (head.to_ascii_lowercase(), body.to_owned())
    }

    fn json(&self, path: &str) -> Value {
        let (head, body) = self.answer("GET", path, &self.address);
        assert!(head.starts_with("http/1.1 200"), "{path}: {head}\n{body}");
        serde_json::from_str(&body).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Returns a completion of step 1 that would break out of a page that treats it as HTML.
fn hostile_completion() -> String {
    let completion = json!({"at": "2026-01-01T00:00:00Z", "kind": {"completion": {
        "step": 1, "row": 0, "index": 0, "prompt": "Why?", "completion": "</script><img src=x onerror=alert(1)>",
        "reference": null, "answer": null, "tokens": 3, "stop_reason": "length", "reward": null, "advantage": null,
        "parts": {"rouge": {"value": null, "weight": 1.0, "missing": "no reference"}},
    }}});
    format!("{completion}\n")
}

#[test]
fn a_run_is_shown_with_its_stages_curves_and_completions() {
    let env = TestEnv::new();
    env.write("events/base", &hostile_completion());
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    let server = Server::start(&env, &[]);

    let runs = server.json("/api/runs");
    assert_eq!(runs.as_array().map(Vec::len), Some(1));
    assert_eq!((&runs[0]["status"], &runs[0]["recipes"]), (&json!("ok"), &json!(["small.toml"])));
    let run = runs[0]["run"].as_str().unwrap();
    let shown = server.json(&format!("/api/runs/{run}"));
    let stage = &shown["stages"][0];
    assert_eq!((&stage["stage"], &stage["status"]), (&json!("base"), &json!("ok")));
    assert_eq!(server.json(&format!("/api/runs/{run}/metrics")), json!(["train/loss"]));
    let curves = server.json(&format!("/api/runs/{run}/curves?metric=train/loss"));
    assert_eq!(curves[0]["points"], json!([[1, 3.5, 3.5, 3.5], [2, 2.5, 2.5, 2.5], [3, 1.5, 1.5, 1.5]]));
    let key = stage["key"].as_str().unwrap();
    let found = server.json(&format!("/api/runs/{run}/completions?key={key}"));
    assert_eq!(found["steps"], json!([1]));
    assert_eq!(found["completions"][0]["completion"], "</script><img src=x onerror=alert(1)>");
    assert_eq!(found["completions"][0]["parts"]["rouge"]["missing"], "no reference");
}

#[test]
fn lines_of_a_log_that_cannot_be_read_are_counted() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    let run = env.newest_run();
    let log = env.path("runs/log").join(&run).join("run.jsonl");
    let text = fs_err::read_to_string(&log).unwrap();
    fs_err::write(&log, text.replacen('\n', "\n{\n", 1)).unwrap();
    let server = Server::start(&env, &[]);
    assert_eq!(server.json(&format!("/api/runs/{run}"))["unreadable_lines"], 1);
}

#[test]
fn a_running_run_tells_what_happens() {
    let env = TestEnv::new();
    env.behave("base", "wait");
    let child = env.start(&["run", "small.toml", "--only", "tuned"]);
    env.wait_for("started-base");
    let server = Server::start(&env, &[]);
    let run = server.json("/api/runs")[0]["run"].as_str().unwrap().to_owned();
    let mut lines = BufReader::new(server.request("GET", &format!("/api/runs/{run}/events"), "localhost")).lines();
    let mut until = |wanted: &dyn Fn(&str, &Value) -> bool| {
        let mut event = String::new();
        loop {
            let line = lines.next().expect("the connection stays open").unwrap();
            if let Some(name) = line.strip_prefix("event: ") {
                name.clone_into(&mut event);
            } else if let Some(data) = line.strip_prefix("data: ") {
                let value: Value = serde_json::from_str(data).unwrap();
                if wanted(&event, &value) {
                    return value;
                }
            }
        }
    };
    let status = |value: &Value, stage: usize| value["stages"][stage]["status"].as_str().unwrap().to_owned();
    let first = until(&|event, _| event == "run");
    assert_eq!((first["status"].as_str(), status(&first, 0).as_str()), (Some("running"), "running"));
    assert_eq!(status(&first, 1), "pending");
    let live = until(&|event, value| event == "live" && value[0]["step"] == 3);
    assert!(live[0]["text"].as_str().unwrap().contains("step 3/3"), "{live}");

    env.run(&["cancel", "latest"]).ends_with(0);
    let last = until(&|event, value| event == "run" && value["status"] == "interrupted");
    assert_eq!(status(&last, 0), "interrupted");
    ended(child).ends_with(130);
}

#[test]
fn only_reads_by_known_names_are_answered() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    let server = Server::start(&env, &["--allow-host", "gpu-box"]);
    let run = server.json("/api/runs")[0]["run"].as_str().unwrap().to_owned();

    for host in ["evil.example", "", "localhost.evil.example"] {
        let (head, body) = server.answer("GET", "/api/runs", host);
        assert!(head.starts_with("http/1.1 421"), "{host}: {head}");
        assert!(!body.contains(&run), "{host}: {body}");
    }
    for host in ["localhost", "127.0.0.1:1", "gpu-box:8377"] {
        assert!(server.answer("GET", "/api/runs", host).0.starts_with("http/1.1 200"), "{host}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        assert!(server.answer(method, "/api/runs", "localhost").0.starts_with("http/1.1 405"), "{method}");
    }
    let (head, page) = server.answer("GET", &format!("/runs/{run}/report"), "localhost");
    assert!(head.starts_with("http/1.1 200") && head.contains("text/html"), "{head}");
    assert!(page.contains("orchestrate report") && page.contains("base"), "{page}");
    let (head, page) = server.answer("GET", "/", "localhost");
    assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{head}");
    assert!(head.contains("x-content-type-options: nosniff") && !head.contains("access-control"), "{head}");
    assert!(!page.contains("http:") && !page.contains("https:"), "the page asks nothing of other machines");

    for path in [
        "/nowhere".to_owned(),
        "/api/runs/nope".to_owned(),
        "/api/runs/..%2F..%2Fetc".to_owned(),
        format!("/api/runs/{run}/completions?key=../../../models/tiny"),
    ] {
        let (head, body) = server.answer("GET", &path, "localhost");
        assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
        assert!(body.contains("there is no such") || body.contains("has no such"), "{path}: {body}");
    }
}

#[test]
fn a_port_that_is_taken_is_an_error_with_a_way_out() {
    let env = TestEnv::new();
    let server = Server::start(&env, &[]);
    assert_eq!(server.json("/api/runs"), json!([]));
    let port = server.address.rsplit(':').next().unwrap();
    env.run(&["serve", "--port", port]).ends_with(2).says(&["cannot listen on 127.0.0.1", "hint:", "--port 0"]);
}

#[test]
fn a_client_that_does_not_finish_the_head_of_a_request_is_hung_up_on() {
    let env = TestEnv::new();
    let server = Server::start(&env, &[]);
    let began = std::time::Instant::now();
    let half: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").unwrap();
            stream
        })
        .collect();
    assert!(server.json("/api/runs").is_array(), "others are answered meanwhile");
    for mut stream in half {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest); // closed or reset
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
    assert!(began.elapsed() > Duration::from_secs(5), "a slow client has some time");
}
