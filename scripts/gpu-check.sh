#!/usr/bin/env bash
# Checks the worker on a host with a GPU: gpu-check.sh WORKER [GOLDEN_DIR]
#
# The host needs no Rust and no repository: carry the built `orchestrate-worker`, this script and `tests/golden`. libtorch
# is looked for in $LIBTORCH/lib, in .libtorch/lib beside this script's folder, and in python3's torch. On a host without
# a usable GPU it says why and ends with 0.
set -euo pipefail

worker=${1:?usage: gpu-check.sh WORKER [GOLDEN_DIR]}
here=$(dirname "$0")
golden=${2:-$here/../tests/golden}

skip() {
    echo "skipped: $1"
    exit 0
}
command -v nvidia-smi >/dev/null || skip "nvidia-smi is not here, so neither is an NVIDIA driver"
gpus=$(nvidia-smi -L 2>&1) || skip "nvidia-smi fails: $gpus"
[[ $gpus == *"GPU 0"* ]] || skip "nvidia-smi lists no GPU"
echo "$gpus"

[[ -x $worker ]] || {
    echo "error: \`$worker\` is not an executable file" >&2
    exit 2
}
[[ -d $golden/decoders ]] || {
    echo "error: \`$golden\` is not the directory of golden values (tests/golden)" >&2
    exit 2
}

# The first place with the CUDA library wins over the folders that the worker was built with.
places=()
[[ -z ${LIBTORCH:-} ]] || places+=("$LIBTORCH/lib")
places+=("$here/../.libtorch/lib")
if command -v python3 >/dev/null; then
    torch=$(python3 -c 'import os, torch; print(torch.__version__, os.path.join(os.path.dirname(torch.__file__), "lib"))' 2>/dev/null) || torch=
    if [[ -n $torch ]]; then
        [[ $torch == 2.11.* ]] || echo "warning: python3 has torch ${torch%% *}; the worker was built for 2.11.0" >&2
        places+=("${torch#* }")
    fi
fi
found=
for place in "${places[@]}"; do
    if [[ -e $place/libtorch_cuda.so ]]; then
        found=$(cd "$place" && pwd)
        break
    fi
done
[[ -n $found ]] || skip "no libtorch_cuda.so in ${places[*]}"
export LD_LIBRARY_PATH="$found${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
echo "libtorch from $found"
"$worker" --version

exec "$worker" self-test --device cuda:0 --golden "$golden"
