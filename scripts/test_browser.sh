#!/usr/bin/env bash
# test_browser.sh ORCHESTRATE PICTURES: opens the report of a small grid, and the live page of a run that goes on, in headless
# Chromium (tests/browser/*.mjs). Where no browser can be had it says why and ends well: that is no fault of the pages.
set -euo pipefail
cd "$(dirname "$0")/.."
orchestrate=$(realpath "$1")
pictures=$2

if ! where=$(scripts/browser.sh); then
    echo "the pages were not tested in a browser"
    exit 0
fi
eval "export $(tr '\n' ' ' <<< "$where")"
project=$(mktemp -d)
served=
running=
trap 'kill $served $running 2>/dev/null; wait; rm -rf "$project"' EXIT
tests/browser/project.sh "$project" "$orchestrate"
"$orchestrate" -C "$project" --quiet report -o report.html
node tests/browser/report.mjs "$project/report.html" "$pictures"

# a run whose first stage of the kind grpo goes on until somebody stops it
echo wait > "$project/behaviour/grpo"
rm "$project/started-grpo"
ORCHESTRATE_WORKER=$project/worker.sh "$orchestrate" -C "$project" --quiet run grid.toml --set stages.grpo.steps=41 >"$project/run.log" 2>&1 &
running=$!
"$orchestrate" -C "$project" --quiet --json serve --port 0 >"$project/url.json" &
served=$!
until grep -qs url "$project/url.json" && [ -e "$project/started-grpo" ]; do sleep 0.1; done
url=$(sed 's/.*"url":"\([^"]*\)".*/\1/' "$project/url.json")
node tests/browser/serve.mjs "$url" "$orchestrate" "$project" "$pictures"
