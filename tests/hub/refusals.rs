//! Failed downloads: each error has a suggestion, and no partial file remains visible.

use crate::server::{COMMIT, sha256, weights};
use crate::{World, fetch, files_below};
use orchestrate::hub::{HubEnvironment, HubError};

const MODEL: &str = "hf://owner/tiny";

/// Asserts that the message and the hint together contain `words`.
fn says(error: &HubError, words: &[&str]) {
    let text = format!("{error}\n{}", error.hint());
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[test]
fn damaged_bytes_are_removed_and_named() {
    for name in ["model.safetensors", "config.json"] {
        let world = World::new();
        world.server.set().damaged.push(format!("owner/tiny/{name}"));
        let error = world.fetch(MODEL).unwrap_err();
        let HubError::Damaged { file, expected, found, .. } = &error else { panic!("{error}") };
        assert_eq!(file, name);
        assert_ne!(expected, found);
        says(&error, &[name, expected, found, "retry"]);
        if name == "model.safetensors" {
            assert_eq!(*expected, sha256(&weights()));
        }
        let left = files_below(&world.folder());
        let pointer = format!("snapshots/{COMMIT}/{name}");
        let of_blob = |file: &String| file.starts_with("blobs/") && file.contains(expected.as_str());
        assert!(!left.contains(&pointer) && !left.iter().any(of_blob), "{left:?}");
        assert!(!world.folder().join("refs/main").exists());
        world.server.set().damaged.clear();
        world.fetch(MODEL).unwrap();
    }
}

#[test]
fn a_gated_model_asks_for_the_token() {
    let world = World::new();
    world.server.set().token = Some("hf_right".to_owned());
    let with =
        |token: Option<&str>| fetch(HubEnvironment { token: token.map(str::to_owned), ..world.environment() }, MODEL);
    says(&with(None).unwrap_err(), &["401", "HF_TOKEN", "owner/tiny"]);
    says(&with(Some("hf_wrong")).unwrap_err(), &["403", "HF_TOKEN", "accept the terms"]);
    with(Some("hf_right")).unwrap();
}

#[test]
fn a_missing_repository_and_a_missing_revision_are_told_apart() {
    let world = World::new();
    for tells_error_codes in [true, false] {
        world.server.set().tells_error_codes = tells_error_codes;
        let error = world.fetch("hf://owner/huge").unwrap_err();
        assert!(matches!(error, HubError::NoRepository { .. }), "{error}");
        says(&error, &["owner/huge", "127.0.0.1"]);
        let error = world.fetch("hf://owner/tiny@v9").unwrap_err();
        assert!(matches!(error, HubError::NoRevision { .. }), "{error}");
        says(&error, &["owner/tiny", "v9"]);
    }
    let error = world.fetch("hf://datasets/owner/rows/data/z.jsonl").unwrap_err();
    says(&error, &["data/z.jsonl", "data/a.jsonl"]);
}

#[test]
fn offline_what_is_here_is_used_and_what_is_not_says_where_to_put_it() {
    let world = World::new();
    let offline = || HubEnvironment { offline: true, ..world.environment() };
    let error = fetch(offline(), MODEL).unwrap_err();
    says(&error, &["HF_HUB_OFFLINE", "HF_HUB_CACHE", "models--owner--tiny", "local directory"]);
    says(&error, &[&world.cache().display().to_string()]);
    world.fetch(MODEL).unwrap();
    world.server.asked();
    let snapshot = fetch(offline(), MODEL).unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    assert!(snapshot.not_asked.unwrap().contains("HF_HUB_OFFLINE"));
    assert!(fetch(offline(), &format!("{MODEL}@{COMMIT}")).unwrap().not_asked.is_none());
    assert!(world.server.asked().is_empty());
    // The state that Python leaves: without our listing.
    fs_err::remove_dir_all(world.folder().join(".listings")).unwrap();
    fetch(offline(), MODEL).unwrap();
    fs_err::remove_file(snapshot.directory.join("model.safetensors")).unwrap();
    fetch(offline(), MODEL).unwrap_err();
}

#[test]
fn without_a_network_what_is_here_is_used_and_what_is_not_says_what_to_do() {
    let world = World::new();
    // A dropped listener's port refuses connections. No other test listens on this address.
    let address = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let gone = || HubEnvironment { endpoint: format!("http://{address}").parse().unwrap(), ..world.environment() };
    let error = fetch(gone(), MODEL).unwrap_err();
    says(&error, &["cannot reach `127.0.0.2", "refused", "HF_ENDPOINT", "HF_HUB_CACHE", "models--owner--tiny"]);
    world.fetch(MODEL).unwrap();
    assert!(fetch(gone(), MODEL).unwrap().not_asked.unwrap().contains("cannot be reached"));
}

#[test]
fn pickles_are_never_fetched() {
    let world = World::new();
    world.server.set().files.remove("owner/tiny/model.safetensors");
    let error = world.fetch(MODEL).unwrap_err();
    assert!(matches!(error, HubError::OnlyPickles { .. }), "{error}");
    says(&error, &["pytorch_model.bin", "refs/pr/1", "save_pretrained"]);
    assert!(!world.folder().join("blobs").exists());
}

#[test]
fn what_is_no_model_is_refused_before_anything_is_fetched() {
    let world = World::new();
    world.server.set().files.remove("owner/tiny/tokenizer.json");
    says(&world.fetch(MODEL).unwrap_err(), &["lacks `tokenizer.json`"]);
    assert!(!world.folder().join("blobs").exists());
}

#[test]
fn a_hub_that_stays_busy_is_unreachable() {
    let world = World::new();
    world.server.set().busy = usize::MAX;
    says(&world.fetch(MODEL).unwrap_err(), &["503", "HF_ENDPOINT"]);
}
