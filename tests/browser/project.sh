#!/bin/sh
# project.sh DIR ORCHESTRATE: makes a project in DIR and runs a small grid in it, so that there is something to report. The
# program is the real one; the worker keeps the worker's contract and trains nothing.
set -eu
dir=$1
orchestrate=$2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir/models/tiny" "$dir/data" "$dir/behaviour"
cp "$here/../cli/worker.sh" "$here/events.py" "$dir/"
chmod +x "$dir/worker.sh"
cp "$here/../golden/decoders/llama/config.json" "$dir/models/tiny/"
echo '{}' > "$dir/models/tiny/tokenizer.json"
echo 'never read here' > "$dir/models/tiny/model.safetensors"
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    echo "{\"q\": \"Question $i?\", \"a\": \"A\"}"
done > "$dir/data/rows.jsonl"
cat > "$dir/grid.toml" <<'END'
name = "grid"

[model]
path = "models/tiny"

[data.rows]
path = "data/rows.jsonl"
prompt = "{{ q }}"
completion = "<think>Because.</think><answer>{{ a }}</answer>"
reference = "Because <b>it is</b> so."
answer = "{{ a }}"

[stages.sft]
kind = "sft"
data = "rows"
steps = 40

[stages.grpo]
kind = "grpo"
after = "sft"
data = "rows"
steps = 40
[stages.grpo.rewards.rouge]
[stages.grpo.rewards.correctness]
[stages.grpo.rewards.format]
[stages.grpo.rewards.cot]

[stages.eval]
kind = "eval"
after = "grpo"
data = "rows"
split = "all"
[stages.eval.rewards.rouge]
[stages.eval.rewards.correctness]
[stages.eval.rewards.format]
[stages.eval.rewards.cot]

[sweep]
matrix = { seed = [1, 2, 3] }
base = false

[[sweep.variants]]
name = "sft"
set = { "stages.eval.after" = "sft" }
unset = ["stages.grpo"]
[[sweep.variants]]
name = "rouge"
unset = ["stages.grpo.rewards.cot"]
[[sweep.variants]]
name = "plain"
unset = ["stages.grpo.rewards.rouge", "stages.grpo.rewards.cot"]
END
cd "$dir"
ORCHESTRATE_WORKER="$dir/worker.sh" "$orchestrate" --quiet run grid.toml > /dev/null
