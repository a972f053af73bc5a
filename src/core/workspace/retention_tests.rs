use super::*;
use crate::stage::StageKind;
use crate::workspace::pins::Pin;
use proptest::prelude::*;

fn now() -> DateTime<Utc> {
    "2026-06-30T12:00:00Z".parse().unwrap()
}

fn days_ago(days: i64) -> DateTime<Utc> {
    now() - TimeDelta::days(days)
}

fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// Returns a checkpoint of 100 bytes that was made `days` days ago.
fn made(name: &str, days: i64, parents: &[&str]) -> StoredCheckpoint {
    StoredCheckpoint {
        key: key(name),
        stage: name.to_owned(),
        kind: Some(StageKind::Sft),
        committed_at: days_ago(days),
        bytes: 100,
        damaged: false,
        parents: parents.iter().map(|parent| key(parent)).collect(),
        inputs: [key(&format!("data of {name}"))].into(),
        pin: None,
        held: false,
    }
}

fn leftover(kind: LeftoverKind, name: &str, days: i64) -> Leftover {
    Leftover {
        kind,
        path: PathBuf::from(name),
        key: matches!(kind, LeftoverKind::Attempt | LeftoverKind::FinishedAttempt).then(|| key(name)),
        bytes: 10,
        touched_at: days_ago(days),
        parents: Vec::new(),
        inputs: [key(&format!("data of {name}"))].into(),
        held: false,
    }
}

fn nothing_asked() -> Policy {
    Policy { unused_for: None, unreferenced: false, max_bytes: None, leftovers_untouched_for: TimeDelta::days(7) }
}

fn older_than(days: i64) -> Policy {
    Policy { unused_for: Some(TimeDelta::days(days)), ..nothing_asked() }
}

/// Returns the stages and file names of the removed items, in the order of removal.
fn gone(choice: &RemovalChoice) -> Vec<String> {
    let name = |removal: &Removal| match removal {
        Removal::Checkpoint { checkpoint, .. } => checkpoint.stage.clone(),
        Removal::Leftover { leftover, .. } => leftover.path.to_string_lossy().into_owned(),
    };
    choice.removals.iter().map(name).collect()
}

#[test]
fn no_checkpoint_goes_unasked() {
    let choice = choose(&[made("old", 1000, &[])], &[], &Needs::default(), &nothing_asked(), now());
    assert_eq!(choice, RemovalChoice { kept_bytes: 100, ..RemovalChoice::default() });
}

#[test]
fn the_record_of_a_file_goes_with_the_last_thing_that_was_made_from_it() {
    let checkpoints = [made("old", 40, &[]), made("new", 3, &[])];
    let record = |name: &str, days| leftover(LeftoverKind::InputRecord, name, days);
    let leftovers = [
        record("old", 40),
        record("new", 40),
        leftover(LeftoverKind::Attempt, "attempt", 3),
        record("attempt", 40),
        record("nothing", 40),
        record("just written", 0),
    ];
    let removed = |needs: &Needs, policy: &Policy| gone(&choose(&checkpoints, &leftovers, needs, policy, now()));
    assert_eq!(removed(&Needs::default(), &nothing_asked()), ["nothing"]);
    assert_eq!(removed(&Needs::default(), &older_than(30)), ["old", "nothing", "old"]);
    let live = Needs { live: [key("elsewhere")].into(), ..Needs::default() };
    assert_eq!(removed(&live, &nothing_asked()), [""; 0], "a live run may be about to read it");
}

#[test]
fn age_counts_from_the_last_use() {
    let checkpoints = [made("used", 40, &[]), made("unused", 40, &[]), made("new", 3, &[])];
    let needs = Needs { last_used: [(key("used"), days_ago(2))].into(), ..Needs::default() };
    let choice = choose(&checkpoints, &[], &needs, &older_than(30), now());
    assert_eq!(gone(&choice), ["unused"]);
    assert_eq!(choice.removals[0].reason(), "not used for 40 days");
}

#[test]
fn what_is_needed_stays_and_so_does_what_it_was_made_from() {
    let mut checkpoints = [
        made("base", 90, &[]),
        made("pinned", 80, &["base"]),
        made("side", 80, &["base"]),
        made("live", 80, &[]),
        made("held", 80, &[]),
    ];
    checkpoints[1].pin = Some(Pin { note: None, at: now() });
    checkpoints[4].held = true;
    let needs = Needs { live: [key("live")].into(), ..Needs::default() };
    let choice = choose(&checkpoints, &[], &needs, &older_than(30), now());
    assert_eq!(gone(&choice), ["side"]);
    let mut needed = vec![
        (key("base"), Need::Parent),
        (key("pinned"), Need::Pinned),
        (key("live"), Need::LiveRun),
        (key("held"), Need::Held),
    ];
    needed.sort();
    assert_eq!(choice.needed, needed);
}

#[test]
fn a_parent_goes_after_its_last_child() {
    let checkpoints = [made("base", 90, &[]), made("tuned", 80, &["base"]), made("eval", 70, &["tuned"])];
    let all = choose(&checkpoints, &[], &Needs::default(), &older_than(30), now());
    assert_eq!(gone(&all), ["eval", "tuned", "base"]);
    let but_one = choose(&checkpoints, &[], &Needs::default(), &older_than(75), now());
    assert_eq!(gone(&but_one), Vec::<String>::new(), "`eval` is too new, so all of its line stays");
}

#[test]
fn the_least_recently_used_go_until_the_rest_fits() {
    let checkpoints = [made("a", 4, &[]), made("b", 3, &[]), made("c", 2, &["a"]), made("d", 1, &[])];
    let policy = |max_bytes| Policy { max_bytes: Some(max_bytes), ..nothing_asked() };
    let choice = choose(&checkpoints, &[], &Needs::default(), &policy(250), now());
    assert_eq!((gone(&choice), choice.kept_bytes), (vec!["b".to_owned(), "c".to_owned()], 200));
    assert_eq!(gone(&choose(&checkpoints, &[], &Needs::default(), &policy(400), now())), Vec::<String>::new());
    assert_eq!(gone(&choose(&checkpoints, &[], &Needs::default(), &policy(0), now())), ["b", "c", "a", "d"]);
}

#[test]
fn unreferenced_and_age_together_take_what_is_both() {
    let checkpoints = [made("old", 40, &[]), made("old and named", 40, &[]), made("new", 1, &[])];
    let needs = Needs { referenced: [key("old and named")].into(), ..Needs::default() };
    let unreferenced = Policy { unreferenced: true, ..nothing_asked() };
    assert_eq!(gone(&choose(&checkpoints, &[], &needs, &unreferenced, now())), ["old", "new"]);
    let both = Policy { unreferenced: true, ..older_than(30) };
    assert_eq!(gone(&choose(&checkpoints, &[], &needs, &both, now())), ["old"]);
}

#[test]
fn leftovers_go_when_nobody_has_touched_them() {
    let mut held = leftover(LeftoverKind::Attempt, "held", 30);
    held.held = true;
    let leftovers = [
        leftover(LeftoverKind::Attempt, "old", 8),
        leftover(LeftoverKind::Attempt, "new", 6),
        leftover(LeftoverKind::Attempt, "live", 30),
        held,
        leftover(LeftoverKind::FinishedAttempt, "finished", 1),
        leftover(LeftoverKind::Quarantined, "damaged", 8),
        leftover(LeftoverKind::Answers, "answers", 8),
        leftover(LeftoverKind::Answers, "new answers", 6),
        leftover(LeftoverKind::EvalAnswers, "evaluated", 8),
        leftover(LeftoverKind::EvalAnswers, "evaluated again", 6),
        leftover(LeftoverKind::Rerun, "verify-1", 1),
        leftover(LeftoverKind::Temporary, "x.part", 1),
        leftover(LeftoverKind::Trash, "trash", 0),
    ];
    let needs = Needs { live: [key("live")].into(), ..Needs::default() };
    let choice = choose(&[], &leftovers, &needs, &nothing_asked(), now());
    assert_eq!(gone(&choice), ["old", "finished", "damaged", "answers", "evaluated", "x.part", "trash"]);
}

#[test]
fn an_interrupted_attempt_that_stays_keeps_what_it_starts_from() {
    let mut attempt = leftover(LeftoverKind::Attempt, "tuned", 1);
    attempt.parents = vec![key("base")];
    let checkpoints = [made("base", 90, &[]), made("other", 90, &[])];
    assert_eq!(gone(&choose(&checkpoints, &[attempt], &Needs::default(), &older_than(30), now())), ["other"]);
}

#[test]
fn a_time_in_the_future_is_no_age() {
    let checkpoints = [made("base", -400, &[])];
    let leftovers = [leftover(LeftoverKind::Attempt, "tuned", -400), leftover(LeftoverKind::Temporary, "x.part", -1)];
    let choice = choose(&checkpoints, &leftovers, &Needs::default(), &older_than(0), now());
    assert_eq!(gone(&choice), Vec::<String>::new());
}

proptest! {
    /// Under any policy, no needed item is removed, and the ancestors of every kept item are kept.
    #[test]
    fn what_stays_is_complete(
        links in prop::collection::vec((0..400i64, prop::collection::vec(0..1000usize, 0..3), 0..12u8), 1..40),
        days in prop::option::of(0..400i64),
        unreferenced: bool,
        max_bytes in prop::option::of(0..4000u64),
    ) {
        let name = |i: usize| format!("s{i}");
        let checkpoints: Vec<StoredCheckpoint> = links
            .iter()
            .enumerate()
            .map(|(i, (days, parents, state))| {
                let parents: Vec<String> = if i == 0 { vec![] } else { parents.iter().map(|p| name(p % i)).collect() };
                let parents: Vec<&str> = parents.iter().map(String::as_str).collect();
                StoredCheckpoint {
                    held: *state == 0,
                    pin: (*state == 1).then(|| Pin { note: None, at: now() }),
                    ..made(&name(i), *days, &parents)
                }
            })
            .collect();
        let policy = Policy { unused_for: days.map(TimeDelta::days), unreferenced, max_bytes, ..nothing_asked() };
        let choice = choose(&checkpoints, &[], &Needs::default(), &policy, now());
        let gone: BTreeSet<String> = gone(&choice).into_iter().collect();
        prop_assert_eq!(gone.len(), choice.removals.len());
        let stays = checkpoints.iter().filter(|checkpoint| !gone.contains(&checkpoint.stage));
        prop_assert_eq!(stays.clone().map(|checkpoint| checkpoint.bytes).sum::<u64>(), choice.kept_bytes);
        let keys: BTreeSet<&Digest> = stays.clone().map(|checkpoint| &checkpoint.key).collect();
        for checkpoint in stays {
            prop_assert!(checkpoint.parents.iter().all(|parent| keys.contains(parent)), "{} lost a parent", checkpoint.stage);
        }
        for checkpoint in checkpoints.iter().filter(|checkpoint| gone.contains(&checkpoint.stage)) {
            prop_assert!(checkpoint.pin.is_none() && !checkpoint.held);
        }
    }
}
