#!/usr/bin/env python3
"""The engine beside its peers on the same machine, in one session: bench.py ENGINE PEERS_DIR MODEL OUT.json

Each case runs the peer, then ours, and prints tokens per second of both and their ratio.
"""
import json
import os
import platform
import subprocess
import sys

CASES = [
    ("LoRA step, 4 x 256, float32", ["train", "--batch", "4", "--seq", "256", "--steps", "3", "--dtype", "float32"]),
    ("LoRA step, 4 x 256, bfloat16", ["train", "--batch", "4", "--seq", "256", "--steps", "3", "--dtype", "bfloat16"]),
    ("sampling, 12 x 64 after 64, float32", ["generate", "--batch", "12", "--prompt", "64", "--new", "64", "--dtype", "float32"]),
]
SCRIPTS = {"train": "train_step.py", "generate": "generate.py"}


def last_json(command):
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def main():
    engine, peers, model, out = sys.argv[1:]
    python = os.path.join(peers, "venv/bin/python")
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
    results = []
    for name, (mode, *options) in CASES:
        theirs = last_json([python, os.path.join(here, SCRIPTS[mode]), model, *options])
        ours = last_json([engine, mode, model, *options])
        speed = ours.get("tokens_per_s") or ours["new_tokens_per_s"]
        ratio = speed / theirs["tokens_per_s"]
        print(f"{name:38} ours {speed:8.1f}/s  peer {theirs['tokens_per_s']:8.1f}/s  ratio {ratio:.2f}", flush=True)
        results.append({"case": name, "ours": ours, "peer": theirs, "ratio": ratio})
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        machine["processor"] = next((l.split(":")[1].strip() for l in cpuinfo if l.startswith("model name")), machine["processor"])
    os.makedirs(os.path.dirname(out), exist_ok=True)
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"machine": machine, "results": results}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
