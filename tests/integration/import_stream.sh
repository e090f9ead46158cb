#!/usr/bin/env bash
# Data of any program, by streams and tables: the examples of docs/importing.md, a writer that is killed, a stop signal.
set -euo pipefail
bin="$GATO_BUILD/bin"
export GATO_ROOT="$GATO_SOURCE" GATO_PROGRESS=off
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAILED: $1" >&2; exit 1; }
example="$GATO_SOURCE/docs/examples/import_stream.py"

# The example in Python, through a pipe and from a file; the same shards.
python3 "$example" | "$bin/gato-data" import stream - --out piped | tee piped.txt
grep -q "episodes    16" piped.txt || fail "not 16 episodes"
grep -q "no caption .* 1  first: picture-256" piped.txt || fail "what the writer left out is not told"
"$bin/gato-data" verify piped
"$bin/gato-data" inspect piped | grep -q "teacher 10" || fail "inspect does not show the source agent"
python3 "$example" >example.stream
"$bin/gato-data" import stream example.stream --out filed >/dev/null
cmp piped/mine-all-00000.gato filed/mine-all-00000.gato || fail "a pipe and a file give different shards"
if command -v zstd >/dev/null; then
  zstd -q example.stream
  "$bin/gato-data" import stream example.stream.zst --out packed >/dev/null
  cmp piped/mine-all-00000.gato packed/mine-all-00000.gato || fail "a compressed stream gives different shards"
fi

# A stream that stops early, in a frame or between two, is an error, and leaves no data set that looks whole.
for size in 1000 2500 5600; do
  if head -c "$size" example.stream | "$bin/gato-data" import stream - --out cut >cut.txt 2>&1; then
    fail "a stream of $size bytes was taken for a whole one"
  fi
  grep -q "stopped early" cut.txt || fail "no reason was given: $(cat cut.txt)"
done

# A writer that is silent does not keep a stop signal waiting; the same command then goes on.
mkfifo silent
(head -c 3000 example.stream; sleep 10) >silent &
writer=$!
status=0
timeout --preserve-status -s TERM 2 "$bin/gato-data" import stream - --out stopped <silent >/dev/null 2>stopped.txt || status=$?
[ "$status" -eq 75 ] || fail "a stopped import ended with $status: $(cat stopped.txt)"
kill "$writer" 2>/dev/null || true
"$bin/gato-data" import stream - --out stopped <example.stream >/dev/null
"$bin/gato-data" verify stopped

# The same id twice is damage.
cat >twice.py <<'PYTHON'
import sys
from gato_stream import StreamWriter, task, text
with StreamWriter(sys.stdout.buffer, "mine/texts", [task("mine/texts", [], [text("text")], scoring="loss")]) as out:
    for word in ("one", "two"):
        out.episode(id="a", observation={}, action={"text": [word]})
PYTHON
PYTHONPATH="$GATO_SOURCE/tools/import" python3 twice.py >twice.stream
if "$bin/gato-data" import stream twice.stream --out twice 2>twice.txt; then fail "an id occurred twice"; fi
grep -q "'a'" twice.txt || fail "the id that occurs twice is not named: $(cat twice.txt)"
"$bin/gato-data" import stream twice.stream --out once --drop-damaged | grep -q "episodes    1" || fail "not one episode left"

# The table of docs/importing.md.
tables="$GATO_SOURCE/tests/episode/fixtures/import/csv"
"$bin/gato-data" import csv "$tables/steps.csv" --mapping "$tables/steps.yaml" --out csv | tee csv.txt
grep -q "episodes    6" csv.txt || fail "not 6 episodes in the table"
grep -q "t: not used" csv.txt || fail "the column without use is not told"
"$bin/gato-data" inspect csv | grep -q "success" || fail "no success in the table"
python3 "$GATO_SOURCE/tools/fixtures/make_csv.py" again
cmp again/steps.csv "$tables/steps.csv" || fail "the generator writes another table"
echo "streams and tables: all fine"
