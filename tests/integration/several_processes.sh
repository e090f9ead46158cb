#!/usr/bin/env bash
# One run by different numbers of processes: the same rows, the same losses but for rounding, whatever the numbers were
# and in whatever order; the same bits with the same number.
set -uo pipefail
source "$GATO_SOURCE/tests/integration/tiny_run.bash"
settings=(data.validation_share=0.2 train.steps=24 train.checkpoint_every=6 train.keep_checkpoints=100 train.log_every=4 train.validate_every=12)

# train SIZE RUN SETTINGS...: to the end, or to exit code $expected
expected=0
train() {
  local size=$1 run=$2 rank port pids=() code
  shift 2
  port=$(free_port)
  for rank in $(seq 0 $((size - 1))); do
    RANK=$rank WORLD_SIZE=$size LOCAL_RANK=$rank LOCAL_WORLD_SIZE=$size MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
      "$bin/gato-train" --config tiny.yaml run.dir="$run" comm.bucket_mib=0.01 "${settings[@]}" "$@" >"$run-$rank.txt" 2>&1 &
    pids+=($!)
  done
  started+=("${pids[@]}")
  for rank in $(seq 0 $((size - 1))); do
    wait "${pids[$rank]}"
    code=$?
    [ "$code" = "$expected" ] || { tail -n 20 "$run"-*.txt; fail "$run: rank $rank of $size ended with $code"; }
  done
}
# Whether two runs have the same steps and rows, and losses and norms within a tolerance for sums in another order.
same_steps() {
  python3 - "$1/steps.csv" "$2/steps.csv" "${3:-2e-4}" <<'PY' || fail "$2 took other steps than $1"
import csv, sys
def steps(path):
    last = {}
    for row in csv.DictReader(open(path)):
        last[int(row["step"])] = row
    return last
a, b, tolerance = steps(sys.argv[1]), steps(sys.argv[2]), float(sys.argv[3])
if sorted(a) != sorted(b) or len(a) != 24:
    sys.exit(f"steps {sorted(a)} and {sorted(b)}")
for step in a:
    if a[step]["first_row"] != b[step]["first_row"]:
        sys.exit(f"step {step}: rows from {a[step]['first_row']} and {b[step]['first_row']}")
    for field, factor in (("loss", 1), ("gradient_norm", 20)):
        x, y = float(a[step][field]), float(b[step][field])
        if abs(x - y) > factor * tolerance * abs(x):
            sys.exit(f"step {step}: {field} {x} and {y}")
PY
}
same_tokens() {  # of the step in metrics.jsonl
  [ "$(grep -o '"step":24,"tokens":[0-9]*' "$1/metrics.jsonl" | tail -1)" = \
    "$(grep -o '"step":24,"tokens":[0-9]*' "$2/metrics.jsonl" | tail -1)" ] || fail "$2 saw other tokens than $1"
}
model_of() { echo "$1/checkpoints/step-00000024/model.safetensors"; }

train 1 one
for size in 2 4; do
  train $size "of$size"
  same_steps one "of$size" && same_tokens one "of$size" && same_loss one "of$size"
  for rank in $(seq 1 $((size - 1))); do grep -q '"processes/'$rank'/step_seconds"' "of$size/metrics.jsonl" || fail "no times of rank $rank"; done
done
train 2 sharded train.shard_optimizer=true
same_steps one sharded && same_tokens one sharded && same_loss one sharded
ls sharded/checkpoints/step-00000024/optimizer-first_moment-00001-of-00002.safetensors >/dev/null || fail "moments are not divided"

# In bf16 the masters are divided as well. The files are whole whatever wrote them: a run goes on by another number.
train 1 narrow1 model.precision=bf16
expected=75 GATO_FAULTS="step=12,rank=2,kind=term" \
  train 3 narrow3 model.precision=bf16 train.shard_optimizer=true train.check_replicas_every=5
ls narrow3/checkpoints/step-*/optimizer-first_moment-00001-of-00003.safetensors >/dev/null || fail "narrow3 is not divided"
train 2 narrow3 model.precision=bf16 train.shard_optimizer=true
same_steps narrow1 narrow3 1e-2 && same_tokens narrow1 narrow3 && same_loss narrow1 narrow3

# The same number of processes gives the same bits, interrupted or not, whoever is asked to stop.
train 3 whole
for stop in "5,rank=2" "13,rank=0"; do
  expected=75 GATO_FAULTS="step=$stop,kind=term" train 3 parts
done
train 3 parts
cmp "$(model_of whole)" "$(model_of parts)" || fail "an interrupted run of three processes ends elsewhere"
same_steps whole parts 0

# A run goes on by any number of processes, in any order, with the optimizer divided or not.
for order in "1 2 3 4" "4 3 2 1" "2 4 1 3"; do
  run="order${order// /}"
  step=0
  for size in $order; do
    step=$((step + 6))
    divide=train.shard_optimizer=$([ $((size % 2)) = 0 ] && echo true || echo false)
    if [ $step = 24 ]; then
      train "$size" "$run" "$divide"
    else
      expected=75 GATO_FAULTS="step=$step,rank=$((size - 1)),kind=term" train "$size" "$run" "$divide"
    fi
  done
  same_steps one "$run" && same_tokens one "$run" && same_loss one "$run"
done

# What does not fit together is refused by all, with the rank and the cause.
refused() {  # RUN TEXT SETTINGS OF RANK 1...
  local run=$1 text=$2 port pids=() rank
  shift 2
  port=$(free_port)
  for rank in 0 1; do
    RANK=$rank WORLD_SIZE=2 LOCAL_RANK=$rank LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
      "$bin/gato-train" --config tiny.yaml run.dir="$run" $([ $rank = 1 ] && echo "$@") >"$run-$rank.txt" 2>&1 &
    pids+=($!)
  done
  started+=("${pids[@]}")
  for rank in 0 1; do
    wait "${pids[$rank]}"
    [ $? = 2 ] || { tail -n 20 "$run"-*.txt; fail "$run: rank $rank was not refused"; }
    grep -q -- "$text" "$run-$rank.txt" || { cat "$run-$rank.txt"; fail "$run: rank $rank does not say '$text'"; }
  done
}
refused other_settings "rank 1 has configuration" optimizer.learning_rate=0.004
expected=2 train 5 uneven
grep -q "12 rows do not divide evenly among 5 processes.*4 or 3 or 6 processes.*10 or 15 rows" uneven-3.txt || fail "no advice on sizes"

# A damaged episode is left out from the same row on, whoever reads it.
printf 'name: more\ntasks:\n  - {pattern: control/point_mass, episodes: 100}\n' > more.yaml
"$bin/gato-data" collect --suite more.yaml --reference-episodes 2 --out damaged >/dev/null || fail "no data"
python3 - <<'PY' || fail "no damage"
import pathlib
shard = max(pathlib.Path("damaged").rglob("*.gato"), key=lambda p: p.stat().st_size)
data = bytearray(shard.read_bytes())
data[70000] ^= 1  # of the second block of 64 KiB
shard.write_bytes(data)
PY
settings+=("data.datasets=[damaged]" data.on_corrupt=quarantine data.quarantine_budget=1)
train 1 hurt1
train 3 hurt3
same_steps hurt1 hurt3 && same_tokens hurt1 hurt3
python3 - <<'PY' || fail "the lists of damaged episodes differ"
import json, sys
def rows(run):  # by episode, of the rows that were used
    found = {}
    for line in open(run + "/quarantine.jsonl"):
        entry = json.loads(line)
        if entry["row"] < 24 * 12:
            found[entry["episode"]] = min(entry["row"], found.get(entry["episode"], entry["row"]))
    return found
one, three = rows("hurt1"), rows("hurt3")
sys.exit(not one or one != three)
PY
