#!/usr/bin/env python3
"""Checks the recipes that the documentation shows: `check_examples.py BINARY MODELS FILE_OR_DIR...`.

Every ```toml block is checked by `orchestrate check` in a folder of its own kind of project, with the files that it names. A
block without `[model]` is a part of a recipe: it extends PRELUDE, which has what the pages take for granted.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

PRELUDE = """
[model]
path = "models/smollm2-135m-instruct"
lora = { rank = 8, alpha = 16 }

[data.mcq]
path = "data/biomedical/mcq.jsonl"
eval_fraction = 0.25
prompt = "{{ question }}"
completion = "<think>{{ explanation }}</think><answer>{{ answer }}</answer>"
reference = "{{ explanation }}"
answer = "{{ answer }}"

[data.textbook]
path = "data/textbook.jsonl"
prompt = "{{ question }}"
completion = "{{ answer }}"

[data.general]
path = "data/general.jsonl"
prompt = "{{ question }}"
completion = "{{ answer }}"

[stages.sft]
kind = "sft"
data = "mcq"

[stages.grpo]
kind = "grpo"
after = "sft"
data = "mcq"
steps = 10
prompts_per_step = 2
group_size = 4
micro_batch_size = 2
[stages.grpo.rewards.semantic]
encoder = "models/all-minilm-l6-v2"
[stages.grpo.rewards.correctness]
[stages.grpo.rewards.format]

[stages.eval]
kind = "eval"
after = "grpo"
data = "mcq"
rewards = { correctness = {} }

[stages.sample]
kind = "generate"
data = "mcq"
[stages.sample.rewards.correctness]

[runtime.judges.local]
endpoint = "http://127.0.0.1:8099/v1"
[runtime.judges."gpt-4.1-mini"]
endpoint = "https://api.openai.com/v1"
[runtime.judges."claude-sonnet"]
endpoint = "https://judges.example/v1"
[runtime.judges."qwen3-8b"]
endpoint = "http://127.0.0.1:8099/v1"
[runtime.endpoints.spelling]
url = "http://127.0.0.1:8080/rate"
[runtime.endpoints.units]
url = "http://127.0.0.1:8080/rate"
"""
BLOCK = re.compile(r"^```toml([^\n]*)\n(.*?)^```", re.M | re.S)
PATH = re.compile(r'"([\w.*-]+(?:/[\w.*-]+)+)"')
# The models that the pages name, and what is there for them.
MODELS = {name: name for name in ("smollm2-135m-instruct", "all-minilm-l6-v2")} | {"my-model": "smollm2-135m-instruct"}
ELSEWHERE = ("hf://", "PATH/TO")


def row(number):
    talk = [{"role": "user", "content": f"Which is number {number}?"}, {"role": "assistant", "content": "The heart."}]
    return {
        "question": f"Which organ has number {number}?", "options": {"A": "heart", "B": "liver"}, "answer": "AB"[number % 2],
        "explanation": f"Number {number} pumps blood.", "text": f"Text {number}.", "messages": talk,
        "subject": "anatomy", "level": number % 5 + 1,
    }


def write_files(folder, text):
    """Writes what a recipe names, unless it is there."""
    for name in PATH.findall(text):
        path = folder / name.replace("*", "one")
        if path.exists() or name.startswith("models/") or not path.suffix:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(json.dumps(row(number)) + "\n" for number in range(24))
        path.write_text(rows if path.suffix == ".jsonl" else "{}\n" if path.suffix == ".json" else "A paragraph.\n\nAnother.\n" * 9)


def blocks(files):
    for file in files:
        text = file.read_text()
        for match in BLOCK.finditer(text):
            if not any(word in match[2] for word in ELSEWHERE) and ".parquet" not in match[2]:
                yield f"{file}:{text[: match.start()].count(chr(10)) + 1}", match[2]


def main():
    binary, models, *arguments = sys.argv[1:]
    binary = Path(binary).resolve()
    files = []
    for argument in map(Path, arguments):
        files += sorted(argument.rglob("*.md")) if argument.is_dir() else [argument]
    if not all((Path(models) / model).exists() for model in MODELS.values()):
        print("examples are not checked: `./justw models` fetches the models that they name")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models").mkdir()
        for name, model in MODELS.items():
            os.symlink(Path(models).resolve() / model, folder / "models" / name)
        (folder / "prelude.toml").write_text(PRELUDE)
        write_files(folder, PRELUDE)
        recipes = {}
        for place, text in blocks(files):
            table = tomllib.loads(text)
            if "runs_dir" in table:
                continue  # `orchestrate.toml`
            recipe = f"{re.sub(r'[^a-z0-9]+', '-', place.lower()).strip('-')}.toml"
            write_files(folder, text)
            (folder / recipe).write_text(text if "model" in table and "path" in table["model"] else f'extends = "prelude.toml"\n{text}')
            recipes[recipe] = place
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATE_")}
        environment |= {"NO_COLOR": "1", "COLUMNS": "120"} | dict.fromkeys(("OPENAI_API_KEY", "SPELLING_KEY", "UNITS_KEY"), "x")
        found = subprocess.run([binary, "check", *recipes], cwd=folder, env=environment, capture_output=True, text=True)
    if found.returncode != 0:
        text = found.stdout + found.stderr
        for recipe, place in recipes.items():
            text = text.replace(recipe, place)
        sys.exit(text)
    print(f"{len(recipes)} examples, all are valid")


if __name__ == "__main__":
    main()
