#!/usr/bin/env python3
"""The engine beside its peers on the same machine, in one session: bench.py ENGINE PEERS_DIR MODEL QUESTIONS.jsonl OUT.json [ONLY]

Each case runs the peer, then ours, and prints tokens per second of both, their ratio, and the peak memory of both. With ONLY, just the
cases whose names hold that text run, and the others keep the results that OUT.json has of them.
"""
import json
import os
import platform
import subprocess
import sys
import tempfile

TRAIN = ["train", "--batch", "4", "--seq", "512", "--steps", "3"]
SFT = ["sft", "--batch", "16", "--micro", "8", "--steps", "3"]
GENERATE = ["generate", "--batch", "12", "--prompt", "64", "--new", "64"]
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
    ("sampling, 12 x 64 after 64, float32", [*GENERATE, *F32]),
]
SCRIPTS = {"train": "train_step.py", "sft": "sft_step.py", "generate": "generate.py"}


def last_json(command):
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def machine():
    described = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        names = (line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name"))
        described["processor"] = next(names, described["processor"])
    return described


def main():
    engine, peers, model, questions, out = sys.argv[1:6]
    only = sys.argv[6] if len(sys.argv) > 6 else ""
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
            if mode == "sft":
                options = [*options, "--rows", rows]
            theirs = last_json([python, os.path.join(here, SCRIPTS[mode]), model, *options])
            ours = last_json([engine, mode, model, *options])
            speed = ours.get("tokens_per_s") or ours["new_tokens_per_s"]
            ratio = speed / theirs["tokens_per_s"]
            memory = f"peak {ours['peak_rss_mib']} MiB, peer {theirs.get('peak_rss_mib', 0)} MiB"
            print(f"{name:36} ours {speed:7.1f}/s  peer {theirs['tokens_per_s']:7.1f}/s  ratio {ratio:.2f}  {memory}", flush=True)
            results.append({"case": name, "ours": ours, "peer": theirs, "ratio": ratio})
    os.makedirs(os.path.dirname(out), exist_ok=True)
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"machine": machine(), "results": results}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
