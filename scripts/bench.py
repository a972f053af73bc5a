#!/usr/bin/env python3
"""The engine beside its peers on the same machine, in one session:
bench.py ENGINE REWARDS ORCHESTRATE PEERS_DIR MODEL ENCODER QUESTIONS.jsonl RESULTS_DIR [ONLY]

Each case runs the peer, then ours, and prints tokens (texts, pairs) per second of both, their ratio, and the peak memory of both.
Rating has no peer, and is compared with the GRPO step. On a CPU that is slow in bfloat16 the peer of a bfloat16 case is the one in
float32, which is what its user would run there. With ONLY, just the cases whose names contain that text run.

Results are kept by kind of CPU, in RESULTS_DIR/cpu-KIND.json: the newest of each case. RESULTS_DIR/history.csv gets a line for
each case of each run. Neither is written when the environment limits the CPU's instructions.
"""
import csv
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
SHARED = ["generate", "--batch", "6", "--prompt", "1024", "--new", "128", "--group", "6", "--steps", "2"]
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
    *((f"LoRA step, 1 x {seq}, float32", ["train", "--batch", "1", "--seq", str(seq), "--steps", "3", *F32])
      for seq in (512, 2048, 4096)),
    ("sampling, 1 prompt of 1024 x 6 + 128, float32", [*SHARED, *F32]),
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


# The features that tell kinds of CPU apart, widest first, and those of them that make bfloat16 fast.
FEATURES = ["amx_bf16", "avx512_bf16", "avx512f", "avx2"]
FAST_BFLOAT16 = {"amx_bf16", "avx512_bf16"}
LIMITS = ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ORCHESTRATE_FLOAT32_PRODUCTS"]


def machine():
    """This machine: its processor, its kind as results are kept by, and its features."""
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        lines = dict((part.strip() for part in line.split(":", 1)) for line in cpuinfo if ":" in line)
    flags = lines.get("flags", "").split()
    features = [feature for feature in FEATURES if feature in flags]
    widest = (features or [platform.machine()])[0].removesuffix("_bf16" if features[:1] == ["amx_bf16"] else "")
    maker = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}.get(lines.get("vendor_id"), "other")
    return {
        "kind": f"{maker}-{widest}".replace("_", "-"), "processor": lines.get("model name", platform.machine()),
        "cores": os.cpu_count(), "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "features": features,
    }


def commit():
    """The commit that is measured, with a mark when files other than results differ from it."""
    git = lambda *words: subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
    return git("rev-parse", "--short=12", "HEAD") + (
        "+" if git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benches/results") else "")


def kept(path, here):
    """The results of earlier runs on this kind of CPU, by case; ends the program when the file is of another kind."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        earlier = json.load(file)
    if earlier["machine"]["kind"] != here["kind"]:
        sys.exit(f"{path} has the results of a CPU of the kind {earlier['machine']['kind']}, and this one is {here['kind']}: "
                 "rename the file after its kind")
    return {result["case"]: result for result in earlier["results"]}


def speed(side):
    """Of one side: tokens, texts or pairs a second, or seconds a step, or milliseconds."""
    names = ["tokens_per_s", "new_tokens_per_s", "texts_per_s", "pairs_per_s", "seconds_per_step", "ms"]
    return next((name, side[name]) for name in names if side.get(name))


def write(directory, here, before, results):
    """Keeps the newest result of every case, and appends those of this run to the history."""
    limits = [name for name in LIMITS if os.environ.get(name)]
    if limits:
        print(f"nothing is written: {', '.join(limits)} changes what this CPU does")
        return
    os.makedirs(directory, exist_ok=True)
    newest = before | {result["case"]: result for result in results}
    ordered = [newest[case] for case, _ in CASES if case in newest]
    with open(os.path.join(directory, f"cpu-{here['kind']}.json"), "w", encoding="utf-8") as file:
        json.dump({"machine": here, "results": ordered}, file, indent=1)
        file.write("\n")
    history = os.path.join(directory, "history.csv")
    fresh = not os.path.exists(history)
    with open(history, "a", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        if fresh:
            lines.writerow(["date", "commit", "kind", "processor", "case", "unit", "ours", "peer", "ratio"])
        for result in results:
            unit, ours = speed(result["ours"])
            peer = result.get("peer")
            theirs = f"{speed(peer)[1]:.4g}" if peer else ""
            ratio = f"{result['ratio']:.3f}" if peer else ""
            lines.writerow([result["date"], result["commit"], here["kind"], here["processor"], result["case"], unit,
                            f"{ours:.4g}", theirs, ratio])


def main():
    engine, rewards, orchestrate, peers, model, encoder, questions, directory = sys.argv[1:9]
    only = sys.argv[9] if len(sys.argv) > 9 else ""
    here = machine()
    before = kept(os.path.join(directory, f"cpu-{here['kind']}.json"), here)
    slow_bfloat16 = not FAST_BFLOAT16 & set(here["features"])
    print(f"{here['kind']}: {here['processor']}, {here['cores']} cores", flush=True)
    measured = {"date": datetime.date.today().isoformat(), "commit": commit()}
    asked = {}  # peers' answers of this run, by their command
    python = os.path.join(peers, "venv/bin/python")
    scripts = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        rows = os.path.join(scratch, "rows.jsonl")
        subprocess.run([python, os.path.join(scripts, "sft_rows.py"), model, questions, rows], check=True)
        for name, (mode, *options) in CASES:
            if only not in name:
                continue
            if mode in ("rouge", "embed"):
                rated = [rewards, python, scripts]
                ours, theirs, unit = rouge(*rated, scratch) if mode == "rouge" else embed(*rated, encoder, questions, options)
                ratio = ours[unit] / theirs[unit]
                print(f"{name:46} ours {ours[unit]:7.1f}/s  peer {theirs[unit]:7.1f}/s  ratio {ratio:.2f}", flush=True)
                results.append({"case": name, **measured, "ours": ours, "peer": theirs, "ratio": ratio})
                continue
            if mode == "rate":
                ours = last_json([rewards, "rate", "--model", encoder, "--questions", questions, *options])
                step = next((r["ours"] for r in [*results, *before.values()] if r["case"] == GRPO_STEP), None)
                share = ours["ms"] / 1e3 / step["seconds_per_step"] if step else None
                print(f"{name:46} ours {ours['ms']:.1f} ms" + (f"  {share:.2%} of a GRPO step" if step else ""), flush=True)
                results.append({"case": name, **measured, "ours": ours, "share_of_grpo_step": share})
                continue
            if mode == "sft":
                options = [*options, "--rows", rows]
            known = [o for i, o in enumerate(options) if mode == "grpo" or "--group" not in options[max(i - 1, 0) : i + 1]]
            if mode == "generate":
                known = ["--runs" if option == "--steps" else option for option in known]
            if slow_bfloat16:
                known = ["float32" if option == "bfloat16" else option for option in known]
            command = [python, os.path.join(scripts, SCRIPTS[mode]), model, *known]
            theirs = asked[str(command)] = asked.get(str(command)) or last_json(command)
            if mode == "grpo":
                ours = grpo(os.path.abspath(orchestrate), model, options, scratch)
                ratio = theirs["seconds_per_step"] / ours["seconds_per_step"]
                print(f"{name:46} ours {ours['seconds_per_step']:.2f} s  peer {theirs['seconds_per_step']:.2f} s  ratio {ratio:.2f}", flush=True)
            else:
                ours = last_json([engine, mode, model, *options])
                _, fast = speed(ours)
                ratio = fast / theirs["tokens_per_s"]
                memory = f"peak {ours['peak_rss_mib']} MiB, peer {theirs.get('peak_rss_mib', 0)} MiB"
                print(f"{name:46} ours {fast:7.1f}/s  peer {theirs['tokens_per_s']:7.1f}/s  ratio {ratio:.2f}  {memory}", flush=True)
            results.append({"case": name, **measured, "ours": ours, "peer": theirs, "ratio": ratio})
    write(directory, here, before, results)


if __name__ == "__main__":
    main()
