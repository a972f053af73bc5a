#!/usr/bin/env python3
"""Disturbs sweeps for some minutes, and fails on the first result that is not that of an undisturbed run:
soak.py ORCHESTRATE GOLDEN_DIR MINUTES [SEED [TRIAL]]

Runs are killed at any moment, race each other, run beside `cache gc`, on full disks and on damaged files, and have their data
edited. Each trial draws what it does from the seed and its number, so a failure can be tried again alone. Its project is kept.
There is a trial of each kind, however few the minutes are.
"""
import collections
import os
import random
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "soak"))
import project
import trials


def can_mount():
    with tempfile.TemporaryDirectory() as directory:
        mounted = os.geteuid() == 0 and os.system(f"mount -t tmpfs tmpfs {directory} 2>/dev/null") == 0
        if mounted:
            os.system(f"umount {directory}")
    return mounted


def main():
    program, golden, minutes = os.path.abspath(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    began = time.monotonic()
    end = began + 60 * minutes
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.SystemRandom().randrange(10**9)
    only = int(sys.argv[5]) if len(sys.argv) > 5 else None
    print(f"seed {seed}", flush=True)
    modes = [mode for mode in trials.MODES if mode != "full disk" or can_mount()]
    if "full disk" not in modes:
        print("full disks are left out: mounting a small one needs root", flush=True)
    scratch = tempfile.mkdtemp(prefix="soak-")
    model = os.path.join(scratch, "undisturbed")
    os.makedirs(model)
    project.make(model, golden)
    undisturbed = trials.Trial(program, model, None, None)
    undisturbed.must("run", "soak.toml")
    expected = trials.results(model)
    print(f"undisturbed: {len(expected)} files of results in {time.monotonic() - began:.0f} s", flush=True)
    counts = collections.Counter()
    number, longest = 0 if only is None else only, 0
    # One trial of each kind, and then as many as fit.
    while (number < len(modes) or time.monotonic() + longest < end) if only is None else number == only:
        trial_began = time.monotonic()
        draws = random.Random(f"{seed} {number}")
        mode = modes[number % len(modes)] if number < len(modes) else draws.choice(modes)
        place = os.path.join(scratch, f"trial-{number}")
        os.makedirs(place)
        project.make(place, golden)
        trial = trials.Trial(program, place, draws, expected)
        try:
            trials.MODES[mode](trial)
            if not trial.checked:
                trial.check()
        except trials.Difference as difference:
            print(f"trial {number} ({mode}{', ' + trial.note if trial.note else ''}): {difference}", flush=True)
            print(f"its project: {place}\nagain: soak.py ... {minutes:g} {seed} {number}", flush=True)
            return 1
        counts[mode] += 1
        took = time.monotonic() - trial_began
        longest = max(longest, took)
        print(f"trial {number}: {mode} ok in {took:.0f} s {trial.note}".rstrip(), flush=True)
        shutil.rmtree(place)
        number += 1
    shutil.rmtree(scratch)
    tally = ", ".join(f"{mode} {count}" for mode, count in sorted(counts.items()))
    print(f"{sum(counts.values())} trials in {time.monotonic() - began:.0f} s, no difference: {tally}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
