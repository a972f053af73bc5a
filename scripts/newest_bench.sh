#!/bin/sh
# Prints the path of the engine's benchmark program, as cargo built it.
set -eu
cargo build --release --package orchestrate-engine --bench engine --message-format json 2>/dev/null |
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["kind"] == ["bench"]:
        print(message["executable"])'
