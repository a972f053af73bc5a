#!/usr/bin/env python3
"""Puts the newest results of every kind of CPU into the table of docs/src/speed.md: bench_table.py docs/src/speed.md RESULTS_DIR"""
import glob
import json
import os
import re
import sys

from bench import speed

BEGIN, END = "<!-- results: scripts/bench_table.py -->", "<!-- end of results -->"


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def sides(result):
    """Ours and the peer's, as text."""
    ours, peer = result["ours"], result.get("peer")
    if "ms" in ours:
        share = result.get("share_of_grpo_step")
        return f"{ours['ms']:.0f} ms" + (f", {share:.1%} of a GRPO step" if share else "")
    (name, value), (_, theirs) = speed(ours), speed(peer)
    unit = " s" if name == "seconds_per_step" else ""
    return f"{number(value)}{unit} / {number(theirs)}{unit} = **{result['ratio']:.2f}**"


def memory(result):
    ours, theirs = (result.get(side, {}).get("peak_rss_mib") for side in ("ours", "peer"))
    gib = lambda mib: f"{mib / 1024:.1f}" if mib else "?"
    return f"{gib(ours)} / {gib(theirs)} GiB" if ours else ""


def main():
    page, directory = sys.argv[1:]
    machines = []
    for path in sorted(glob.glob(os.path.join(directory, "cpu-*.json"))):
        with open(path, encoding="utf-8") as file:
            machines.append(json.load(file))
    cases = {}
    for index, machine in enumerate(machines):
        for result in machine["results"]:
            cases.setdefault(result["case"], {})[index] = result
    names = [f"{m['machine']['processor']}, {m['machine']['cores']} cores ({m['machine']['kind']})" for m in machines]
    lines = ["| case | " + " | ".join(f"{name} | memory" for name in names) + " |", "| --- |" + " ---: | ---: |" * len(names)]
    for case, by_machine in cases.items():
        cells = [cell for index in range(len(machines)) for cell in
                 ((sides(by_machine[index]), memory(by_machine[index])) if index in by_machine else ("", ""))]
        lines.append(f"| {case} | " + " | ".join(cells) + " |")
    with open(page, encoding="utf-8") as file:
        text = file.read()
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if not pattern.search(text):
        sys.exit(f"{page} has no {BEGIN}")
    table = "\n".join([BEGIN, *lines, END])
    with open(page, "w", encoding="utf-8") as file:
        file.write(pattern.sub(lambda _: table, text))


if __name__ == "__main__":
    main()
