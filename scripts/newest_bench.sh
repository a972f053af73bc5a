#!/bin/sh
# Prints the path of a benchmark program of the engine (newest_bench.sh [engine|rewards|gpu]), as cargo built it.
set -eu
cargo build --release --workspace --bench "${1:-engine}" --message-format json 2>/dev/null |
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["kind"] == ["bench"]:
        print(message["executable"])'
