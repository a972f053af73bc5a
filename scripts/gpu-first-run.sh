#!/usr/bin/env bash
# Everything that a GPU can tell in nine minutes: gpu-first-run.sh BUNDLE OUT
#
# BUNDLE is what gpu-bundle.sh made. The steps come in order of worth. Each has a limit in seconds, and none ends the script.
# Their output goes into OUT/logs.tar.gz, packed again after each step, and the benchmarks' numbers into OUT/gpu.jsonl.
# GPU_SECONDS limits the whole (default 540). GPU_DEVICE=cpu and GPU_SHAPES=tiny try the script where there is no GPU.
set -uo pipefail
bundle=$(cd "${1:?usage: gpu-first-run.sh BUNDLE OUT}" && pwd)
mkdir -p "${2:?usage: gpu-first-run.sh BUNDLE OUT}"
out=$(cd "$2" && pwd)
programs=$bundle/programs
peers=$bundle/scripts/peers
probes=$bundle/scripts/gpu
device=${GPU_DEVICE:-cuda:0}
read -r small middle large <<<"${GPU_SHAPES:-135m 1b 8b}"
middle=${middle:-$small}
large=${large:-$middle}
scratch=$(mktemp -d)
logs=$scratch/logs
mkdir -p "$logs"
deadline=$((SECONDS + ${GPU_SECONDS:-540}))

torch=$(python3 -c 'import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))' 2>/dev/null) || torch=
export LD_LIBRARY_PATH=${torch:+$torch:}${LD_LIBRARY_PATH:-}
export RUST_BACKTRACE=1 TORCH_SHOW_CPP_STACKTRACES=1 HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
models=$scratch/models
free=$(df --output=avail -BG /dev/shm 2>/dev/null | tail -1 | tr -dc 0-9)
[[ ${free:-0} -gt 30 ]] && models=$(mktemp -d -p /dev/shm)

sampler=
if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=timestamp,utilization.gpu,memory.used,power.draw,clocks.sm --format=csv -lms 500 >"$logs/smi.csv" 2>&1 &
    sampler=$!
fi

# All that is known so far, as one file to bring back.
pack() {
    tar -C "$scratch" -czf "$out/logs.tar.gz.part" logs && mv "$out/logs.tar.gz.part" "$out/logs.tar.gz"
}

finish() {
    [[ -n $sampler ]] && kill "$sampler" 2>/dev/null
    pack
    echo "== summary"
    cat "$logs/summary.txt"
    rm -rf "$scratch" "$models"
}
trap finish EXIT

step() { # NAME LIMIT COMMAND...
    local name=$1 limit=$2 began=$SECONDS left=$((deadline - SECONDS - 8)) code
    shift 2
    if ((left < 8)); then
        echo "$name: no time left" >>"$logs/summary.txt"
        return 1
    fi
    timeout -k 5 $((limit < left ? limit : left)) "$@" >"$logs/$name.txt" 2>&1
    code=$?
    printf '%-22s %4d s  exit %d\n' "$name" $((SECONDS - began)) "$code" | tee -a "$logs/summary.txt"
    tail -n 3 "$logs/$name.txt" | cut -c 1-160
    pack
    return "$code"
}

worker=$programs/orchestrate-worker
bench=("$programs/gpu" --device "$device" --out "$out/gpu.jsonl")

step environment 25 bash -c 'nvidia-smi; nproc; free -g; df -h / /dev/shm; ldd --version | head -1
    python3 -c "import torch; print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version(), torch.cuda.is_available())"'
step version 40 "$worker" --version || step version-libraries 40 env LD_DEBUG=libs "$worker" --version
step self-test 150 "$worker" self-test --device "$device" --golden "$bundle/golden" ||
    step self-test-blocking 120 env CUDA_LAUNCH_BLOCKING=1 "$worker" self-test --device "$device" --golden "$bundle/golden"
step sdpa 30 env TORCH_CUDNN_SDPA_DEPRIORITIZED=1 python3 "$probes/sdpa_probe.py"
step sdpa-cudnn 30 python3 "$probes/sdpa_probe.py"
step train-large 40 "${bench[@]}" --shapes "$large" --modes lora --steps 5
step train-middle 40 "${bench[@]}" --shapes "$middle" --modes lora,full --steps 5
step train-small 30 "${bench[@]}" --shapes "$small" --modes lora,full --steps 5
step decode 60 "${bench[@]}" --shapes "$large,$middle" --modes decode --new 128 --steps 2
step packed 50 "${bench[@]}" --shapes "$large,$middle,$small" --modes packed --steps 6
step grpo 60 "${bench[@]}" --shapes "$large,$middle" --modes grpo --new 256 --steps 1
step bits 30 "${bench[@]}" --shapes "$middle" --modes bits --batch 2
[[ -d $bundle/encoder ]] && step encode 20 "${bench[@]}" --shapes "$small" --modes encode --encoder "$bundle/encoder"
step many-launches 45 "${bench[@]}" --shapes "$middle" --modes packed,decode,grpo --launches many --new 64 --steps 2
step any-order 30 "${bench[@]}" --shapes "$middle" --modes lora,packed --deterministic off --steps 4
step graphs 45 "${bench[@]}" --shapes "$large,$middle,$small" --modes decode --graphs on --new 128 --steps 2
step train-large-4096 25 "${bench[@]}" --shapes "$large" --modes lora --steps 4 --batch 1 --seq 4096
step train-large-recompute 25 "${bench[@]}" --shapes "$large" --modes lora --steps 4 --batch 4 --checkpointing on
step cudnn-decode 40 env TORCH_CUDNN_SDPA_DEPRIORITIZED=0 "${bench[@]}" --shapes "$middle" --modes decode --new 16 --steps 1
tokenizer=()
[[ -d $bundle/tokenizer ]] && tokenizer=(--tokenizer "$bundle/tokenizer")
step models 60 python3 "$probes/random_llama.py" "$models" "$middle" "${tokenizer[@]}"
step peer-train 45 python3 "$peers/train_step.py" "$models/$middle" --dtype bfloat16 --batch 8 --seq 2048 --steps 4
step peer-generate 45 python3 "$peers/generate.py" "$models/$middle" --dtype bfloat16 --batch 48 --prompt 512 --new 128 --runs 1
# the tokenizer has more tokens than the smallest model
if [[ $middle != tiny && -d $bundle/tokenizer ]] && python3 -c 'import trl, peft, datasets' 2>/dev/null; then
    step peer-grpo 60 python3 "$peers/grpo_step.py" "$models/$middle" --prompts 8 --group 6 --new 256 --steps 2
fi
if command -v ncu >/dev/null; then
    step ncu 70 ncu --clock-control none --metrics gpu__time_duration.sum --csv --log-file "$logs/ncu.csv" --launch-skip 4000 \
        --launch-count 3000 "$programs/gpu" --case "$middle,lora" --steps 1
fi
