#!/usr/bin/env python3
"""Writes docs/src/reference/ from what the program says of itself: `docs_reference.py BINARY [--check]`.

Recipe keys come from `keys --json`, commands from `--help`, components from `rewards --json`, metrics from
`metrics --list --json`. With --check nothing is written: a page that differs from what would be written is an error.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "src" / "reference"
COMMON = "\n# Keys of every component"
HEAD = "<!-- Written by scripts/docs_reference.py. Edit what it is made from. -->\n\n"


def say(binary, *arguments):
    environment = {"PATH": os.environ.get("PATH", ""), "COLUMNS": "100", "NO_COLOR": "1"}
    result = subprocess.run([binary, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment)
    if result.returncode != 0:
        sys.exit(f"`orchestrate {' '.join(arguments)}` failed: {result.stderr}")
    return result.stdout


def lines(binary, *arguments):
    return [json.loads(line) for line in say(binary, *arguments).splitlines()]


def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def code(text):
    text = str(text)
    shown = text if len(text) <= 60 else text[:57].rstrip() + "..."
    return f"`{cell(shown)}`" if shown else ""


def recipe_page(binary):
    page = HEAD + "# Recipe keys\n\nEvery key of a recipe. `orchestrate keys TABLE` prints the same in a terminal.\n"
    tables = {}
    for row in lines(binary, "keys", "--json"):
        tables.setdefault((row["table"], row["heading"]), []).append(row)
    for (table, heading), rows in tables.items():
        page += f"\n## {table}\n\nWritten as: {cell(heading)}\n\n| key | value | default | meaning |\n|---|---|---|---|\n"
        rows.sort(key=lambda row: row["default"] != "required")
        for row in rows:
            default = row["default"]
            plain = default in ("required", "none", "null")
            shown = {"null": "none"}.get(default, default) if plain else code(default.split("\n")[0])
            words = "".join(f" `{word}`: {cell(what)}" for word, what in row["words"].items())
            page += f"| `{row['key']}` | {cell(row['value'])} | {shown} | {cell(row['meaning'])}{words} |\n"
    return page


def cli_page(binary):
    page = HEAD + "# Command line\n\nWhat `--help` prints for each command.\n"
    top = say(binary, "--help")
    page += f"\n## orchestrate\n\n```text\n{top.rstrip()}\n```\n"
    listed = top.split("Commands:\n", 1)[1].split("\n\n", 1)[0]
    names = [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "]
    for name in names:
        if name == "help":
            continue
        text = say(binary, name, "--help").rstrip()
        page += f"\n## orchestrate {name}\n\n```text\n{text}\n```\n"
    return page


def deeper(page):
    """The page with each heading one level deeper."""
    return "\n".join("#" + line if line.startswith("#") else line for line in page.strip().splitlines())


def rewards_page(binary):
    page = HEAD + "# Reward components\n\nThe pages that `orchestrate rewards NAME` prints.\n"
    common = ""
    for row in lines(binary, "rewards", "--json"):
        own, _, common = row["page"].strip().partition(COMMON)
        page += "\n" + deeper(own) + "\n"
    return page + "\n" + deeper(COMMON.strip() + common) + "\n"


def metrics_page(binary):
    page = HEAD + "# Metrics\n\nEvery metric that the program makes. A word in braces is a name from the recipe.\n\n"
    page += "| metric | unit | better | over batches | meaning |\n|---|---|---|---|---|\n"
    for row in lines(binary, "metrics", "--list", "--json"):
        better = row["better"] or ""
        page += f"| `{row['metric']}` | {row['unit']} | {better} | {row['over_batches']} | {cell(row['meaning'])} |\n"
    return page


def main():
    binary, *flags = sys.argv[1:]
    check = flags == ["--check"]
    pages = {
        "recipe.md": recipe_page(binary),
        "cli.md": cli_page(binary),
        "rewards.md": rewards_page(binary),
        "metrics.md": metrics_page(binary),
    }
    PAGES.mkdir(parents=True, exist_ok=True)
    stale = []
    for name, text in pages.items():
        path = PAGES / name
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if not check:
                path.write_text(text)
    if check and stale:
        sys.exit(f"docs/src/reference/{{{','.join(stale)}}} is out of date: run `just docs-reference`")
    print("unchanged" if not stale else f"written: {', '.join(stale)}")


if __name__ == "__main__":
    main()
