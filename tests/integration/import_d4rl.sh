#!/usr/bin/env bash
# A file in the layout of D4RL, written by h5py, imported and compared value by value.
set -euo pipefail
bin="$GATO_BUILD/bin"
export GATO_ROOT="$GATO_SOURCE" GATO_PROGRESS=off GATO_DEPS_DIR="${GATO_DEPS_DIR:-$GATO_SOURCE/.deps}"
python="$GATO_DEPS_DIR/import/bin/python"
if [ ! -x "$python" ]; then
  echo "left out: tools/setup --import was not run"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAILED: $1" >&2; exit 1; }
check="$GATO_SOURCE/tests/integration/import_d4rl.py"
"$python" "$check" make halfcheetah.hdf5
if "$bin/gato-data" import d4rl halfcheetah.hdf5 --out out 2>asked.txt; then fail "bounds were guessed"; fi
grep -q -e "--bounds actions=LOW:HIGH" asked.txt || fail "bounds are not asked for: $(cat asked.txt)"
"$bin/gato-data" import d4rl halfcheetah.hdf5 --out out --bounds actions=-1:1 --max-steps 8 | tee out.txt
"$python" "$check" check halfcheetah.hdf5 out/*.gato
grep -q "the last 4 rows: an episode cut by the end of the file" out.txt || fail "the cut episode is not told"
grep -q "infos: not used" out.txt || fail "infos are not told"
truncate -s 2000 halfcheetah.hdf5
if "$bin/gato-data" import d4rl halfcheetah.hdf5 --out cut --bounds actions=-1:1 2>cut.txt; then fail "a damaged file"; fi
grep -q "d4rl_to_stream" cut.txt || fail "no reason: $(cat cut.txt)"
"$python" -c 'import h5py; h5py.File("other.hdf5", "w")["x"] = [1]'
if "$bin/gato-data" import d4rl other.hdf5 --out other 2>other.txt; then fail "another file"; fi
grep -q "no D4RL data set" other.txt || fail "no reason: $(cat other.txt)"
echo "D4RL: all fine"
