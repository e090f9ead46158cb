#!/usr/bin/env bash
# Minari data sets, written by the official library in each storage and both shapes of stored pictures, imported and
# compared value by value with what that library reads.
set -euo pipefail
bin="$GATO_BUILD/bin"
export GATO_ROOT="$GATO_SOURCE" GATO_PROGRESS=off GATO_DEPS_DIR="${GATO_DEPS_DIR:-$GATO_SOURCE/.deps}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAILED: $1" >&2; exit 1; }

# Without the environment: one clear sentence.
if GATO_DEPS_DIR="$work/none" "$bin/gato-data" import minari x --out x 2>none.txt; then fail "there was no library"; fi
grep -q "tools/setup --import" none.txt || fail "the missing library is not explained: $(cat none.txt)"
python="$GATO_DEPS_DIR/import/bin/python"
if [ ! -x "$python" ]; then
  echo "the rest is left out: tools/setup --import was not run"
  exit 77
fi

export MINARI_DATASETS_PATH="$work/minari" PYTHONWARNINGS=ignore
check="$GATO_SOURCE/tests/integration/import_minari.py"
"$python" "$check" make >/dev/null
for id in tiny/{hdf5,arrow,parquet}-{mixed,same}-v0 tiny/lossless-v0; do
  out=${id//\//-}
  "$bin/gato-data" import minari "$id" --out "$out" --success-key success >"$out.txt"
  "$python" "$check" check "$id" "$out"/*.gato | tee "$out.check"
  grep -q "success \[False, False, False, True\]" "$out.check" || fail "$id: success of the last step is another"
done
grep -q "observations/camera: Box uint8\[40, 36, 3\] -> image observation .camera., jpeg as stored" tiny-hdf5-same-v0.txt ||
  fail "the mapping does not show the camera"
grep -q "expert 7.0" tiny-arrow-mixed-v0.check || fail "the reference score is missing"

# By folder, kept as Minari 0.4 did; by another rule for success; without fields.
"$python" "$check" make-old "$work/old"
"$bin/gato-data" import minari "$work/old" --out old --success-key success --success-when any >/dev/null
"$python" "$check" check tiny/hdf5-mixed-v0 old/*.gato | grep -q "success \[False, False, True, True\]" || fail "an older set"
"$bin/gato-data" import minari tiny/hdf5-same-v0 --out less --ignore observations/camera --ignore observations/bits \
  --task mine/less --limit 2 | tee less.txt
grep -q "observations/bits: not used (--ignore)" less.txt || fail "what was ignored is not told"

# Raw pixels stay lossless also where no metadata say that they are raw, as before Minari knew JPEG.
cp -r minari/tiny/lossless-v0 raw
"$python" - <<'PYTHON'
import json
with open("raw/data/metadata.json") as file:
    metadata = json.load(file)
assert metadata.pop("jpeg_encoding") is False
with open("raw/data/metadata.json", "w") as file:
    json.dump(metadata, file)
PYTHON
"$bin/gato-data" import minari "$work/raw" --out raw-out --success-key success >/dev/null
"$python" "$check" check tiny/lossless-v0 raw-out/*.gato >/dev/null || fail "raw pixels became others"

# What the source does not say is asked for, and every failure of the program is ours too.
expect() {
  local message=$1
  shift
  if "$bin/gato-data" import minari "$@" >out.txt 2>&1; then fail "accepted: $*"; fi
  grep -q -e "$message" out.txt || fail "expected '$message', found: $(cat out.txt)"
}
expect "--bounds actions=LOW:HIGH" tiny/bare-v0 --out bare
expect "no such field" tiny/bare-v0 --out bare --bounds actions=-1:1 --bounds action=-1:1
"$bin/gato-data" import minari tiny/bare-v0 --out bare --bounds actions=-5:5 >/dev/null
expect "minari download tiny/none-v0" tiny/none-v0 --out none
expect "no infos/won" tiny/bare-v0 --out won --bounds actions=-5:5 --success-key won
truncate -s 3000 minari/tiny/lossless-v0/data/main_data.hdf5
expect "minari_to_stream" tiny/lossless-v0 --out damaged
echo "Minari: all fine"
