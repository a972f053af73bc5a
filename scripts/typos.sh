#!/usr/bin/env bash
# Checks the spelling of all files by typos.toml. Gets `typos` into .tools/ where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
version=1.52.0
tools=.tools/typos-$version
if [ ! -x "$tools/bin/typos" ]; then
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --only-binary=:all: --target "$tools" "typos==$version"
fi
"$tools/bin/typos" --format brief
