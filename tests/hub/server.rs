//! A small hub: the routes of listings and files, the storage that large files are redirected to, and the faults of
//! both.

use orchestrate::digest::{Digest, hex};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The size of the weights in bytes: enough for several reads of a socket.
pub(crate) const WEIGHTS_BYTES: usize = 700_001;

/// The behaviour of the server.
pub(crate) struct Behaviour {
    /// Files of `owner/tiny` and of the data set `owner/rows`, by `OWNER/NAME/FILE`.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Files in which one bit is flipped during the transfer.
    pub(crate) damaged: Vec<String>,
    /// Files whose connection is cut after so many bytes, once each.
    pub(crate) cut: BTreeMap<String, usize>,
    /// Wrong sizes in a listing.
    pub(crate) sizes: BTreeMap<String, usize>,
    /// Whether a listing has hashes and sizes.
    pub(crate) tells_hashes: bool,
    /// Whether ranges are supported.
    pub(crate) knows_ranges: bool,
    /// Whether refusals have the header `X-Error-Code`.
    pub(crate) tells_error_codes: bool,
    /// The token that grants access: the answer is 401 without a token, 403 with another.
    pub(crate) token: Option<String>,
    /// The number of requests that are answered with 503 first.
    pub(crate) busy: usize,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) authorization: Option<String>,
}

pub(crate) struct Server {
    port: u16,
    behaviour: Arc<Mutex<Behaviour>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

pub(crate) fn weights() -> Vec<u8> {
    (0..=250).cycle().take(WEIGHTS_BYTES).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Digest::of(bytes).as_str().to_owned()
}

pub(crate) fn git_hash(bytes: &[u8]) -> String {
    let header = format!("blob {}\0", bytes.len());
    hex(&Sha1::new_with_prefix(header).chain_update(bytes).finalize())
}

/// Whether the file is large, and so in the storage, where git knows it by its SHA-256.
fn is_large(name: &str) -> bool {
    [".safetensors", ".bin"].iter().any(|extension| name.ends_with(extension))
}

impl Server {
    pub(crate) fn start() -> Self {
        let file = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
        let files = [
            file("owner/tiny/config.json", br#"{"model_type": "llama"}"#),
            file("owner/tiny/tokenizer.json", b"{}"),
            file("owner/tiny/modules.json", b"[]"),
            file("owner/tiny/1_Pooling/config.json", br#"{"pooling_mode_mean_tokens": true}"#),
            file("owner/tiny/model.safetensors", &weights()),
            file("owner/tiny/pytorch_model.bin", b"a pickle"),
            file("owner/tiny/README.md", b"# tiny"),
            file("owner/rows/data/a.jsonl", b"{\"q\": 1}\n"),
            file("owner/rows/data/b.jsonl", b"{\"q\": 2}\n"),
            file("owner/rows/data/deep/c.jsonl", b"{\"q\": 3}\n"),
        ];
        let behaviour = Arc::new(Mutex::new(Behaviour {
            files: files.into(),
            damaged: Vec::new(),
            cut: BTreeMap::new(),
            sizes: BTreeMap::new(),
            tells_hashes: true,
            knows_ranges: true,
            tells_error_codes: true,
            token: None,
            busy: 0,
        }));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        let storage = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = hub.local_addr().unwrap().port();
        let storage_port = storage.local_addr().unwrap().port();
        for listener in [hub, storage] {
            let (behaviour, asked) = (Arc::clone(&behaviour), Arc::clone(&asked));
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let (behaviour, asked) = (Arc::clone(&behaviour), Arc::clone(&asked));
                    // The client may close the connection at any time.
                    std::thread::spawn(move || drop(answer(&stream.unwrap(), &behaviour, &asked, storage_port)));
                }
            });
        }
        Self { port, behaviour, asked }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap()
    }

    /// Returns the requests since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

type Headers = Vec<(&'static str, String)>;

fn answer(
    stream: &TcpStream,
    behaviour: &Mutex<Behaviour>,
    asked: &Mutex<Vec<Asked>>,
    storage_port: u16,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let mut headers = BTreeMap::new();
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let question = Asked {
        method,
        path,
        range: headers.get("range").cloned(),
        authorization: headers.get("authorization").cloned(),
    };
    asked.lock().unwrap().push(question.clone());
    let mut behaviour = behaviour.lock().unwrap();
    let (status, mut headers, mut body) = respond(&question, &mut behaviour, storage_port);
    let whole = body.len();
    let cut = behaviour.files.keys().find(|name| question.path.ends_with(name.as_str())).cloned();
    if let Some(bytes) =
        cut.filter(|_| question.method == "GET" && status / 100 == 2).and_then(|name| behaviour.cut.remove(&name))
    {
        body.truncate(bytes);
    }
    drop(behaviour);
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        headers.push(("Content-Length", whole.to_string()));
    }
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status} Status\r\nConnection: close\r\n")?;
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    if question.method != "HEAD" {
        stream.write_all(&body)?;
    }
    stream.flush()
}

fn respond(question: &Asked, behaviour: &mut Behaviour, storage_port: u16) -> (u16, Headers, Vec<u8>) {
    if behaviour.busy > 0 {
        behaviour.busy -= 1;
        return (503, Vec::new(), b"busy".to_vec());
    }
    let path = question.path.split('?').next().unwrap();
    if let Some(name) = path.strip_prefix("/storage/") {
        return content(question, behaviour, name, Vec::new());
    }
    let refusal = |status: u16, code: &str, behaviour: &Behaviour| {
        let headers = if behaviour.tells_error_codes { vec![("X-Error-Code", code.to_owned())] } else { Vec::new() };
        (status, headers, Vec::new())
    };
    if let Some(token) = &behaviour.token {
        match &question.authorization {
            None => return refusal(401, "RepoNotFound", behaviour),
            Some(sent) if *sent != format!("Bearer {token}") => return refusal(403, "GatedRepo", behaviour),
            Some(_) => {}
        }
    }
    if let Some(rest) = path.strip_prefix("/api/models/").or_else(|| path.strip_prefix("/api/datasets/")) {
        let (repo, revision) = rest.split_once("/revision/").unwrap_or((rest, "main"));
        if !behaviour.files.keys().any(|name| name.starts_with(&format!("{repo}/"))) {
            return refusal(404, "RepoNotFound", behaviour);
        }
        if !["main", COMMIT].contains(&revision) {
            return refusal(404, "RevisionNotFound", behaviour);
        }
        return (200, Vec::new(), listing(repo, behaviour).to_string().into_bytes());
    }
    let path = path.strip_prefix("/datasets/").unwrap_or(path.trim_start_matches('/'));
    let Some((repo, rest)) = path.split_once("/resolve/") else { return (404, Vec::new(), Vec::new()) };
    let (commit, file) = rest.split_once('/').unwrap();
    let name = format!("{repo}/{file}");
    let Some(bytes) = behaviour.files.get(&name).filter(|_| commit == COMMIT) else {
        return refusal(404, "EntryNotFound", behaviour);
    };
    let mut headers = vec![("X-Repo-Commit", COMMIT.to_owned())];
    if is_large(file) {
        headers.push(("X-Linked-Etag", format!("\"{}\"", sha256(bytes))));
        headers.push(("X-Linked-Size", bytes.len().to_string()));
        headers.push(("Location", format!("http://127.0.0.1:{storage_port}/storage/{name}")));
        return (302, headers, Vec::new());
    }
    headers.push(("ETag", format!("\"{}\"", git_hash(bytes))));
    content(question, behaviour, &name, headers)
}

fn content(question: &Asked, behaviour: &Behaviour, name: &str, mut headers: Headers) -> (u16, Headers, Vec<u8>) {
    let Some(bytes) = behaviour.files.get(name) else { return (404, Vec::new(), Vec::new()) };
    let mut bytes = bytes.clone();
    if behaviour.damaged.iter().any(|damaged| damaged == name) {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }
    let from = question
        .range
        .as_ref()
        .filter(|_| behaviour.knows_ranges)
        .map(|range| range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse::<usize>().unwrap());
    match from {
        Some(from) if from >= bytes.len() => (416, headers, Vec::new()),
        Some(from) => {
            headers.push(("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())));
            (206, headers, bytes[from..].to_vec())
        }
        None => (200, headers, bytes),
    }
}

fn listing(repo: &str, behaviour: &Behaviour) -> Value {
    let prefix = format!("{repo}/");
    let files = behaviour.files.iter().filter_map(|(name, bytes)| Some((name.strip_prefix(&prefix)?, bytes)));
    let siblings: Vec<Value> = files
        .map(|(name, bytes)| {
            let size = behaviour.sizes.get(&format!("{prefix}{name}")).copied().unwrap_or(bytes.len());
            let mut sibling = json!({"rfilename": name});
            if behaviour.tells_hashes {
                sibling["size"] = json!(size);
                sibling["blobId"] = json!(git_hash(bytes)); // for a large file, the hub gives the hash of its pointer
                if is_large(name) {
                    sibling["blobId"] = json!(git_hash(b"version https://git-lfs.github.com/spec/v1"));
                    sibling["lfs"] = json!({"sha256": sha256(bytes), "size": size, "pointerSize": 134});
                }
            }
            sibling
        })
        .collect();
    json!({"id": repo, "sha": COMMIT, "private": false, "siblings": siblings})
}
