#!/usr/bin/env bash
# gato-train with a worker beside it, workers that are killed, and the verbs of the queue, on a tiny run.
set -uo pipefail
source "$GATO_SOURCE/tests/integration/tiny_run.bash"

expect() { # code, text, command...
  local code=0
  "${@:3}" >out.txt 2>&1 || code=$?
  [ "$code" = "$1" ] || { cat out.txt; fail "exit code $code instead of $1: ${*:3}"; }
  grep -q -- "$2" out.txt || { cat out.txt; fail "no '$2' from: ${*:3}"; }
}
results() { ls run/eval/results/step-"$1"@"$2"/*.shard-*.json | wc -l; }

settings=(--config tiny.yaml run.dir=run eval.suites=[suite.yaml] eval.every=20 eval.rollouts=6 eval.rollouts_per_job=2)
"$bin/gato-train" "${settings[@]}" eval.workers=1 >train.txt 2>&1 || { tail -20 train.txt; fail "training beside a worker"; }
grep -q 'waits for the evaluation' train.txt || fail "gato-train did not wait for its worker"
for step in 00000020 00000040 00000060; do
  [ "$(results $step tiny)" = 3 ] || { cat run/logs/eval-worker-0.log; fail "not three results of step $step"; }
done
[ "$(wc -l <run/scores.jsonl)" = 3 ] || fail "not one line of scores for each checkpoint"
[ -s run/eval/results/step-00000060@tiny/summary.json ] || fail "no table"
ls run/eval/queue/workers/*.json 2>/dev/null && fail "a worker left its file"
expect 0 'step-00000060@tiny: 3 done' "$bin/gato-eval" status --run run

# What is refused does not touch the run: neither its plan nor its workers.
cp run/eval/plan.json plan.json
expect 2 '.' "$bin/gato-train" "${settings[@]}" eval.workers=1 eval.rollouts=99 model.layers=3
cmp -s plan.json run/eval/plan.json || fail "a refused configuration changed the plan"
grep -q 'starts 1 evaluation' out.txt && fail "a refused configuration started a worker"

# Two workers at once give the same rollouts as one did.
sed 's/^name: .*/name: twice/' suite.yaml >twice.yaml
expect 0 '3 jobs queued' "$bin/gato-eval" enqueue --run run --suite twice.yaml --step 60 --rollouts 6 --rollouts-per-job 2
for k in 1 2; do
  "$bin/gato-eval" --run run --watch --drain --device cpu --threads 1 >"twice$k.txt" 2>&1 & workers[k]=$!
  started+=("${workers[k]}")
done
for k in 1 2; do wait "${workers[k]}" || { cat "twice$k.txt"; fail "worker $k of two"; }; done
python3 - <<'PYTHON' || fail "two workers gave other rollouts than one"
import glob, json
for name in sorted(glob.glob("run/eval/results/step-00000060@tiny/*.shard-*.json")):
    one, two = (json.load(open(path)) for path in (name, name.replace("@tiny", "@twice")))
    assert one["rollouts"] == two["rollouts"] and one["rollouts"], name
PYTHON

# A worker is killed in the middle; another does the rest.
expect 0 '10 jobs queued' "$bin/gato-eval" enqueue --run run --suite suite.yaml --step 60 --rollouts 20 --rollouts-per-job 2 --prompt demonstration
"$bin/gato-eval" --run run --watch --drain --device cpu --threads 1 >killed.txt 2>&1 & pid=$!
started+=("$pid")
wait_for_text killed.txt 'shard 2/10' 60
kill -KILL "$pid"
"$bin/gato-eval" --run run --watch --drain --device cpu --threads 1 >rest.txt 2>&1 || { cat rest.txt; fail "the second worker"; }
[ "$(results 00000060 tiny-prompted)" = 10 ] || fail "not ten results after a kill"
expect 0 'step-00000060@tiny-prompted: 10 done' "$bin/gato-eval" status --run run

# A stop signal gives the job back.
expect 0 'jobs queued' "$bin/gato-eval" enqueue --run run --suite suite.yaml --step 40 --rollouts 400 --rollouts-per-job 0 --weights bf16
"$bin/gato-eval" --run run --watch --max-jobs 5 --device cpu --threads 1 >stopped.txt 2>&1 & pid=$!
started+=("$pid")
for _ in $(seq 100); do "$bin/gato-eval" status --run run | grep -q '1 running' && break; sleep 0.1; done
kill -TERM "$pid"; wait "$pid"; code=$?
[ "$code" = 75 ] || { cat stopped.txt; fail "a stopped worker ended with $code"; }
expect 0 'tiny-bf16: 1 pending' "$bin/gato-eval" status --run run
expect 0 '1 job cancelled' "$bin/gato-eval" cancel --run run --suite tiny-bf16
expect 1 '0 jobs cancelled' "$bin/gato-eval" cancel --run run --suite tiny-bf16
expect 0 'tiny-bf16: 1 cancelled' "$bin/gato-eval" status --run run
expect 0 '1 job to be tried anew' "$bin/gato-eval" retry --run run --suite tiny-bf16
expect 0 '1 job cancelled' "$bin/gato-eval" cancel --run run --job 0

# Replayed and compared.
expect 0 'all 2 rollouts are as recorded' "$bin/gato-eval" replay run/eval/results/step-00000060@tiny/control-point_mass.shard-1.json --device cpu
ls ./*.gif >/dev/null || fail "no animation"
expect 0 'probability that B is better' "$bin/gato-eval" compare run/eval/results/step-00000020@tiny run/eval/results/step-00000060@tiny
expect 0 'report/index.html' "$bin/gato-eval" report --run run
grep -q 'Score over training' run/report/index.html || fail "no curve of scores"

# What is wrong is said.
expect 2 'no checkpoint of step 7' "$bin/gato-eval" enqueue --run run --suite suite.yaml --step 7
expect 2 'is no folder' "$bin/gato-eval" --run nowhere --watch
expect 2 'eval.prompt' "$bin/gato-train" "${settings[@]}" eval.prompt=always
echo "evaluation workers: all fine"
