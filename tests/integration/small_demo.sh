#!/usr/bin/env bash
# The main job in miniature, with a kill in the middle of everything: collect, tokenize, train, evaluate, report.
set -euo pipefail
bin="$GATO_BUILD/bin"
export GATO_ROOT="$GATO_SOURCE"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAILED: $1" >&2; exit 1; }

# Collection is killed once and goes on; the files are those of an undisturbed one.
timeout -s KILL 3 "$bin/gato-data" collect --suite demo --scale 0.03 --reference-episodes 4 --out data || true
"$bin/gato-data" collect --suite demo --scale 0.03 --reference-episodes 4 --out data
"$bin/gato-data" collect --suite demo --scale 0.03 --reference-episodes 4 --out again --threads 1 >/dev/null
for shard in data/*/*.gato; do cmp "$shard" "again/${shard#data/}" || fail "$shard depends on threads or interruptions"; done
"$bin/gato-data" verify data
"$bin/gato-data" inspect data/pictures-caption >/dev/null
"$bin/gato-data" train-tokenizer --size 1024 --out tokenizer.model data
"$bin/gato-data" tokenize --tokenizer tokenizer.model data

# The first rows of the demo mixture, window by window. After a wanted change: GATO_GOLDEN=write.
golden="$GATO_SOURCE/tests/integration/golden/demo_rows.txt"
demo=(--config "$GATO_SOURCE/configs/demo.yaml" data.datasets=[data] tokenizer.model=tokenizer.model)
"$bin/gato-data" explain "${demo[@]}" --step 0 --rows 4 > rows.txt
"$bin/gato-data" explain "${demo[@]}" --step 100000 --row 3 >> rows.txt
"$bin/gato-data" explain "${demo[@]}" --validation --row 1 >> rows.txt
[ "${GATO_GOLDEN:-}" != write ] || cp rows.txt "$golden"
diff "$golden" rows.txt || fail "rows of the demo mixture changed: runs that are under way would go on with other data"
"$bin/gato-data" explain "${demo[@]}" --row 2 --show > shown.txt
grep -q 'tokens  .*[TDC]' shown.txt || fail "explain --show marks no loss"

settings=(--config "$GATO_SOURCE/configs/demo.yaml" data.datasets=[data] tokenizer.model=tokenizer.model train.steps=60
  train.log_every=10 train.validate_every=30 train.checkpoint_every=10 train.keep_checkpoints=100)
train() { "$bin/gato-train" "${settings[@]}" "$@"; }
train run.dir=whole
# Killed without warning again and again, the run ends with the same bits.
for pause in 1.6 2.2 2.8; do timeout -s KILL "$pause" "$bin/gato-train" "${settings[@]}" run.dir=killed || true; done
train run.dir=killed
cmp whole/checkpoints/step-00000060/model.safetensors killed/checkpoints/step-00000060/model.safetensors || fail "a killed run ends elsewhere"

# A stop signal saves and says so by exit code 75.
set +e
"$bin/gato-train" "${settings[@]}" run.dir=stopped train.steps=100000 train.checkpoint_every=100000 & pid=$!
for _ in $(seq 100); do [ -s stopped/metrics.jsonl ] && break; sleep 0.1; done
kill -TERM "$pid"; wait "$pid"; code=$?
set -e
[ "$code" = 75 ] || fail "a stop signal gave exit code $code"
ls stopped/checkpoints/step-*/MANIFEST.json >/dev/null || fail "a stop signal saved nothing"

"$bin/gato-eval" --checkpoint whole --suite demo --rollouts 2
summary=whole/eval/results/step-00000060@demo/summary.json
[ -s "$summary" ] || fail "no summary"
"$bin/gato-eval" --checkpoint whole --suite demo --rollouts 2 >/dev/null   # finished tasks are kept
report=$("$bin/gato-eval" report --run whole)
grep -q 'control/reacher' "$report" || fail "the report lacks a task"

# What was written, read by the official packages: also after kills and restarts.
readers="${GATO_DEPS_DIR:-$GATO_SOURCE/.deps}/readers/bin/python"
if [ -x "$readers" ]; then
  for run in whole killed; do "$readers" "$GATO_SOURCE/tests/integration/read_back.py" "$run"; done
else
  echo "not compared with TensorBoard's and safetensors' own readers: tools/setup --readers was not run"
fi

# The large configuration, shrunk, trains two steps on the same data; without data it names the command that makes it.
"$bin/gato-train" --config "$GATO_SOURCE/configs/large.yaml" run.dir=large data.datasets=[data] tokenizer.model=tokenizer.model \
  model.layers=2 model.width=64 model.heads=2 model.head_dim=32 model.hidden=128 model.patch_channels=8 data.row_tokens=512 \
  train.steps=2 train.batch_rows=2 train.micro_batch_rows=1 train.validation_rows=2 optimizer.warmup_steps=1 data.loader_threads=1
"$bin/gato-train" --config "$GATO_SOURCE/configs/large.yaml" --check | tee check.txt
grep -q '1.08 B' check.txt || fail "--check does not count the large model"

# As many rows at once as memory allows; too many end with what did not fit, and nothing is lost.
small=("${settings[@]}" train.steps=2 train.validation_rows=2)
"$bin/gato-train" "${small[@]}" run.dir=auto train.micro_batch_rows=auto 2>&1 | tee auto.txt
grep -q 'micro_batch_rows auto: [1-9]' auto.txt || fail "no micro-batch was measured"
grep -q 'micro_batch_rows: [1-9]' auto/config.yaml || fail "the measured micro-batch is not recorded"
code=0
(ulimit -v 6000000; "$bin/gato-train" "${small[@]}" run.dir=full train.batch_rows=512 model.layers=24) >full.txt 2>&1 || code=$?
[ "$code" = 1 ] || { tail -5 full.txt; fail "running out of memory ended with exit code $code"; }
grep -q 'largest part is .*What helps: lower train.micro_batch_rows (now 512)' full.txt || { tail -5 full.txt; fail "out of memory is not explained"; }
ls full/checkpoints/step-00000000/MANIFEST.json >/dev/null || fail "out of memory lost the state"

# Wrong input: one clear sentence and the right exit code.
expect() { # code, text, command...
  local code=0
  "${@:3}" >out.txt 2>&1 || code=$?
  [ "$code" = "$1" ] || { cat out.txt; fail "exit code $code instead of $1: ${*:3}"; }
  grep -q -- "$2" out.txt || { cat out.txt; fail "no '$2' from: ${*:3}"; }
}
expect 2 'gato-data collect' "$bin/gato-train" --config "$GATO_SOURCE/configs/large.yaml" run.dir=none
expect 2 'model.layers' "$bin/gato-train" --config "$GATO_SOURCE/configs/demo.yaml" model.layerss=3
expect 2 'train.steps' "$bin/gato-train" --config "$GATO_SOURCE/configs/demo.yaml" train.steps=many
expect 2 'missing.yaml' "$bin/gato-train" --config missing.yaml
expect 2 'matches nothing in suite' "$bin/gato-eval" --checkpoint whole --suite demo --task 'typo/*' --out nowhere
expect 2 'neither a checkpoint' "$bin/gato-eval" --checkpoint data --suite demo
expect 2 'demo' "$bin/gato-eval" --checkpoint whole --suite dmeo
printf 'x' | dd of=whole/checkpoints/step-00000060/model.safetensors bs=1 seek=5000 conv=notrunc status=none
expect 1 'model.safetensors at offset' "$bin/gato-eval" --checkpoint whole/checkpoints/step-00000060 --suite demo
head -c 1000 tokenizer.model > cut.model
expect 1 'cut.model' "$bin/gato-data" tokenize --tokenizer cut.model data
shard=$(ls data/control-reacher/*.gato | head -1)
printf 'x' | dd of="$shard" bs=1 seek=4000 conv=notrunc status=none
expect 1 "$(basename "$shard")" "$bin/gato-data" verify data
truncate -s 3000 "$shard"
expect 1 "$(basename "$shard")" "$bin/gato-data" inspect data/control-reacher
echo "small demo: all fine"
