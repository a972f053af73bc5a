//! A judge that misbehaves on request: real HTTP over a real socket, with the faults of a broken server, a proxy or a
//! network.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The server's reaction to one request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers with this content and `finish_reason`.
    Say(String, &'static str),
    /// Answers with this status, these headers and this body.
    Status(u16, &'static str, String),
    /// Answers with status 200 and this body.
    Body(String),
    /// Answers with status 200 and these compressed bytes.
    Gzip(Vec<u8>),
    /// Promises more bytes than it sends.
    Half,
    /// Does not answer for this long.
    Hang(Duration),
    /// Answers, after this long, with a score or a preference that depends on the question alone.
    Score(Duration),
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

#[derive(Default)]
struct State {
    /// Reactions to the next requests; afterwards the server answers with scores.
    script: VecDeque<Act>,
    asked: Vec<Asked>,
    now: usize,
    most_at_once: usize,
}

pub(crate) struct Server {
    port: u16,
    state: Arc<Mutex<State>>,
}

pub(crate) fn verdict(score: i64) -> Act {
    Act::Say(json!({"score": score}).to_string(), "stop")
}

/// Returns an honest server's score of a question: the sum of its bytes, mapped to 1 to 5.
pub(crate) fn score_of(message: &str) -> i64 {
    message.bytes().map(i64::from).sum::<i64>() % 5 + 1
}

pub(crate) fn preferred(verdict: &str) -> Act {
    Act::Say(json!({"reason": "so it is", "verdict": verdict}).to_string(), "stop")
}

/// Returns an honest server's preference for `FIRST|SECOND`: the longer one.
pub(crate) fn preference_of(message: &str) -> &'static str {
    let (first, second) = message.split_once('|').expect("a pair");
    match first.len().cmp(&second.len()) {
        std::cmp::Ordering::Greater => "first",
        std::cmp::Ordering::Less => "second",
        std::cmp::Ordering::Equal => "tie",
    }
}

/// Returns an honest service's answer: the length of each text.
pub(crate) fn rated(questions: &[Value]) -> String {
    let length = |question: &Value| json!({"value": question["text"].as_str().map_or(-1.0, |text| text.len() as f64)});
    questions.iter().map(length).collect::<Value>().to_string()
}

impl Server {
    /// Starts a server that reacts according to `script`, request by request, and is honest afterwards.
    pub(crate) fn start(script: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { script: script.into_iter().collect(), ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                // The client may close the connection at any time.
                std::thread::spawn(move || drop(serve(&stream.unwrap(), &state)));
            }
        });
        Self { port, state }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the requests since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    /// Returns the maximum number of simultaneous requests.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state.lock().unwrap().most_at_once
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    if reader.read_line(&mut first).is_err() {
        // A typical server's answer to a client that begins with a handshake.
        let mut stream = stream;
        return write!(stream, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    }
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "authorization" => authorization = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let message = body["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
    let asks_for_preference = body["response_format"]["json_schema"]["schema"]["properties"]["verdict"].is_object();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let honest = match body.as_array() {
        Some(questions) => Act::Body(rated(questions)),
        None if asks_for_preference => preferred(preference_of(&message)),
        None => Act::Score(Duration::ZERO),
    };
    let act = {
        let mut state = state.lock().unwrap();
        state.asked.push(Asked { at: Instant::now(), path, authorization, body });
        state.now += 1;
        state.most_at_once = state.most_at_once.max(state.now);
        match state.script.pop_front() {
            Some(Act::Score(after)) if asks_for_preference => {
                drop(state);
                std::thread::sleep(after);
                honest
            }
            act => act.unwrap_or(honest),
        }
    };
    let result = act_out(stream, act, &message);
    state.lock().unwrap().now -= 1;
    result
}

fn act_out(mut stream: &TcpStream, act: Act, message: &str) -> std::io::Result<()> {
    if let Act::Gzip(bytes) = &act {
        let length = bytes.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
        )?;
        return stream.write_all(bytes);
    }
    let (status, headers, body, promised) = match act {
        Act::Say(content, finish_reason) => (200, "", completion(&content, finish_reason), 0),
        Act::Status(status, headers, body) => (status, headers, body, 0),
        Act::Body(body) => (200, "", body, 0),
        Act::Gzip(_) => unreachable!("answered above"),
        Act::Half => (200, "", completion("{\"score\": 3}", "stop")[..40].to_owned(), 200),
        Act::Hang(time) => {
            std::thread::sleep(time);
            return Ok(());
        }
        Act::Score(after) => {
            std::thread::sleep(after);
            (200, "", completion(&json!({"score": score_of(message)}).to_string(), "stop"), 0)
        }
    };
    let length = body.len() + promised;
    write!(stream, "HTTP/1.1 {status} Status\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}")?;
    stream.flush()
}

fn completion(content: &str, finish_reason: &str) -> String {
    let message = json!({"role": "assistant", "content": content});
    json!({
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 30, "completion_tokens": 10, "total_tokens": 40},
    })
    .to_string()
}
