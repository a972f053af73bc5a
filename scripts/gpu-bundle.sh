#!/usr/bin/env bash
# Packs what a host with a GPU needs for its first run into one folder: gpu-bundle.sh OUT
#
# The programs are stripped: nine tenths of them are debug information of libtorch's bindings. The host needs Python's torch
# 2.11 with CUDA, glibc 2.34 and GLIBCXX_3.4.26, and neither Rust nor this repository.
set -euo pipefail
out=${1:?usage: gpu-bundle.sh OUT}
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

mkdir -p "$out/programs" "$out/scripts/gpu" "$out/scripts/peers"
cargo build --release --workspace --bin orchestrate-worker
cp target/release/orchestrate-worker "$out/programs/"
for bench in gpu engine; do
    cp "$(scripts/newest_bench.sh $bench)" "$out/programs/$bench"
done
strip --strip-debug "$out"/programs/*
cp -r tests/golden "$out/golden"
cp scripts/gpu-first-run.sh "$out/scripts/"
cp scripts/gpu/*.py "$out/scripts/gpu/"
cp scripts/peers/*.py "$out/scripts/peers/"
if [[ -d models/all-minilm-l6-v2 ]]; then
    cp -r models/all-minilm-l6-v2 "$out/encoder"
fi
if [[ -d models/smollm2-135m-instruct ]]; then
    mkdir -p "$out/tokenizer"
    cp models/smollm2-135m-instruct/{tokenizer,tokenizer_config,special_tokens_map}.json "$out/tokenizer/"
fi
du -sh "$out"
