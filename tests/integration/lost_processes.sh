#!/usr/bin/env bash
# Three processes, of which one fails in every way: the others end with the right code and name it, or nothing happens.
set -uo pipefail
source "$GATO_SOURCE/tests/integration/tiny_run.bash"
size=3

# begin RUN SETTINGS...: starts all processes; output in RUN-RANK.txt, process ids in $pids
begin() {
  local run=$1 rank port
  shift
  port=$(free_port)
  pids=()
  for rank in $(seq 0 $((size - 1))); do
    RANK=$rank WORLD_SIZE=$size LOCAL_RANK=$rank LOCAL_WORLD_SIZE=$size MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
      TORCHELASTIC_ERROR_FILE="$work/$run-$rank.error" "$bin/gato-train" --config tiny.yaml run.dir="$run" \
      comm.timeout_seconds=4 "$@" >"$run-$rank.txt" 2>&1 &
    pids+=($!)
  done
  started+=("${pids[@]}")
}
# end RUN CODE...: waits for all; the exit codes must be these
end() {
  local run=$1 rank code
  shift
  for rank in $(seq 0 $((size - 1))); do
    wait "${pids[$rank]}"
    code=$?
    [ "$code" = "$1" ] || { tail -n 30 "$run"-*.txt; fail "$run: rank $rank ended with $code instead of $1"; }
    shift
  done
}
# says RUN RANK TEXT: what a rank logged
says() { grep -q -- "$3" "$1/logs/rank-$2.log" || { tail -n 30 "$1-$2.txt"; fail "$1: rank $2 does not say '$3'"; }; }

begin whole train.check_replicas_every=7
end whole 0 0 0

GATO_FAULTS="step=12,rank=1,kind=kill" begin killed
end killed 76 137 76
for rank in 0 2; do
  says killed $rank 'at step 12 .*rank 1 (.*died without a word'
  says killed $rank 'all threads:'
  grep -q 'rank 1 (' "killed-$rank.error" || fail "no cause for the launcher"
done

GATO_FAULTS="step=12,rank=2,kind=error" begin broken
end broken 76 76 1
for rank in 0 1; do says broken $rank 'rank 2 (.*failed: a fault was asked for at step 12'; done

GATO_FAULTS="step=12,rank=0,kind=stop" begin stopped
wait "${pids[1]}"; one=$?
wait "${pids[2]}"; two=$?
kill -KILL "${pids[0]}"
[ "$one $two" = "76 76" ] || { tail -n 30 stopped-*.txt; fail "stopped: exit codes $one and $two"; }
for rank in 1 2; do says stopped $rank 'rank 0 (.*is stopped'; done

# Whatever was lost, the same command goes on, to the same bits.
for run in killed broken stopped; do
  begin "$run" train.check_replicas_every=7
  end "$run" 0 0 0
  cmp whole/checkpoints/step-00000060/model.safetensors "$run/checkpoints/step-00000060/model.safetensors" ||
    fail "$run ends elsewhere"
done

# A loss that is not finite on one process changes nothing on any.
GATO_FAULTS="step=12,rank=1,kind=nan" begin refused train.check_replicas_every=1
end refused 0 0 0
[ "$(awk -F, '$2 == 12 { print $NF }' refused/steps.csv)" = 1 ] || { grep -n ',12,' refused/steps.csv; fail "step 12 was not refused"; }
[ "$(awk -F, 'NR > 1 && $NF == 1' refused/steps.csv | wc -l)" = 1 ] || fail "other steps were refused too"

# A bit that flips in one process's memory is found, and that process named, before a checkpoint holds it.
GATO_FAULTS="step=25,rank=1,kind=flip" begin flipped
end flipped 77 77 77
for rank in 0 1 2; do says flipped $rank 'the parameters of rank 1 differ from all others'; done
ls flipped/checkpoints/step-00000040 2>/dev/null && fail "a checkpoint was written of different parameters"

# Asked of one process, all stop at the same step and save.
begin asked train.steps=100000 train.checkpoint_every=100000
wait_for_text asked-0.txt 'step 20/' 60
kill -TERM "${pids[2]}"
seconds=$SECONDS
end asked 75 75 75
[ $((SECONDS - seconds)) -le 25 ] || fail "stopping took $((SECONDS - seconds)) s"
ls asked/checkpoints/step-*/MANIFEST.json >/dev/null || fail "a stop saved nothing"

# Of two runs in one folder the second refuses and names the first.
begin twice train.steps=100000
wait_for_text twice-0.txt 'step 20/' 60
first=("${pids[@]}")
begin twice train.steps=100000 2>/dev/null
wait "${pids[0]}"
code=$?
grep -q "process ${first[0]}" twice-0.txt || { tail -n 5 twice-0.txt; fail "the holder of the run folder is not named"; }
[ "$code" = 2 ] || fail "a second trainer ended with $code"
wait "${pids[1]}" "${pids[2]}"
kill -0 "${first[0]}" || fail "the first trainer was disturbed"
kill -TERM "${first[0]}"
pids=("${first[@]}")
end twice 75 75 75

# The same step failing three times is the end, and nobody starts it again by accident.
for code in 76 76 93; do
  GATO_FAULTS="step=5,rank=1,kind=error" begin again
  end again "$code" 1 76
done
begin again
end again 93 76 76
grep -q 'failed at step 5' again-0.txt || { tail -n 5 again-0.txt; fail "the step that fails is not named"; }
echo "lost processes: all fine"
