#!/usr/bin/env bash
# gato-train under the real mpirun of Open MPI, two processes on this host, which needs no address.
set -uo pipefail
command -v mpirun >/dev/null || { echo "skipped: there is no mpirun; tools/setup --launchers installs it"; exit 77; }
source "$GATO_SOURCE/tests/integration/tiny_run.bash"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpirun=(mpirun --oversubscribe --mca odls_base_sigkill_timeout 20 "$bin/gato-train" --config tiny.yaml)
"$bin/gato-train" --config tiny.yaml run.dir=alone >alone.txt 2>&1 || fail "one process"
"${mpirun[@]:0:1}" -n 2 "${mpirun[@]:1}" run.dir=two >two.txt 2>&1 || { tail -20 two.txt; fail "two processes"; }
grep -q 'launcher=openmpi rank 0/2 local 0/2 node 0/1' two.txt || { head -20 two.txt; fail "the verdict is not printed"; }
same_loss alone two
echo "mpirun: all fine"
