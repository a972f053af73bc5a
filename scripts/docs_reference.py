#!/usr/bin/env python3
"""Writes docs/src/reference/ from what the program says of itself: `docs_reference.py BINARY [--check]`.

Recipe keys come from `keys --json` with examples of tests/recipes/full.toml, commands and the shapes of their JSON from
`--help`, components from `rewards --json`, metrics from `metrics --list --json`, views from `query --schema --json`. Events,
files, exit codes, variables and tables come from the sources, by docs_sources.py. With --check nothing is written: a page that
differs from what would be written is an error.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import docs_sources as sources

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


def toml_value(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def example_tables(recipe):
    """The tables of a recipe by the names that `keys` has for them."""
    found = {"recipe": [recipe], "runtime.judges": list(recipe["runtime"]["judges"].values())}
    found["runtime.endpoints"] = list(recipe["runtime"]["endpoints"].values())
    found |= {"sweep.variants": recipe["sweep"]["variants"], "data": list(recipe["data"].values())}
    for path in ("model", "model.lora", "sweep", "compare", "runtime", "runtime.retries"):
        table = recipe
        for part in path.split("."):
            table = table[part]
        found[path] = [table]
    for stage in recipe["stages"].values():
        found.setdefault(stage["kind"], []).append(stage)
        for name, table in stage.get("rewards", {}).items():
            kind = table.get("kind", name)
            found.setdefault("rewards.command" if kind == "command" else kind, []).append(table)
        for name, table in stage.get("judges", {}).items():
            found.setdefault("arena.judges." + table.get("kind", name), []).append(table)
    return found


def example(tables, key, default):
    """The shortest way in which a table gives the key another value than its default."""
    values = [toml_value(table[key]) for table in tables if key in table]
    values = [value for value in values if len(value) <= 60 and value not in (default, default + ".0", "{  }")]
    return code(min(values, key=len)) if values else ""


def recipe_page(binary):
    page = HEAD + "# Recipe keys\n\nEvery key of a recipe. `orchestrate keys TABLE` prints the same in a terminal.\n"
    page += "Examples show how a value is written. They do not recommend one.\n"
    examples = example_tables(tomllib.loads((ROOT / "tests/recipes/full.toml").read_text()))
    tables = {}
    for row in lines(binary, "keys", "--json"):
        tables.setdefault((row["table"], row["heading"]), []).append(row)
    for (table, heading), rows in tables.items():
        page += f"\n## {table}\n\nWritten as: {cell(heading)}\n\n| key | value | default | example | meaning |\n|---|---|---|---|---|\n"
        rows.sort(key=lambda row: row["default"] != "required")
        for row in rows:
            default = row["default"]
            plain = default in ("required", "none", "null")
            shown = {"null": "none"}.get(default, default) if plain else code(default.split("\n")[0])
            sample = example(examples.get(table, []), row["key"], default)
            words = "".join(f" `{word}`: {cell(what)}" for word, what in row["words"].items())
            page += f"| `{row['key']}` | {cell(row['value'])} | {shown} | {sample} | {cell(row['meaning'])}{words} |\n"
    return page


def cli_page(binary):
    page = HEAD + "# Command line\n\nWhat `--help` prints for each command.\n"
    top = say(binary, "--help")
    page += f"\n## orchestrate\n\n```text\n{top.rstrip()}\n```\n"
    for words, text in commands(binary):
        page += f"\n{'#' * (len(words) + 1)} orchestrate {' '.join(words)}\n\n```text\n{text.rstrip()}\n```\n"
    return page


def commands(binary, *above):
    """Each command below with its help, those that have commands of their own before these."""
    text = say(binary, *above, "--help")
    if "\nCommands:\n" not in text:
        return
    listed = text.split("\nCommands:\n", 1)[1].split("\n\n", 1)[0]
    for name in (line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "):
        if name != "help":
            yield (*above, name), say(binary, *above, name, "--help")
            yield from commands(binary, *above, name)


def json_page(binary):
    page = HEAD + "# JSON output\n\nWhat commands print with `--json`: one object a line, on stdout. Status stays on stderr.\n\n"
    page += "A name alone stands for a key whose value is evident. `[..]` is a list, and `|` separates the values that a key\n"
    page += "can have. Absent measurements are `null`. New keys can appear; a program should ignore those that it does not know.\n"
    page += "`show` prints the lines of `history`, and `serve` prints `{\"url\"}`.\n"
    for words, text in commands(binary):
        paragraphs = [part for part in text.split("\n\n") if re.search(r"--json\s+prints|With\s+--json|rints\s+\{", part)]
        paragraphs = [part for part in paragraphs if not part.startswith(("Usage:", "Options:", "Examples:"))]
        if paragraphs:
            page += f"\n## orchestrate {' '.join(words)}\n\n```json\n" + "\n\n".join(paragraphs).rstrip() + "\n```\n"
    return page


def member_rows(members, known):
    rows = "| field | type | meaning |\n|---|---|---|\n"
    for member in members:
        skipped = "skip_serializing_if" in member["attributes"]
        words = sources.type_words(member["type"], known, skipped)
        rows += f"| `{member['name']}` | {words} | {cell(member['doc'])} |\n"
    return rows


def event_tables(kinds, known):
    """A heading for each kind of event, with its fields."""
    text = ""
    for kind in kinds["members"]:
        text += f"\n### `{sources.snake(kind['name'])}`\n\n{kind['doc']}\n"
        inner = known.get((kind["type"] or "").removeprefix("Box<").removesuffix(">"))
        if members := inner["members"] if inner else kind["members"]:
            flat = [part for member in members for part in flattened(member, known)]
            text += "\n" + member_rows(flat, known)
        elif kind["type"]:
            text += f"\nThe value is: {sources.type_words(kind['type'], known)}.\n"
    return text


def flattened(member, known):
    return known[member["type"]]["members"] if "flatten" in member["attributes"] else [member]


def events_page(_):
    core = ROOT / "src" / "core"
    known = {name: item for file in ("cpu.rs", "stage.rs", "event.rs", "run_event.rs") for name, item in sources.types(core / file).items()}
    page = HEAD + "# Events\n\n"
    page += "Events are JSON objects, one a line. `runs/log/RUN/run.jsonl` has the events of a run. `events.jsonl` of an attempt or a\n"
    page += "checkpoint has those of a stage. `orchestrate serve` and the database read the same files.\n\n"
    page += "The key `kind` holds one key, the name of the event, whose value has the fields below:\n\n"
    page += '```json\n{"at":"2026-11-30T12:00:00Z","kind":{"stage_skipped":{"key":"a479078a1da4...","because":"sft failed"}}}\n'
    page += '{"at":"2026-11-30T12:00:00Z","kind":{"phase":"loading the model"}}\n```\n'
    page += "\n## Events of a run\n\n" + member_rows(known["RunEvent"]["members"][:1], known)
    page += event_tables(known["RunEventKind"], known)
    page += "\n## Events of a stage\n\n" + member_rows(
        [member for member in known["Event"]["members"] if member["name"] != "kind"], known)
    page += event_tables(known["EventKind"], known)
    page += "\n## Types of fields\n"
    done, wanted = set(), [name for name in re.findall(r"\]\(#(\w+)\)", page)]
    while wanted := sorted({name for name in wanted} - done):
        wanted_next = []
        for name in wanted:
            item = next(item for title, item in known.items() if title.lower() == name)
            title = next(title for title in known if title.lower() == name)
            page += f"\n### {title}\n\n" + (item["doc"] + "\n\n" if item["doc"] else "")
            if item["kind"] == "struct":
                part = member_rows(item["members"], known)
            else:
                part = "| word | meaning |\n|---|---|\n"
                part += "".join(f"| `{sources.snake(m['name'])}` | {cell(m['doc'])} |\n" for m in item["members"])
            page += part
            done.add(name)
            wanted_next += re.findall(r"\]\(#(\w+)\)", part)
        wanted = wanted_next
    return page


def database_page(binary):
    tables, columns_of = sources.database(ROOT / "migrations")
    page = HEAD + "# Database\n\n`runs/history.db` is a SQLite database, an index of the files under `runs/`. Nothing is lost with it:\n"
    page += "`orchestrate db rebuild` makes it again. Ask it with `orchestrate query SQL`, which reads new files first.\n"
    page += "\n## Views\n\nThe names and columns of views stay. New columns come at the end. Times are UTC, like `2026-11-01T12:00:00.000Z`.\n"
    views = {}
    for row in lines(binary, "query", "--schema", "--json"):
        views.setdefault(row["view"], []).append(row)
    for view, rows in views.items():
        if [row["column"] for row in rows] != columns_of[view]:
            sys.exit(f"the view `{view}` of migrations/ has other columns than src/store/schema.rs")
        page += f"\n### `{view}`\n\n| column | type | meaning |\n|---|---|---|\n"
        page += "".join(f"| `{row['column']}` | {row['type']} | {cell(row['about'])} |\n" for row in rows)
    page += "\n## Tables\n\nTables are private: they can change with any version. The views read them.\n"
    for name, about, columns in tables:
        page += f"\n### `{name}`\n\n" + (about + "\n\n" if about else "") + "| column | type | null | meaning |\n|---|---|---|---|\n"
        page += "".join(f"| `{column}` | {kind} | {'yes' if null else 'no'} | {cell(words)} |\n" for column, kind, null, words in columns)
    return page


def files_page(_):
    page = HEAD + "# Files under runs/\n\nEverything that runs leave behind is in `runs/`, or where `--runs-dir`, `ORCHESTRATE_RUNS` or `runs_dir` in\n"
    page += "`orchestrate.toml` says. [Cache and resume](../concepts/cache-and-resume.md) explains how they are used.\n"
    page += "[Stages](../concepts/stages.md#what-every-stage-leaves) lists the files of a checkpoint.\n\n| path | content |\n|---|---|\n"
    for name, about in sources.tree_of_comment(ROOT / "src/core/workspace/mod.rs"):
        about = re.sub(r" \(`[\w:.]+`\)", "", about)
        page += f"| `{name}` | {cell(about)} |\n"
    return page


OTHER_VARIABLES = {
    "TORCH_CUDNN_SDPA_DEPRIORITIZED": "Whether libtorch takes other attention kernels before cuDNN's. The worker sets it to 1 unless it is set.",
    "CUBLAS_WORKSPACE_CONFIG": "The workspace of cuBLAS. The worker sets it to `:4096:8`, with which products repeat their bits, unless it is set.",
    "NO_COLOR": "not empty: no colours",
    "TERM": "`dumb`: neither colours nor lines that are drawn again",
    "COLUMNS": "the width of tables where the terminal says none",
    "CUDA_VISIBLE_DEVICES": "the GPUs that the program may use; a worker gets its own GPU in it",
    "CUDA_DEVICE_ORDER": "how CUDA counts GPUs; a worker gets `PCI_BUS_ID`, the order of the driver",
    "ATEN_CPU_CAPABILITY": "`default`, `avx2` or `avx512`: limits the instructions of libtorch and of the program's kernels",
    "ONEDNN_MAX_CPU_ISA": "limits the instructions of oneDNN; `DNNL_MAX_CPU_ISA` is the same",
    "OMP_WAIT_POLICY": "how idle threads wait; a worker gets `PASSIVE` where several share the cores, unless this or `GOMP_SPINCOUNT` is set",
    "LD_LIBRARY_PATH": "where a worker finds libtorch, if not beside the program",
    "LIBTORCH": "when building: the directory of libtorch",
    "HF_TOKEN": "the token for the hub; also `HUGGING_FACE_HUB_TOKEN`, or the file that `HF_TOKEN_PATH` names",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "set: no token is sent",
    "HF_ENDPOINT": "the address of the hub",
    "HF_HOME": "the directory of the Hugging Face libraries; `XDG_CACHE_HOME` changes its default",
    "HF_HUB_CACHE": "the directory of downloads; also `HUGGINGFACE_HUB_CACHE`",
    "HF_HUB_OFFLINE": "set: no network is used; also `TRANSFORMERS_OFFLINE`",
}
NO_VARIABLE = "LC_|PCI_BUS_ID|CARGO_|CUBLAS_|AVX512_|CAUSAL_LM|LABEL_|STAGE_|RATE_KEY|JUDGE_KEY|ORCHESTRATE_$|ORCHESTRATE_RUNTIME__"


def endings_page(binary):
    page = HEAD + "# Exit codes and variables\n\n## Exit codes of `orchestrate`\n\n| code | meaning |\n|---|---|\n| 0 | Everything that was asked for is done. |\n"
    for kind in sources.types(ROOT / "src/cli/error.rs")["Kind"]["members"]:
        page += f"| {kind['number']} | {kind['doc']} |\n"
    page += "\n## Exit codes of `orchestrate-worker`\n\nPeople and scripts can read them. The program itself reads `exit-*.json`.\n\n| code | meaning |\n|---|---|\n"
    for number, _, meaning in sources.table_of_comment(ROOT / "src/core/exec/mod.rs", "code"):
        page += f"| {number} | {cell(meaning)} |\n"
    page += "\n## Variables that set recipe keys\n\n`ORCHESTRATE_STAGES__GRPO__LR=2e-5` sets `stages.grpo.lr`, for every key. See\n[Recipe](../concepts/recipe.md#override-keys---set-and-orchestrate_).\n"
    own = sources.list_with_comments(ROOT / "src/core/recipe/text/layers.rs", "PROGRAM_VARIABLES")
    page += "\n## Variables of the program\n\n| variable | meaning |\n|---|---|\n" + "".join(f"| `{name}` | {cell(text)} |\n" for name, text in own)
    page += "\n## Variables of other programs\n\nThe program reads or sets them as their owners do.\n\n| variable | meaning |\n|---|---|\n"
    page += "".join(f"| `{name}` | {cell(text)} |\n" for name, text in OTHER_VARIABLES.items())
    page += "\nJudges and services name a variable for their key with `api_key_env`. A `command` stage gets variables named `STAGE_...`: see\n[Stages](../concepts/stages.md#command-your-program).\n"
    for source in sorted((ROOT / "src").rglob("*.rs")):
        for name in re.findall(r'"([A-Z][A-Z0-9]*_[A-Z0-9_]*)"', source.read_text()):
            if f"`{name}`" not in page and not re.match(NO_VARIABLE, name):
                sys.exit(f"{source}: if `{name}` is a variable, describe it in docs_reference.py or `PROGRAM_VARIABLES`; if not, add it to NO_VARIABLE")
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
        "json.md": json_page(binary),
        "events.md": events_page(binary),
        "database.md": database_page(binary),
        "files.md": files_page(binary),
        "exit-codes.md": endings_page(binary),
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
