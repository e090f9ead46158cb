#!/usr/bin/env bash
# gato-ckpt on a trained run, and its exports beside the reference safetensors library, both ways.
set -euo pipefail
bin="$GATO_BUILD/bin"
export GATO_ROOT="$GATO_SOURCE"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAILED: $1" >&2; exit 1; }
expect() { # code, text, command...
  local code=0
  "${@:3}" >out.txt 2>&1 || code=$?
  [ "$code" = "$1" ] || { cat out.txt; fail "exit code $code instead of $1: ${*:3}"; }
  grep -q -- "$2" out.txt || { cat out.txt; fail "no '$2' from: ${*:3}"; }
}

"$bin/gato-data" collect --suite demo --scale 0.01 --reference-episodes 4 --out data >/dev/null
cat >tiny.yaml <<'YAML'
data: {datasets: [data/control-pendulum_swingup], row_tokens: 64, validation_share: 0.2}
tokenizer: {private_discrete: true}
model: {layers: 2, width: 16, heads: 2, head_dim: 8, hidden: 32, patch_channels: 2, stochastic_depth: 0}
optimizer: {learning_rate: 0.001, warmup_steps: 1}
train: {steps: 20, batch_rows: 2, micro_batch_rows: 2, log_every: 5, validate_every: 5, validation_rows: 2, checkpoint_every: 5,
  keep_checkpoints: 10, threads: 1, demonstration_steps: 4}
YAML
train() { "$bin/gato-train" --config tiny.yaml "$@"; }
train run.dir=run >/dev/null 2>train.txt || { cat train.txt; fail "training"; }
grep -q 'training waited' train.txt || fail "a save does not say how long training waited"
grep -q '"checkpoint/stall_seconds"' run/metrics.jsonl || fail "the stall is not in the metrics"

expect 0 '4 checkpoints' "$bin/gato-ckpt" list run
expect 0 'step-00000020.*latest' "$bin/gato-ckpt" list run/checkpoints
expect 0 '4 read, 0 damaged' "$bin/gato-ckpt" verify run
expect 0 'no difference' "$bin/gato-ckpt" diff --moments run/checkpoints/latest run
expect 1 'step: 15 -> 20' "$bin/gato-ckpt" diff run/checkpoints/step-00000015 run/checkpoints/step-00000020

# What is kept: pinned, best by a metric.
expect 0 'pinned' "$bin/gato-ckpt" pin run/checkpoints/step-00000005
expect 0 'step-00000005 *stays: pinned' "$bin/gato-ckpt" prune run --dry-run --keep-last 2
expect 0 '1 would be deleted' "$bin/gato-ckpt" prune run --dry-run --keep-last 2
expect 0 'stays: best score' "$bin/gato-ckpt" prune run --dry-run --keep-last 2 --keep-best 3 --best-by validation/loss
expect 0 '1 deleted' "$bin/gato-ckpt" prune run --keep-last 2
[ ! -e run/checkpoints/step-00000010 ] && [ -e run/checkpoints/step-00000005 ] || fail "the wrong one was deleted"
expect 0 'no longer pinned' "$bin/gato-ckpt" pin --remove run/checkpoints/step-00000005
expect 2 'no such checkpoint' "$bin/gato-ckpt" pin run/checkpoints/step-00000010

# Exports: what they hold is what was trained; weights come back from them.
expect 0 'is exported' "$bin/gato-ckpt" export run --out one
expect 0 'index.json' "$bin/gato-ckpt" export run --out some --max-file-gib 0.00005
expect 0 'no difference' "$bin/gato-ckpt" diff one some
expect 0 'no difference' "$bin/gato-ckpt" diff run one
expect 2 'something already' "$bin/gato-ckpt" export run --out one
for from in run one some; do
  train run.dir="from_$from" train.init_from="$from" train.steps=1 train.checkpoint_every=1 optimizer.learning_rate=0 >/dev/null 2>log.txt || { cat log.txt; fail "init_from $from"; }
  grep -q 'parameters are from' log.txt || fail "init_from $from is not told"
  expect 0 'no difference' "$bin/gato-ckpt" diff "from_$from/checkpoints/latest/model.safetensors" run/checkpoints/latest/model.safetensors
done
expect 1 'does not fit the model' train run.dir=other train.init_from=one model.layers=3
train run.dir=other train.init_from=one train.init_strict=false model.layers=3 train.steps=1 >/dev/null 2>log.txt || { cat log.txt; fail "init_strict=false"; }
grep -q 'missing: blocks.2' log.txt || fail "what an export lacks is not listed"

# A setting that may not change is named with both values; a damaged checkpoint is set aside and the older one taken.
expect 2 'model.layers: 2 -> 3' train run.dir=run model.layers=3
printf 'x' | dd of=run/checkpoints/step-00000020/model.safetensors bs=1 seek=5000 conv=notrunc status=none
expect 1 'model.safetensors at offset 0' "$bin/gato-ckpt" verify run
expect 1 'is not a valid checkpoint' "$bin/gato-ckpt" export run/checkpoints/step-00000020 --out three
train run.dir=run >/dev/null 2>log.txt || { cat log.txt; fail "going on from an older checkpoint"; }
grep -q 'step-00000020.damaged-1' log.txt || { cat log.txt; fail "the damaged checkpoint is not told"; }
expect 0 'step-00000020.damaged-1 .*set aside' "$bin/gato-ckpt" list run
expect 0 'no difference' "$bin/gato-ckpt" diff run one

readers="${GATO_DEPS_DIR:-$GATO_SOURCE/.deps}/readers/bin/python"
if [ -x "$readers" ]; then
  "$readers" "$GATO_SOURCE/tests/integration/read_export.py" one some theirs
  for theirs in theirs theirs/model.safetensors; do expect 0 'no difference' "$bin/gato-ckpt" diff one "$theirs"; done
  train run.dir=from_theirs train.init_from=theirs train.steps=1 optimizer.learning_rate=0 >/dev/null 2>log.txt || { cat log.txt; fail "init_from their file"; }
else
  echo "not compared with the reference safetensors library: tools/setup --readers was not run"
fi
echo "checkpoint tools: all fine"
