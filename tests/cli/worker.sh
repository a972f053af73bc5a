#!/bin/sh
# Keeps the contract of `orchestrate-worker ATTEMPT_DIR` without training anything.
set -eu
if [ "$1" = --version ]; then echo '{"version":"0.0.0","libtorch":"none","cuda_devices":0,"cpu":{"instructions":"avx2","bfloat16_products":"widened","float32_products":"mkl","why_slow":"a test"}}'; exit 0; fi
if [ "$1" = inspect-data ]; then cat > /dev/null; cat "$(dirname "$0")/inspection" 2> /dev/null || true; exit 0; fi
attempt=$1
project=$(dirname "$0")
assignment=$(tr -d ' \n' < "$attempt/assignment.json")
field() { echo "$assignment" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
stage=$(field stage)
key=$(basename "$attempt")
event() { echo "{\"at\":\"$(date -u +%Y-%m-%dT%H:%M:%SZ)\",\"kind\":$1}" >> "$attempt/events.jsonl"; }

# says how this worker ended, and ends
leave() {
    case $1 in failed) code=10 ;; lease_held) code=11 ;; stopped) code=12 ;; esac
    echo "{\"ending\":\"$1\"}" > "$attempt/.exit.$$.part"
    mv "$attempt/.exit.$$.part" "$attempt/exit-${ORCHESTRATE_JOB##*.}.json"
    exit "$code"
}

# the lease, which the kernel drops when this process dies
exec 9>> "$attempt/lease.lock"
flock -n 9 || leave lease_held
echo "{\"host\":\"$(uname -n)\",\"boot_id\":\"$(cat /proc/sys/kernel/random/boot_id)\",\"pid\":$$,\"since\":\"2026-01-01T00:00:00Z\"}" \
    > "$attempt/lease.json"

echo "working on $stage"
echo "${CUDA_VISIBLE_DEVICES-none}" > "$project/gpu-$stage"
echo "$assignment" | sed -n 's/.*"threads":\([0-9a-z]*\).*/\1/p' > "$project/threads-$stage"
event "{\"started\":{\"host\":\"test\",\"pid\":$$,\"device\":\"cpu\",\"libtorch\":\"none\",\"threads\":1,\"resumed_from_step\":null,\"total_steps\":3}}"
for step in 1 2 3; do
    event "{\"step\":{\"step\":$step,\"total_steps\":3,\"metrics\":{\"train/loss\":$((4 - step)).5}}}"
done
for name in "$stage" "$key"; do
    if [ -f "$project/events/$name" ]; then cat "$project/events/$name" >> "$attempt/events.jsonl"; fi
done
if [ -f "$project/events.py" ]; then python3 "$project/events.py" "$attempt" "$stage" >> "$attempt/events.jsonl"; fi
behaviour=$(cat "$project/behaviour/$stage" 2>/dev/null || echo commit)
case $behaviour in
wait) trap 'event "{\"stopped\":{\"step\":3}}"; leave stopped' TERM ;;
deaf) trap 'touch "$project/asked-$stage"' TERM ;;
esac
# from here on it may be asked to stop
echo $$ > "$project/.started-$stage"
mv "$project/.started-$stage" "$project/started-$stage" || : # whole, for those who wait for it

case $behaviour in
fail)
    event '{"failed":{"class":"input","message":"row 3 has no `question`","hint":"add it to `data/rows.jsonl`"}}'
    leave failed
    ;;
crash)
    echo "terminate called after throwing an instance of std::bad_alloc" >&2
    exit 134
    ;;
abort) exit 139 ;;
crash_once)
    if [ ! -f "$project/crashed-$stage" ]; then touch "$project/crashed-$stage"; exit 134; fi
    ;;
crash_then_wait)
    if [ ! -f "$project/crashed-$stage" ]; then touch "$project/crashed-$stage"; exit 134; fi
    trap 'event "{\"stopped\":{\"step\":3}}"; leave stopped' TERM
    touch "$project/again-$stage"
    while :; do sleep 0.05; done
    ;;
kill) kill -9 $$ ;;
kill_without_checkpointing)
    case $assignment in *'"gradient_checkpointing":true'*) ;; *) kill -9 $$ ;; esac
    ;;
wait) while :; do sleep 0.05; done ;;
deaf) while :; do sleep 0.05 || :; done ;;
esac

measured='{"train/loss":{"value":1.5,"interval":null,"count":3}}'
event "{\"finished\":$(cat "$project/measured/$key" 2>/dev/null || echo "$measured")}"
cache=$(dirname "$(dirname "$attempt")")/cache
mkdir -p "$attempt/out" "$cache"
echo "result of $stage" > "$attempt/out/result.txt"
cp "$attempt/key.json" "$attempt/events.jsonl" "$attempt/out/"
echo "{\"job\":\"$ORCHESTRATE_JOB\"}" > "$attempt/out/record.json"
cd "$attempt/out"
entries=
for file in events.jsonl key.json result.txt; do
    digest=$(sha256sum "$file" | cut -d' ' -f1)
    entries="$entries${entries:+,}\"$file\":{\"sha256\":\"$digest\",\"bytes\":$(stat -c %s "$file")}"
done
echo "{\"format\":1,\"files\":{$entries}}" > manifest.json
cd /
rm -rf "${cache:?}/$key"
mv "$attempt/out" "$cache/$key"
rm -r "$attempt"
