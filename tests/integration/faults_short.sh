#!/usr/bin/env bash
# The campaigns of tools/faults/processes.py in small.
set -uo pipefail
run() { "$GATO_SOURCE/tools/faults/processes.py" "$@" --bin "$GATO_BUILD/bin" || exit 1; }
run kill --trials 4
run term --trials 2
run resume --trials 2
run calls --trials 8
run term --trials 3 --processes 2 --seed 2
run kill --trials 3 --processes 2 --seed 2
run stop --trials 1 --setting comm.timeout_seconds=4
echo "campaigns: all fine"
