# For scripts that start gato-train many times: a tiny data set and configuration in a folder of its own. To be sourced
# with $GATO_BUILD and $GATO_SOURCE set.
bin="$GATO_BUILD/bin"
export GATO_ROOT="$GATO_SOURCE" OMP_NUM_THREADS=1
work=$(mktemp -d)
started=()   # processes to end in any case
cleanup() {
  for pid in "${started[@]}"; do kill -KILL "$pid"; wait "$pid"; done 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
cd "$work" || exit 1
fail() { echo "FAILED: $1" >&2; exit 1; }
skip() { echo "skipped: $1"; exit 77; }

printf 'name: tiny\ntasks:\n  - {pattern: control/point_mass, episodes: 12}\n' > suite.yaml
"$bin/gato-data" collect --suite suite.yaml --reference-episodes 2 --out data >/dev/null || fail "no data"
cat > tiny.yaml <<'YAML'
data: {datasets: [data], row_tokens: 64, loader_threads: 1, prefetch_batches: 2}
model: {layers: 1, width: 32, heads: 2, head_dim: 16, hidden: 64, patch_channels: 8}
optimizer: {learning_rate: 0.003, warmup_steps: 5}
train: {steps: 60, batch_rows: 12, micro_batch_rows: 1, validation_rows: 4, log_every: 10, validate_every: 0, checkpoint_every: 20, threads: 1}
YAML
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# same_loss RUN RUN: whether the last losses agree within a tolerance for sums in another order.
same_loss() {
  local a b
  a=$(grep -o '"train/loss":[0-9.e-]*' "$1/metrics.jsonl" | tail -1 | cut -d: -f2)
  b=$(grep -o '"train/loss":[0-9.e-]*' "$2/metrics.jsonl" | tail -1 | cut -d: -f2)
  awk -v a="$a" -v b="$b" 'BEGIN { exit !(a > 0 && b > 0 && (a - b) ^ 2 <= (0.002 * a) ^ 2) }' ||
    fail "the loss of $2 is $b, that of $1 is $a"
}
# wait_for_text FILE PATTERN SECONDS
wait_for_text() {
  local _
  for _ in $(seq $((10 * $3))); do
    grep -q -- "$2" "$1" 2>/dev/null && return
    sleep 0.1
  done
  [ -e "$1" ] && tail -20 "$1" >&2
  fail "no '$2' in $1 after $3 s"
}
