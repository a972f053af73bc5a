//! Downloads: the fetched files, their places, and how an interrupted download continues.

use crate::server::{COMMIT, WEIGHTS_BYTES, git_hash, sha256, weights};
use crate::{World, fetch, files_below};
use orchestrate::hub::{Hub, HubEnvironment, HubStep};
use orchestrate::recipe::HubReference;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const MODEL: &str = "hf://owner/tiny";

fn pinned() -> String {
    format!("{MODEL}@{COMMIT}")
}

#[test]
fn a_model_lands_in_the_layout_that_python_reads() {
    let world = World::new();
    let snapshot = world.fetch(MODEL).unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(snapshot.directory, world.folder().join("snapshots").join(COMMIT));
    assert_eq!(fs_err::read(snapshot.directory.join("model.safetensors")).unwrap(), weights());
    assert_eq!(fs_err::read_to_string(world.folder().join("refs/main")).unwrap(), COMMIT);
    assert_eq!(
        files_below(&snapshot.directory),
        ["1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", "tokenizer.json"]
    );
    let link = |name: &str| fs_err::read_link(snapshot.directory.join(name)).unwrap();
    assert_eq!(link("model.safetensors"), Path::new("../../blobs").join(sha256(&weights())));
    assert_eq!(link("tokenizer.json"), Path::new("../../blobs").join(git_hash(b"{}")));
    assert!(link("1_Pooling/config.json").starts_with("../../../blobs"));
    let asked = world.server.asked();
    assert!(asked.iter().all(|asked| !asked.path.contains(".bin") && !asked.path.contains("README")), "{asked:?}");
}

#[test]
fn a_commit_that_is_here_needs_no_network_and_a_branch_one_question() {
    let world = World::new();
    world.fetch(MODEL).unwrap();
    world.server.asked();
    assert_eq!(world.fetch(&pinned()).unwrap().commit, COMMIT);
    assert!(world.server.asked().is_empty());
    assert!(world.fetch(MODEL).unwrap().not_asked.is_none());
    assert_eq!(world.server.asked().len(), 1);
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_the_storage() {
    let world = World::new();
    world.server.set().token = Some("hf_secret".to_owned());
    fetch(HubEnvironment { token: Some("hf_secret".to_owned()), ..world.environment() }, MODEL).unwrap();
    let (storage, hub): (Vec<_>, Vec<_>) =
        world.server.asked().into_iter().partition(|asked| asked.path.starts_with("/storage/"));
    assert!(!storage.is_empty() && storage.iter().all(|asked| asked.authorization.is_none()));
    assert!(hub.iter().all(|asked| asked.authorization.as_deref() == Some("Bearer hf_secret")));
}

#[test]
fn a_dropped_connection_is_gone_on_with_where_it_broke() {
    let world = World::new();
    world.server.set().cut.insert("owner/tiny/model.safetensors".to_owned(), 300_000);
    let snapshot = world.fetch(MODEL).unwrap();
    assert_eq!(fs_err::read(snapshot.directory.join("model.safetensors")).unwrap(), weights());
    let ranges: Vec<_> = world
        .server
        .asked()
        .into_iter()
        .filter(|asked| asked.path.starts_with("/storage/"))
        .map(|asked| asked.range)
        .collect();
    assert_eq!(ranges, [None, Some("bytes=300000-".to_owned())]);
}

/// Leaves a partial file, as a killed process does.
fn leave_partial(world: &World, bytes: &[u8]) {
    let blobs = world.folder().join("blobs");
    fs_err::create_dir_all(&blobs).unwrap();
    fs_err::write(blobs.join(format!("{}.incomplete", sha256(&weights()))), bytes).unwrap();
}

#[test]
fn a_killed_download_is_gone_on_with_by_the_next_process() {
    let world = World::new();
    leave_partial(&world, &weights()[..500_000]);
    let snapshot = world.fetch(MODEL).unwrap();
    assert_eq!(fs_err::read(snapshot.directory.join("model.safetensors")).unwrap(), weights());
    assert!(world.server.asked().iter().any(|asked| asked.range.as_deref() == Some("bytes=500000-")));
}

#[test]
fn a_partial_file_that_is_whole_already_is_not_asked_for() {
    let world = World::new();
    leave_partial(&world, &weights());
    world.fetch(MODEL).unwrap();
    assert!(world.server.asked().iter().all(|asked| !asked.path.starts_with("/storage/")));
}

#[test]
fn a_server_without_ranges_and_a_partial_file_that_is_too_long_begin_anew() {
    for (partial, knows_ranges) in [(500_000, false), (WEIGHTS_BYTES, true)] {
        let world = World::new();
        world.server.set().knows_ranges = knows_ranges;
        let mut bytes = weights()[..partial].to_vec();
        if knows_ranges {
            bytes.push(0);
        }
        leave_partial(&world, &bytes);
        let snapshot = world.fetch(MODEL).unwrap();
        assert_eq!(fs_err::read(snapshot.directory.join("model.safetensors")).unwrap(), weights());
    }
}

#[test]
fn a_busy_hub_is_asked_again() {
    let world = World::new();
    world.server.set().busy = 2;
    world.fetch(MODEL).unwrap();
}

#[test]
fn a_mirror_that_tells_no_hashes_is_asked_for_each_file() {
    let world = World::new();
    world.server.set().tells_hashes = false;
    let snapshot = world.fetch(MODEL).unwrap();
    let link = fs_err::read_link(snapshot.directory.join("model.safetensors")).unwrap();
    assert_eq!(link, Path::new("../../blobs").join(sha256(&weights())));
    assert!(world.server.asked().iter().any(|asked| asked.method == "HEAD"));
}

#[test]
fn only_the_parts_that_the_index_names_are_fetched() {
    let world = World::new();
    {
        let mut behaviour = world.server.set();
        let weights = behaviour.files.remove("owner/tiny/model.safetensors").unwrap();
        let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
        let index = json!({"weight_map": {"a": one, "b": two, "c": one}}).to_string();
        behaviour.files.insert("owner/tiny/model.safetensors.index.json".to_owned(), index.into_bytes());
        behaviour.files.insert(format!("owner/tiny/{one}"), weights[..1000].to_vec());
        behaviour.files.insert(format!("owner/tiny/{two}"), weights[1000..].to_vec());
        behaviour.files.insert("owner/tiny/consolidated.safetensors".to_owned(), weights);
    }
    let snapshot = world.fetch(MODEL).unwrap();
    let files = files_below(&snapshot.directory);
    assert!(files.contains(&"model-00002-of-00002.safetensors".to_owned()), "{files:?}");
    assert!(!files.contains(&"consolidated.safetensors".to_owned()), "{files:?}");
    world.server.asked();
    world.fetch(&pinned()).unwrap();
    assert!(world.server.asked().is_empty());
}

#[test]
fn files_of_a_data_set_by_name_and_by_pattern() {
    let world = World::new();
    let names = |text: &str| {
        let snapshot = world.fetch(text).unwrap();
        let relative =
            |path: &std::path::PathBuf| path.strip_prefix(&snapshot.directory).unwrap().display().to_string();
        snapshot.files.iter().map(relative).collect::<Vec<_>>()
    };
    assert_eq!(names("hf://datasets/owner/rows/data/b.jsonl"), ["data/b.jsonl"]);
    assert_eq!(names("hf://datasets/owner/rows@main/data/*.jsonl"), ["data/a.jsonl", "data/b.jsonl"]);
    let root = world.cache().join("datasets--owner--rows/snapshots").join(COMMIT);
    assert_eq!(fs_err::read_to_string(root.join("data/b.jsonl")).unwrap(), "{\"q\": 2}\n");
    assert!(!root.join("data/deep/c.jsonl").exists());
}

#[test]
fn what_another_program_left_out_is_added() {
    let world = World::new();
    let snapshot = world.fetch(MODEL).unwrap();
    // The state that transformers leaves: without the encoder's files, and without our listing.
    fs_err::remove_dir_all(world.folder().join(".listings")).unwrap();
    fs_err::remove_file(snapshot.directory.join("modules.json")).unwrap();
    world.server.asked();
    let again = world.fetch(&pinned()).unwrap();
    assert!(again.directory.join("modules.json").is_file());
    assert!(world.server.asked().iter().all(|asked| !asked.path.starts_with("/storage/")));
}

#[test]
fn two_processes_download_a_file_once() {
    let world = World::new();
    std::thread::scope(|scope| {
        let both: Vec<_> = (0..2).map(|_| scope.spawn(|| world.fetch(MODEL).unwrap())).collect();
        for one in both {
            let directory = one.join().unwrap().directory;
            assert_eq!(fs_err::read(directory.join("model.safetensors")).unwrap(), weights());
        }
    });
    let large = world.server.asked().into_iter().filter(|asked| asked.path.starts_with("/storage/")).count();
    assert_eq!(large, 1);
}

#[test]
fn names_that_lead_out_of_the_cache_are_no_files() {
    let world = World::new();
    world.server.set().files.insert("owner/rows/../../evil.jsonl".to_owned(), b"{}".to_vec());
    let snapshot = world.fetch("hf://datasets/owner/rows/**/*.jsonl").unwrap();
    assert!(snapshot.files.iter().all(|file| file.starts_with(&snapshot.directory)), "{:?}", snapshot.files);
    assert!(files_below(world.cache()).iter().all(|file| !file.contains("evil")));
}

#[test]
fn a_file_that_is_shorter_than_listed_is_not_asked_for_for_ever() {
    for knows_ranges in [true, false] {
        let world = World::new();
        world.server.set().sizes.insert("owner/tiny/model.safetensors".to_owned(), WEIGHTS_BYTES + 10);
        world.server.set().knows_ranges = knows_ranges;
        let error = world.fetch(MODEL).unwrap_err();
        assert!(error.to_string().contains("the file ends early"), "{error}");
        let asked = world.server.asked().iter().filter(|asked| asked.path.starts_with("/storage/")).count();
        assert!(asked <= 6, "ranges {knows_ranges}: asked {asked} times");
    }
}

#[test]
fn no_more_of_a_file_is_written_than_is_listed() {
    const LISTED: usize = 1000;
    let world = World::new();
    world.server.set().sizes.insert("owner/tiny/model.safetensors".to_owned(), LISTED);
    let received = Arc::new(AtomicU64::new(0));
    let sum = Arc::clone(&received);
    let hub = Hub::new(world.environment(), move |step| {
        if let HubStep::Received(bytes) = step {
            sum.fetch_add(bytes, Ordering::Relaxed);
        }
    });
    let error = { hub }.snapshot(&HubReference::parse(MODEL).unwrap()).unwrap_err();
    assert!(error.to_string().contains("1001"), "{error}");
    let others = 1000; // for the small files
    assert!(received.load(Ordering::Relaxed) < (LISTED + others) as u64, "{received:?}");
}
