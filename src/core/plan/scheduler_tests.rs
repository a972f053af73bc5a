use super::*;
use crate::plan::resources::{GpuNeed, GpuSlot};
use proptest::prelude::*;

/// A graph of stages with parents, costs and needs, and the choice of those that fail, pause and end first.
#[derive(Clone, Debug)]
struct Case {
    parents: Vec<Vec<usize>>,
    costs: Vec<u64>,
    needs: Vec<StageNeed>,
    capacity: Capacity,
    fails: Vec<bool>,
    pauses: Vec<bool>,
    choices: Vec<usize>,
}

fn needs(devices: usize) -> impl Strategy<Value = StageNeed> {
    let gpu = (0..devices + 3).prop_map(move |gpu| match gpu {
        _ if devices == 0 => GpuNeed::None,
        0..=1 => GpuNeed::None,
        2 => GpuNeed::Any,
        device => GpuNeed::Device((device - 3).to_string()),
    });
    (0..5_usize, prop_oneof![Just(0), 1..130_u64], gpu).prop_map(|(threads, memory_bytes, gpu)| StageNeed {
        threads,
        memory_bytes,
        gpu,
    })
}

fn cases() -> impl Strategy<Value = Case> {
    (1..12_usize, 0..3_usize).prop_flat_map(|(count, devices)| {
        let parents = (0..count)
            .map(|stage| proptest::collection::btree_set(0..stage.max(1), 0..=stage.min(3)))
            .map(|set| set.prop_map(|set| set.into_iter().collect::<Vec<usize>>()))
            .collect::<Vec<_>>();
        let parents = parents.prop_map(|mut parents| {
            parents[0].clear();
            parents
        });
        // Devices are 0, 1, ...; some of them have a second slot.
        let slot = move |slot: usize| GpuSlot { device: (slot % devices.max(1)).to_string(), memory_bytes: Some(100) };
        let slots = (devices..=2 * devices).prop_map(move |slots| (0..slots).map(slot).collect::<Vec<_>>());
        let capacity = (1..5_usize, 1..4_usize, slots).prop_map(|(jobs, threads, gpus)| Capacity {
            jobs,
            threads,
            memory_bytes: Some(100),
            gpus,
        });
        let lists = (
            proptest::collection::vec(0..100_u64, count),
            proptest::collection::vec(needs(devices), count),
            proptest::collection::vec(proptest::bool::weighted(0.2), count),
            proptest::collection::vec(proptest::bool::weighted(0.3), count),
            proptest::collection::vec(0..count, count * 2),
        );
        (parents, capacity, lists).prop_map(|(parents, capacity, (costs, needs, fails, pauses, choices))| Case {
            parents,
            costs,
            needs,
            capacity,
            fails,
            pauses,
            choices,
        })
    })
}

fn descendants(parents: &[Vec<usize>], roots: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut below = BTreeSet::new();
    for (stage, needed) in parents.iter().enumerate() {
        if needed.iter().any(|parent| roots.contains(parent) || below.contains(parent)) {
            below.insert(stage);
        }
    }
    below
}

/// Returns the longest path of costs from `stage`, by trying all paths.
fn path(case: &Case, stage: usize) -> u64 {
    let children = (stage + 1..case.parents.len()).filter(|&child| case.parents[child].contains(&stage));
    case.costs[stage] + children.map(|child| path(case, child)).max().unwrap_or(0)
}

/// Returns the use and the capacity of each pool: places, threads, host memory, each device's memory and slots.
fn pools(case: &Case, running: &BTreeMap<usize, Option<usize>>) -> Vec<(String, u64, u64)> {
    let total = |of: &dyn Fn(usize, Option<usize>) -> u64| running.iter().map(|(&stage, &slot)| of(stage, slot)).sum();
    let mut pools = vec![
        ("threads".to_owned(), total(&|stage, _| case.needs[stage].threads as u64), case.capacity.threads as u64),
        (
            "memory".to_owned(),
            total(&|stage, slot| if slot.is_none() { case.needs[stage].memory_bytes } else { 0 }),
            100,
        ),
    ];
    for device in case.capacity.gpus.iter().map(|slot| &slot.device).collect::<BTreeSet<_>>() {
        let on = |slot: Option<usize>| slot.is_some_and(|slot| case.capacity.gpus[slot].device == *device);
        let memory = total(&|stage, slot| if on(slot) { case.needs[stage].memory_bytes } else { 0 });
        pools.push((format!("memory of GPU {device}"), memory, 100));
    }
    pools
}

/// Returns the names of the pools that `stage` lacks beside `running`.
fn shortage(case: &Case, running: &BTreeMap<usize, Option<usize>>, stage: usize) -> Vec<&'static str> {
    let need = &case.needs[stage];
    let pools = pools(case, running);
    let lacks = |pool: usize, need: u64| need > 0 && pools[pool].1 > 0 && pools[pool].1 + need > pools[pool].2;
    let mut short = Vec::new();
    if lacks(0, need.threads as u64) {
        short.push("threads");
    }
    if need.gpu == GpuNeed::None {
        if lacks(1, need.memory_bytes) {
            short.push("memory");
        }
        return short;
    }
    let devices: Vec<&String> =
        case.capacity.gpus.iter().map(|slot| &slot.device).collect::<BTreeSet<_>>().into_iter().collect();
    let fits = case.capacity.gpus.iter().enumerate().any(|(slot, gpu)| {
        let wanted = need.gpu == GpuNeed::Any || need.gpu == GpuNeed::Device(gpu.device.clone());
        let device = devices.iter().position(|device| **device == gpu.device).unwrap();
        wanted && !running.values().any(|taken| *taken == Some(slot)) && !lacks(2 + device, need.memory_bytes)
    });
    if !fits {
        short.push("gpu");
    }
    short
}

/// Whether `stage` takes from the pool that `other` lacks.
fn competes(case: &Case, stage: usize, slot: Option<usize>, other: usize, pool: &str) -> bool {
    let need = &case.needs[stage];
    match pool {
        "threads" => need.threads > 0,
        "memory" => slot.is_none() && need.memory_bytes > 0,
        _ => slot.is_some_and(|slot| match &case.needs[other].gpu {
            GpuNeed::Any => true,
            GpuNeed::Device(device) => *device == case.capacity.gpus[slot].device,
            GpuNeed::None => false,
        }),
    }
}

proptest! {
    #[test]
    fn every_stage_ends_once_nothing_is_taken_twice_and_the_urgent_are_not_passed_over(case in cases()) {
        let count = case.parents.len();
        let mut scheduler = Scheduler::new(&case.parents, &case.costs, case.needs.clone(), case.capacity.clone());
        let paths: Vec<u64> = (0..count).map(|stage| path(&case, stage)).collect();
        let mut running: BTreeMap<usize, Option<usize>> = BTreeMap::new();
        let (mut succeeded, mut failed, mut skipped) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut paused: BTreeSet<usize> = BTreeSet::new();
        let mut pauses = case.pauses.clone();
        let mut choices = case.choices.iter().copied().cycle();
        while !scheduler.is_done() {
            loop {
                let ready = |stage: &usize| {
                    let fresh = scheduler.outcome(*stage).is_none() && !running.contains_key(stage);
                    fresh && !paused.contains(stage) && case.parents[*stage].iter().all(|p| succeeded.contains(p))
                };
                let ready: Vec<usize> = (0..count).filter(ready).collect();
                let Some(Start { stage, gpu }) = scheduler.start_next() else {
                    let waits = |stage: &usize| running.len() >= case.capacity.jobs || !running.is_empty()
                        && !shortage(&case, &running, *stage).is_empty()
                        || ready.iter().any(|other| (Reverse(paths[*other]), other) < (Reverse(paths[*stage]), stage));
                    prop_assert!(ready.iter().all(waits), "something could have started");
                    break;
                };
                prop_assert!(ready.contains(&stage));
                prop_assert_eq!(gpu.is_some(), case.needs[stage].gpu != GpuNeed::None);
                if let (Some(slot), GpuNeed::Device(device)) = (gpu, &case.needs[stage].gpu) {
                    prop_assert_eq!(&case.capacity.gpus[slot].device, device);
                }
                // A more urgent stage lacks a resource, and this stage does not take from it.
                for &other in &ready {
                    if (Reverse(paths[other]), other) < (Reverse(paths[stage]), stage) {
                        let short = shortage(&case, &running, other);
                        for pool in &short {
                            prop_assert!(!competes(&case, stage, gpu, other, pool), "{other} lost {pool} to {stage}");
                        }
                        // The more urgent stage may also wait behind a third one, which waits itself.
                        prop_assert!(!short.is_empty() || !running.is_empty());
                    }
                }
                let taken_twice = gpu.is_some() && running.values().any(|slot| *slot == gpu);
                prop_assert!(!taken_twice, "a slot of a GPU is taken twice");
                running.insert(stage, gpu);
            }
            prop_assert_eq!(scheduler.running(), running.len());
            prop_assert!(running.len() <= case.capacity.jobs);
            prop_assert!(!running.is_empty() || !paused.is_empty(), "nothing runs and nothing is done");
            for (pool, taken, there_is) in pools(&case, &running) {
                let takers = running.iter().filter(|(stage, slot)| match pool.as_str() {
                    "threads" => case.needs[**stage].threads > 0,
                    "memory" => slot.is_none() && case.needs[**stage].memory_bytes > 0,
                    gpu => slot.is_some_and(|slot| gpu.ends_with(&case.capacity.gpus[slot].device))
                        && case.needs[**stage].memory_bytes > 0,
                }).count();
                prop_assert!(taken <= there_is || takers == 1, "{pool}: {taken} of {there_is} by {takers}");
            }
            let choice = choices.next().unwrap_or(0);
            if running.is_empty() || (!paused.is_empty() && choice % 3 == 0) {
                let stage = paused.pop_first().unwrap();
                scheduler.wake(stage);
                continue;
            }
            let stage = *running.keys().nth(choice % running.len()).unwrap();
            running.remove(&stage);
            if std::mem::take(&mut pauses[stage]) {
                scheduler.pause(stage);
                paused.insert(stage);
            } else if case.fails[stage] {
                failed.insert(stage);
                for cut_off in scheduler.fail(stage) {
                    prop_assert!(skipped.insert(cut_off), "skipped twice");
                }
            } else {
                succeeded.insert(stage);
                scheduler.finish(stage);
            }
        }
        prop_assert_eq!(&skipped, &descendants(&case.parents, &failed));
        prop_assert_eq!(succeeded.len() + failed.len() + skipped.len(), count);
    }
}

fn scheduler(parents: &[Vec<usize>], costs: &[u64], needs: &[StageNeed], capacity: Capacity) -> Scheduler {
    Scheduler::new(parents, costs, needs.to_vec(), capacity)
}

fn places(jobs: usize) -> Capacity {
    Capacity { jobs, threads: 4, memory_bytes: Some(100), gpus: Vec::new() }
}

fn memory(memory_bytes: u64) -> StageNeed {
    StageNeed { memory_bytes, ..StageNeed::default() }
}

fn started(scheduler: &mut Scheduler) -> Vec<usize> {
    std::iter::from_fn(|| scheduler.start_next().map(|start| start.stage)).collect()
}

#[test]
fn the_longest_chain_starts_first() {
    // Stage 0 is long; 1 -> 2 -> 3 is longer in total.
    let needs = vec![StageNeed::default(); 4];
    let mut scheduler = scheduler(&[vec![], vec![], vec![1], vec![2]], &[10, 1, 1, 9], &needs, places(2));
    assert_eq!(started(&mut scheduler), [1, 0]);
}

#[test]
fn a_ready_stage_found_in_the_cache_finishes_without_running() {
    let mut scheduler = scheduler(&[vec![], vec![0]], &[1, 1], &[memory(1), memory(1)], places(1));
    assert_eq!(scheduler.next_fresh(), Some(0));
    assert_eq!(scheduler.next_fresh(), None);
    scheduler.finish(0);
    assert_eq!(scheduler.next_fresh(), Some(1));
    assert_eq!(started(&mut scheduler), [1]);
}

#[test]
fn stages_that_do_not_fit_together_run_one_after_the_other_and_small_ones_do_not_overtake() {
    let parents = vec![vec![]; 4];
    let mut scheduler = scheduler(&parents, &[9, 8, 7, 6], &[memory(60), memory(50), memory(30), memory(0)], places(4));
    // Stage 1 does not fit beside 0. Stage 2 would, but then 1 might wait for ever. Stage 3 takes nothing that 1 waits
    // for.
    assert_eq!(started(&mut scheduler), [0, 3]);
    scheduler.finish(0);
    assert_eq!(started(&mut scheduler), [1, 2]);
}

#[test]
fn each_gpu_has_one_stage_for_each_of_its_slots() {
    let slot = |device: &str| GpuSlot { device: device.to_owned(), memory_bytes: Some(100) };
    let capacity = Capacity { gpus: vec![slot("0"), slot("0"), slot("1")], ..places(9) };
    let on = |gpu: GpuNeed| StageNeed { gpu, ..memory(60) };
    let one = || on(GpuNeed::Device("1".to_owned()));
    let needs = [on(GpuNeed::Any), one(), on(GpuNeed::Any), one()];
    let mut scheduler = scheduler(&vec![vec![]; 4], &[9, 8, 7, 6], &needs, capacity);
    assert_eq!(scheduler.start_next(), Some(Start { stage: 0, gpu: Some(0) }));
    assert_eq!(scheduler.start_next(), Some(Start { stage: 1, gpu: Some(2) }));
    assert_eq!(scheduler.start_next(), None, "the second slot of GPU 0 is free, but not 60 bytes more of its memory");
    scheduler.finish(1);
    assert_eq!(scheduler.start_next(), Some(Start { stage: 2, gpu: Some(2) }));
}

#[test]
fn a_paused_stage_leaves_its_place_to_others() {
    let mut scheduler = scheduler(&[vec![], vec![]], &[2, 1], &[memory(60), memory(60)], places(2));
    assert_eq!(started(&mut scheduler), [0]);
    scheduler.pause(0);
    assert_eq!(started(&mut scheduler), [1]);
    scheduler.wake(0);
    assert_eq!(scheduler.start_next(), None);
    scheduler.finish(1);
    assert_eq!(started(&mut scheduler), [0]);
}

#[test]
fn the_time_left_is_that_of_the_schedule_that_will_be() {
    // 0 -> 2 -> 3 runs beside 1, with one place and with two.
    let parents = [vec![], vec![], vec![0], vec![2]];
    let left = [5, 4, 3, 2];
    let one = scheduler(&parents, &left, &vec![StageNeed::default(); 4], places(1));
    assert_eq!(one.time_left(&left), 14);
    let mut two = scheduler(&parents, &left, &vec![StageNeed::default(); 4], places(2));
    assert_eq!(two.time_left(&left), 10);
    assert_eq!(started(&mut two), [0, 1]);
    assert_eq!(two.time_left(&[1, 4, 3, 2]), 6, "0 has but 1 to go");
    two.pause(0);
    assert_eq!(two.time_left(&left), 10, "it starts again");
    two.finish(1);
    assert_eq!((two.time_left(&left), two.ended()), (10, (1, 4)));
    // The stages do not fit together.
    let needs = [memory(60), memory(60), memory(0), memory(0)];
    assert_eq!(scheduler(&parents, &left, &needs, places(2)).time_left(&left), 10);
    assert_eq!(scheduler(&[vec![], vec![]], &[5, 4], &needs[..2], places(2)).time_left(&[5, 4]), 9);
}
