#!/usr/bin/env bash
# gato-train under the real torchrun: two and four processes, restart after a killed worker, and fewer processes after.
set -uo pipefail
python="${GATO_DEPS_DIR:-$GATO_SOURCE/.deps}/oracle/bin/python"
[ -x "$python" ] || { echo "skipped: there is no torchrun; tools/setup --launchers installs it"; exit 77; }
source "$GATO_SOURCE/tests/integration/tiny_run.bash"
export TORCHRUN="$python -m torch.distributed.run" GATO_TRAIN="$bin/gato-train"
torchrun=("$GATO_SOURCE/tools/launch/torchrun.sh" --config tiny.yaml)

"$GATO_TRAIN" --config tiny.yaml run.dir=alone >alone.txt 2>&1 || { tail -5 alone.txt; fail "one process"; }
for processes in 2 4; do
  PROCESSES=$processes "${torchrun[@]}" run.dir="of-$processes" >"of-$processes.txt" 2>&1 ||
    { tail -20 "of-$processes.txt"; fail "$processes processes"; }
  grep -q "launcher=torchrun rank 0/$processes local 0/$processes node 0/1 restart 0" "of-$processes.txt" ||
    { tail -20 "of-$processes.txt"; fail "the verdict is not printed"; }
  same_loss alone "of-$processes"
done

# A worker that is killed makes torchrun start all of them again; the run goes on by itself.
PROCESSES=2 RESTARTS=1 GATO_FAULTS="step=30,rank=1,kind=kill,attempt=1" "${torchrun[@]}" run.dir=restarted \
  >restarted.txt 2>&1 || { tail -20 restarted.txt; fail "the restarted run"; }
grep -q 'restart 1' restarted.txt || { tail -20 restarted.txt; fail "torchrun did not restart"; }
grep -q 'goes on from .*step-00000020' restarted.txt || { tail -20 restarted.txt; fail "it did not go on from step 20"; }
cmp of-2/checkpoints/step-00000060/model.safetensors restarted/checkpoints/step-00000060/model.safetensors ||
  fail "the restarted run ends elsewhere"

# With more processes than before: same rows, same loss.
PROCESSES=2 GATO_FAULTS="step=30,rank=0,kind=term" "${torchrun[@]}" run.dir=grown >grown.txt 2>&1
ls grown/checkpoints/step-00000030/MANIFEST.json >/dev/null || { tail -20 grown.txt; fail "a stop saved nothing"; }
PROCESSES=3 "${torchrun[@]}" run.dir=grown >grown.txt 2>&1 || { tail -20 grown.txt; fail "three instead of two"; }
same_loss alone grown

# The cause of a failure reaches torchrun's own summary.
PROCESSES=2 RESTARTS=0 GATO_FAULTS="step=5,rank=1,kind=error" "${torchrun[@]}" run.dir=broken >broken.txt 2>&1 &&
  fail "a failure ended with 0"
grep -q 'a fault was asked for at step 5' broken.txt || { tail -40 broken.txt; fail "torchrun does not tell the cause"; }
echo "torchrun: all fine"
