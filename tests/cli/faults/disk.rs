//! Full disks, read-only directories, flipped bits, clocks that go backwards.

use super::{RUN, holds_the_same, project, workers};
use crate::env::TestEnv;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// A small file system of its own at `runs/`.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts the file system. Returns `None`, with a message, if this user may not mount.
    fn mount(env: &TestEnv, size: &str) -> Option<Self> {
        let path = env.path("runs");
        fs_err::create_dir_all(&path).unwrap();
        let options = format!("size={size}");
        let mounted = mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], &path);
        if !mounted {
            #[expect(clippy::print_stderr, reason = "a skipped test says why")]
            {
                eprintln!("skipped: mounting a small tmpfs needs root");
            }
        }
        mounted.then_some(Self { path })
    }

    fn again_with(&self, options: &str) {
        assert!(mount(&["-o", &format!("remount,{options}")], &self.path));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

fn mount(args: &[&str], path: &Path) -> bool {
    Command::new("mount").args(args).arg(path).output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_disk_that_fills_up_during_a_stage_costs_only_what_was_not_done() {
    let env = project();
    let Some(disk) = SmallDisk::mount(&env, "4m") else { return };
    env.write("ballast-bytes", "3000000");
    env.run(&RUN).ends_with(4).says(&["No space left", "the disk is full", "orchestrate resume"]);
    env.run(&["cache", "verify"]).ends_with(0);
    disk.again_with("size=64m");
    env.run(&["resume"]).ends_with(0).says(&["goes on after step 1"]);
    holds_the_same(&env, "a full disk");
}

#[test]
fn a_disk_that_is_full_before_a_run_is_reported() {
    let env = project();
    let Some(_disk) = SmallDisk::mount(&env, "1m") else { return };
    let filler = env.path("runs/filler");
    assert!(fs_err::write(&filler, vec![0; 2 << 20]).is_err());
    let ended = env.run(&RUN);
    assert!(matches!(ended.code, Some(1 | 4)), "{ended:?}");
    ended.says(&["No space left", "free some space"]);
    fs_err::remove_file(filler).unwrap();
    env.run(&RUN).ends_with(0);
    holds_the_same(&env, "a full disk");
}

#[test]
fn a_directory_that_became_read_only_is_reported_and_loses_nothing() {
    let env = project();
    let Some(disk) = SmallDisk::mount(&env, "16m") else { return };
    let script = fs_err::read_to_string(env.path("worker.sh")).unwrap();
    env.write("worker.sh", "#!/bin/sh\nkill -9 $$\n");
    env.run(&RUN).ends_with(4);
    env.write("worker.sh", &script);
    disk.again_with("ro");
    for args in [&["resume"][..], &RUN] {
        env.run(args).ends_with(1).says(&["Read-only file system", "must be writable"]);
    }
    env.run(&["plan", "small.toml"]).ends_with(0);
    env.run(&["cache", "ls"]).ends_with(0);
    disk.again_with("rw");
    env.run(&["resume"]).ends_with(0);
    holds_the_same(&env, "a read-only directory");
}

#[test]
fn a_flipped_bit_reaches_no_other_result() {
    let env = project();
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    let plan = env.run(&["plan", "small.toml", "--only", "base", "--json"]).json();
    let result = env.path("runs/cache").join(plan[0]["key"].as_str().unwrap()).join("result");
    let mut bytes = fs_err::read(&result).unwrap();
    bytes[7] ^= 1;
    fs_err::write(&result, bytes).unwrap();
    env.run(&RUN).ends_with(0).says(&["a damaged result was moved to", "quarantine", "`result` has digest"]);
    assert_eq!(workers(&env, "base").len(), 2);
    assert_eq!(fs_err::read_dir(env.path("runs/quarantine")).unwrap().count(), 1);
    holds_the_same(&env, "a flipped bit");
}

#[test]
fn a_flipped_bit_in_a_resume_point_takes_the_one_before() {
    let env = project();
    super::run_with_fault(&env, &RUN, "commit-before-record").ends_with(4);
    let plan = env.run(&["plan", "small.toml", "--only", "base", "--json"]).json();
    let attempt = env.path("runs/work").join(plan[0]["key"].as_str().unwrap());
    let state = attempt.join("resume/step-3/state");
    let mut bytes = fs_err::read(&state).unwrap();
    bytes[7] ^= 1;
    fs_err::write(&state, bytes).unwrap();
    env.run(&["resume"]).ends_with(0).says(&["goes on after step 2"]);
    holds_the_same(&env, "a flipped bit in a resume point");
}

#[test]
fn a_clock_that_was_set_back_during_a_run_changes_nothing() {
    fn touch(path: &Path, at: SystemTime) {
        fs_err::File::open(path).unwrap().set_modified(at).unwrap();
        if path.is_dir() {
            for entry in fs_err::read_dir(path).unwrap() {
                touch(&entry.unwrap().path(), at);
            }
        }
    }
    let env = project();
    super::run_with_fault(&env, &RUN, "commit-before-manifest").ends_with(4);
    touch(&env.path("runs"), SystemTime::now() + Duration::from_hours(400 * 24));
    for lease in fs_err::read_dir(env.path("runs/work")).unwrap() {
        let path = lease.unwrap().path().join("lease.json");
        let text = fs_err::read_to_string(&path).unwrap();
        let year = chrono::Utc::now().format("\"since\": \"%Y").to_string();
        assert!(text.contains(&year), "{text}");
        fs_err::write(path, text.replace(&year, "\"since\": \"2099")).unwrap();
    }
    env.run(&["cache", "gc", "--older-than", "0d", "--leftovers", "0d", "--delete"]).ends_with(0);
    env.run(&["resume"]).ends_with(0).says(&["goes on after step 3"]);
    holds_the_same(&env, "a clock set back");
}
