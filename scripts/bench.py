#!/usr/bin/env python3
"""The engine beside its peers on the same machine, in one session:
bench.py ENGINE REWARDS ORCHESTRATE PEERS_DIR MODEL ENCODER QUESTIONS.jsonl OUT.json [ONLY]

Each case runs the peer, then ours, and prints tokens (texts, pairs) per second of both, their ratio, and the peak memory of both;
rating has no peer, and is compared with the GRPO step. With ONLY, just the cases whose names hold that text run, and the others
keep the results that OUT.json has of them.
"""
import datetime
import glob
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile

TRAIN = ["train", "--batch", "4", "--seq", "512", "--steps", "3"]
SFT = ["sft", "--batch", "16", "--micro", "8", "--steps", "3"]
GENERATE = ["generate", "--batch", "12", "--prompt", "128", "--new", "64"]
GRPO = ["grpo", "--prompts", "2", "--group", "6", "--new", "64", "--steps", "4"]
F32, BF16 = ["--dtype", "float32"], ["--dtype", "bfloat16"]
CASES = [
    ("LoRA step, 4 x 512, float32", [*TRAIN, *F32]),
    ("LoRA step, 4 x 512, bfloat16", [*TRAIN, *BF16]),
    ("full step, 4 x 512, float32", [*TRAIN, *F32, "--full"]),
    ("full step, 4 x 512, bfloat16", [*TRAIN, *BF16, "--full"]),
    ("LoRA step, checkpointing, float32", [*TRAIN, *F32, "--checkpointing"]),
    ("full step, checkpointing, float32", [*TRAIN, *F32, "--full", "--checkpointing"]),
    ("SFT rows, prompts masked, float32", [*SFT, *F32]),
    ("SFT rows, prompts masked, bfloat16", [*SFT, *BF16]),
    ("sampling, 12 prompts of 128 + 64, float32", [*GENERATE, *F32]),
    ("sampling, 12 prompts of 128 + 64, bfloat16", [*GENERATE, *BF16]),
    ("sampling, 2 prompts of 128 x 6 + 64, float32", [*GENERATE, *F32, "--group", "6"]),
    ("sampling, 2 prompts of 128 x 6 + 64, bfloat16", [*GENERATE, *BF16, "--group", "6"]),
    (GRPO_STEP := "GRPO step, 2 prompts x 6 + 64, float32", GRPO),
    ("ROUGE-L of 100 words, one core", ["rouge"]),
    ("embedding 512 texts, float32", ["embed", *F32]),
    ("embedding 512 texts, bfloat16", ["embed", *BF16]),
    ("rating 12 completions, encoder in float32", ["rate", *F32]),
    ("rating 12 completions, encoder in bfloat16", ["rate", *BF16]),
]
SCRIPTS = {"train": "train_step.py", "sft": "sft_step.py", "generate": "generate.py", "grpo": "grpo_step.py"}


def last_json(command):
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])


RECIPE = """
name = "bench"
seed = 1
[model]
path = "{model}"
lora = {{ rank = 32, alpha = 64, target_modules = "all-linear" }}
[data.questions]
path = "questions.jsonl"
prompt = "{{{{ prompt }}}}"
reference = "{{{{ prompt }}}}"
[stages.grpo]
kind = "grpo"
data = "questions"
steps = {steps}
prompts_per_step = {prompts}
group_size = {group}
micro_batch_size = {batch}
min_new_tokens = {new}
max_new_tokens = {new}
kl_coef = 0.04
[stages.grpo.rewards.rouge]
scope = "completion"
"""
TEXT = (
    "The heart has four chambers. Blood flows from the atria to the ventricles through the valves. "
    "Explain, step by step, which vessel carries oxygenated blood away from the left ventricle, and why. "
)


def grpo(orchestrate, model, options, scratch):
    """Seconds of the GRPO steps of a real run, the first left out, from the times of its events."""
    value = dict(zip((option[2:] for option in options[::2]), map(int, options[1::2])))
    project = os.path.join(scratch, "grpo")
    os.makedirs(project, exist_ok=True)
    with open(os.path.join(project, "questions.jsonl"), "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"prompt": TEXT * 3 + f"Question {i}."}) + "\n" for i in range(64))
    recipe = RECIPE.format(
        model=os.path.abspath(model), steps=value["steps"] + 1, prompts=value["prompts"], group=value["group"],
        batch=value["prompts"] * value["group"], new=value["new"],
    )
    with open(os.path.join(project, "recipe.toml"), "w", encoding="utf-8") as file:
        file.write(recipe)
    subprocess.run([orchestrate, "-C", project, "run", "recipe.toml"], check=True, capture_output=True)
    [events] = glob.glob(os.path.join(project, "runs/cache/*/events.jsonl"))
    with open(events, encoding="utf-8") as file:
        parsed = [json.loads(line) for line in file]
    at = [datetime.datetime.fromisoformat(e["at"]) for e in parsed if "step" in e["kind"]]
    times = {name: number for e in parsed if "step" in e["kind"] for name, number in e["kind"]["step"]["metrics"].items()
             if name.startswith("time/")}
    seconds = statistics.median((b - a).total_seconds() for a, b in zip(at, at[1:]))
    return {**value, "seconds_per_step": round(seconds, 3), "last_step": times}


def rouge(rewards, python, here, scratch):
    """Pairs of 100 words drawn from 300, rated by both; the means must be the same."""
    path = os.path.join(scratch, "pairs.jsonl")
    draws, words = random.Random(0), [f"w{i}" for i in range(300)]
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(1000):
            file.write(json.dumps([" ".join(draws.choices(words, k=100)) for _ in range(2)]) + "\n")
    theirs = last_json([python, os.path.join(here, "rouge.py"), path])
    ours = last_json([rewards, "rouge", "--pairs", path])
    assert abs(ours["mean"] - theirs["mean"]) < 1e-9, (ours, theirs)
    return ours, theirs, "pairs_per_s"


def embed(rewards, python, here, encoder, questions, options):
    """Texts a second on both sides, median of five times."""
    theirs = last_json([python, os.path.join(here, "encode.py"), encoder, questions, *options])
    ours = last_json([rewards, "embed", "--model", encoder, "--questions", questions, *options])
    return ours, theirs, "texts_per_s"


def machine():
    described = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        names = (line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name"))
        described["processor"] = next(names, described["processor"])
    return described


def main():
    engine, rewards, orchestrate, peers, model, encoder, questions, out = sys.argv[1:9]
    only = sys.argv[9] if len(sys.argv) > 9 else ""
    before = {}
    if only:
        with open(out, encoding="utf-8") as file:
            before = {result["case"]: result for result in json.load(file)["results"]}
    python = os.path.join(peers, "venv/bin/python")
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        rows = os.path.join(scratch, "rows.jsonl")
        subprocess.run([python, os.path.join(here, "sft_rows.py"), model, questions, rows], check=True)
        for name, (mode, *options) in CASES:
            if only not in name:
                results += [before[name]] if name in before else []
                continue
            if mode in ("rouge", "embed"):
                rated = [rewards, python, here]
                ours, theirs, unit = rouge(*rated, scratch) if mode == "rouge" else embed(*rated, encoder, questions, options)
                ratio = ours[unit] / theirs[unit]
                print(f"{name:46} ours {ours[unit]:7.1f}/s  peer {theirs[unit]:7.1f}/s  ratio {ratio:.2f}", flush=True)
                results.append({"case": name, "ours": ours, "peer": theirs, "ratio": ratio})
                continue
            if mode == "rate":
                ours = last_json([rewards, "rate", "--model", encoder, "--questions", questions, *options])
                step = next((r["ours"] for r in [*results, *before.values()] if r["case"] == GRPO_STEP), None)
                share = ours["ms"] / 1e3 / step["seconds_per_step"] if step else None
                print(f"{name:46} ours {ours['ms']:.1f} ms" + (f"  {share:.2%} of a GRPO step" if step else ""), flush=True)
                results.append({"case": name, "ours": ours, "share_of_grpo_step": share})
                continue
            if mode == "sft":
                options = [*options, "--rows", rows]
            known = [o for i, o in enumerate(options) if mode == "grpo" or "--group" not in options[max(i - 1, 0) : i + 1]]
            theirs = last_json([python, os.path.join(here, SCRIPTS[mode]), model, *known])
            if mode == "grpo":
                ours = grpo(os.path.abspath(orchestrate), model, options, scratch)
                ratio = theirs["seconds_per_step"] / ours["seconds_per_step"]
                print(f"{name:46} ours {ours['seconds_per_step']:.2f} s  peer {theirs['seconds_per_step']:.2f} s  ratio {ratio:.2f}", flush=True)
            else:
                ours = last_json([engine, mode, model, *options])
                speed = ours.get("tokens_per_s") or ours["new_tokens_per_s"]
                ratio = speed / theirs["tokens_per_s"]
                memory = f"peak {ours['peak_rss_mib']} MiB, peer {theirs.get('peak_rss_mib', 0)} MiB"
                print(f"{name:46} ours {speed:7.1f}/s  peer {theirs['tokens_per_s']:7.1f}/s  ratio {ratio:.2f}  {memory}", flush=True)
            results.append({"case": name, "ours": ours, "peer": theirs, "ratio": ratio})
    os.makedirs(os.path.dirname(out), exist_ok=True)
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"machine": machine(), "results": results}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
