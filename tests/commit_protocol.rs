//! A process that dies at any point of the commit protocol leaves no partial result, and a rerun recovers.
//!
//! Each test runs this binary again as the worker that dies, with a fault point set in its environment.

use orchestrate::digest::Digest;
use orchestrate::event::EventKind;
use orchestrate::recipe::Bfloat16Products;
use orchestrate::recipe::spec::{
    DataFile, DataFormat, DataSpec, Dtype, EvalSpec, ModelSpec, ParentAdapter, Sampling, Selection, Split, StageSpec,
    Templates, Total, Work,
};
use orchestrate::workspace::{
    Assignment, Attempt, DeviceChoice, EventReader, Lookup, Runtime, Workspace, WorkspaceError,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn assignment() -> Assignment {
    let digest = Digest::of(b"content");
    let data = DataSpec {
        files: vec![DataFile::File { digest: digest.clone(), format: DataFormat::Jsonl }],
        eval_fraction: 0.5,
        dev_fraction: 0.0,
        split: Split::Eval,
        max_rows: None,
        messages: None,
        decontaminate: None,
        templates: Templates::default(),
        selection: Selection::default(),
    };
    let sampling = Sampling::plain(1);
    let work = EvalSpec {
        data_set: "mcq".to_owned(),
        out_of_domain: false,
        data,
        best: None,
        options: None,
        by: BTreeSet::new(),
        text: None,
        sampling,
        samples_per_question: 1,
        pass_at: BTreeSet::new(),
        maj_at: BTreeSet::new(),
        probes: false,
        batch_size: 1,
        rewards: BTreeMap::new(),
        total: Total::Sum,
        trained: BTreeSet::new(),
        bootstrap_resamples: 1,
        max_missing_fraction: 0.5,
    };
    Assignment {
        key: Digest::of(b"the key"),
        stage: "eval".to_owned(),
        spec: StageSpec {
            seed: 0,
            model: Some(ModelSpec {
                files: digest,
                chat_template: None,
                dtype: Dtype::Float32,
                lora: None,
                parent_adapter: ParentAdapter::Continue,
            }),
            until: None,
            work: Work::Eval(work),
        },
        inputs: BTreeMap::new(),
        results: BTreeMap::new(),
        snapshots: BTreeMap::new(),
        parents: Vec::new(),
        program: None,
        runtime: Runtime {
            device: DeviceChoice::Cpu,
            threads: None,
            resume_interval_s: 0.0,
            keep_resume_points: 2,
            gradient_checkpointing: false,
            bfloat16_products: Bfloat16Products::Auto,
            deterministic: true,
            cuda_graphs: false,
            judges: BTreeMap::new(),
            endpoints: BTreeMap::new(),
        },
    }
}

fn prepare(root: &Path) -> (Workspace, Attempt) {
    let cache = Workspace::open(root).unwrap();
    let attempt = cache.prepare(&assignment(), &serde_json::json!({"kind": "eval"})).unwrap();
    (cache, attempt)
}

/// The child's work: resume points, an output, the commit.
fn work(dir: &Path) -> Result<(), WorkspaceError> {
    let mut attempt = Attempt::open(dir)?;
    let lease = attempt.acquire()?;
    if attempt.is_committed() {
        return Ok(());
    }
    attempt.append(&EventKind::Phase("working".to_owned()))?;
    let start = attempt.latest_resume_point()?.map_or(0, |(step, _)| step);
    for step in start + 1..=3 {
        attempt.save_resume_point(step, |dir| fs_err::write(dir.join("state"), step.to_string()))?;
    }
    fs_err::write(attempt.out_dir()?.join("result"), "42")?;
    attempt.commit(&lease)?;
    Ok(())
}

/// The child's entry point; does nothing in a normal run of the tests.
#[test]
fn child() {
    if let Some(dir) = std::env::var_os("COMMIT_PROTOCOL_DIR") {
        work(Path::new(&dir)).unwrap();
    }
}

fn run_child(dir: &Path, fault: &str) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--test-threads", "1"])
        .env("COMMIT_PROTOCOL_DIR", dir)
        .env("ORCHESTRATE_FAULT", fault)
        .output()
        .unwrap()
        .status;
    status.success()
}

fn result(cache: &Workspace) -> Option<PathBuf> {
    match cache.lookup(&assignment().key).unwrap() {
        Lookup::Hit(checkpoint) => Some(checkpoint.dir.join("result")),
        Lookup::Miss => None,
        Lookup::Quarantined { reason, .. } => panic!("something half-made was visible: {reason}"),
    }
}

#[test]
fn a_death_at_any_point_is_recovered_from() {
    for fault in [
        "resume-before-manifest",
        "resume-before-rename",
        "resume-after-rename",
        "commit-before-manifest",
        "commit-before-rename",
        "commit-after-rename",
        "commit-after-cleanup",
    ] {
        let root = tempfile::tempdir().unwrap();
        let (cache, attempt) = prepare(root.path());
        let dir = attempt.dir().to_owned();
        assert!(!run_child(&dir, fault), "the child survived `{fault}`");
        let visible = result(&cache).is_some();
        assert_eq!(visible, fault.starts_with("commit-after"), "after `{fault}`");
        if !visible {
            let resumed = Attempt::open(&dir).unwrap().latest_resume_point().unwrap();
            if fault.starts_with("commit") || fault == "resume-after-rename" {
                assert!(resumed.is_some(), "`{fault}` lost the resume points");
            }
            prepare(root.path());
            assert!(run_child(&dir, ""), "the rerun after `{fault}` failed");
        }
        assert_eq!(fs_err::read_to_string(result(&cache).unwrap()).unwrap(), "42", "after `{fault}`");
        let Lookup::Hit(_) = cache.verify(&assignment().key).unwrap() else { panic!("damaged after `{fault}`") };
    }
}

#[test]
fn only_the_newest_resume_points_stay_and_a_broken_one_is_skipped() {
    let root = tempfile::tempdir().unwrap();
    let (_, attempt) = prepare(root.path());
    for step in 1..=4 {
        attempt.save_resume_point(step, |dir| fs_err::write(dir.join("state"), step.to_string())).unwrap();
    }
    let (step, dir) = attempt.latest_resume_point().unwrap().unwrap();
    assert_eq!(step, 4);
    assert!(!dir.with_file_name("step-2").exists() && dir.with_file_name("step-3").exists());
    fs_err::write(dir.join("state"), "9").unwrap(); // same size, other content
    let (step, dir) = attempt.latest_resume_point().unwrap().unwrap();
    assert_eq!((step, fs_err::read_to_string(dir.join("state")).unwrap().as_str()), (3, "3"));
}

#[test]
fn a_resume_point_that_cannot_be_written_leaves_the_one_before() {
    let root = tempfile::tempdir().unwrap();
    let (_, attempt) = prepare(root.path());
    attempt.save_resume_point(1, |dir| fs_err::write(dir.join("state"), "1")).unwrap();
    let failed = attempt.save_resume_point(2, |_| Err("no space left"));
    assert!(failed.unwrap_err().to_string().contains("no space left"));
    assert_eq!(attempt.latest_resume_point().unwrap().unwrap().0, 1);
}

#[test]
fn a_damaged_checkpoint_is_quarantined_and_never_served() {
    for (damage, by_size) in [("421", true), ("43", false)] {
        let root = tempfile::tempdir().unwrap();
        let (cache, attempt) = prepare(root.path());
        work(attempt.dir()).unwrap();
        fs_err::write(result(&cache).unwrap(), damage).unwrap();
        let found = if by_size { cache.lookup(&assignment().key) } else { cache.verify(&assignment().key) }.unwrap();
        let Lookup::Quarantined { reason, dir } = found else { panic!("served: {found:?}") };
        assert!(reason.contains("`result`"), "{reason}");
        assert!(dir.join("result").exists());
        assert_eq!(cache.lookup(&assignment().key).unwrap(), Lookup::Miss);
    }
}

#[test]
fn a_lease_excludes_a_second_worker_and_falls_free_when_its_owner_ends() {
    let root = tempfile::tempdir().unwrap();
    let (cache, attempt) = prepare(root.path());
    let lease = attempt.acquire().unwrap();
    let error = Attempt::open(attempt.dir()).unwrap().acquire().unwrap_err();
    let WorkspaceError::Leased { owner } = &error else { panic!("{error}") };
    assert_eq!(owner.pid, std::process::id());
    assert_eq!(cache.holder(&assignment().key).unwrap().pid, std::process::id());
    assert!(matches!(cache.begin_again(&assignment().key, false), Err(WorkspaceError::Leased { .. })));
    drop(lease);
    assert_eq!(cache.holder(&assignment().key), None);
    // This worker dies while it holds the lease.
    assert!(!run_child(attempt.dir(), "resume-before-manifest"));
    attempt.acquire().unwrap();
}

#[test]
fn an_event_line_that_a_killed_worker_left_unfinished_is_cut_off() {
    let root = tempfile::tempdir().unwrap();
    let (_, mut attempt) = prepare(root.path());
    let events = attempt.dir().join("events.jsonl");
    attempt.append(&EventKind::ResumePoint { step: 1 }).unwrap();
    let mut text = fs_err::read_to_string(&events).unwrap();
    text.push_str("{\"at\":\"20");
    fs_err::write(&events, text).unwrap();
    let mut reader = EventReader::new(attempt.dir());
    assert_eq!(reader.poll().unwrap().len(), 1, "an unfinished line is not an event");
    let mut again = Attempt::open(attempt.dir()).unwrap();
    again.append(&EventKind::ResumePoint { step: 2 }).unwrap();
    let kinds: Vec<EventKind> = reader.poll().unwrap().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::ResumePoint { step: 2 }]);
}

#[test]
fn a_read_only_directory_is_an_error_that_names_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // A directory below a file cannot be created, even by root.
    let error = Workspace::open(&file.path().join("runs")).unwrap_err();
    assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn a_full_disk_is_an_error_and_nothing_becomes_visible() {
    let mount = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(mount.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("skipped: mounting a small tmpfs needs root");
        return;
    }
    let (cache, mut attempt) = prepare(&mount.path().join("runs"));
    let lease = attempt.acquire().unwrap();
    let big = vec![1u8; 400 << 10];
    let failed = attempt.save_resume_point(1, |dir| fs_err::write(dir.join("state"), &big));
    assert!(failed.is_err());
    assert_eq!(attempt.latest_resume_point().unwrap(), None);
    let out = attempt.out_dir().unwrap();
    assert!(fs_err::write(out.join("result"), &big).is_err());
    let committed = attempt.commit(&lease);
    let visible = cache.lookup(&assignment().key).unwrap();
    drop((lease, attempt));
    Command::new("umount").arg("-l").arg(mount.path()).status().unwrap();
    assert!(committed.is_err(), "a commit on a full disk succeeded");
    assert_eq!(visible, Lookup::Miss);
}
