#!/usr/bin/env bash
# The examples of docs/importing.md for text and WebDataset, word for word, on files that Python's gzip, Debian's zstd
# and the webdataset package wrote (tools/fixtures/); then interruption, damage, filter and wrong arguments.
set -euo pipefail

bin="$GATO_BUILD/bin"
fixtures="$GATO_SOURCE/tests/episode/fixtures/import"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export PATH="$bin:$PATH" GATO_PROGRESS=off

# expect CODE TEXT COMMAND...: the command must exit with CODE and say TEXT.
expect() {
  local code=$1 text=$2 actual=0
  shift 2
  "$@" >output.txt 2>&1 || actual=$?
  if [[ $actual != "$code" ]] || ! grep -qF -- "$text" output.txt; then
    echo "FAILED: $* gave $actual, expected $code and '$text':"
    cat output.txt
    exit 1
  fi
}

cp -r "$fixtures/text/books" "$fixtures"/text/documents.* "$fixtures"/webdataset/*.tar .
mkdir -p configs && cp -r "$GATO_SOURCE/configs/filters" configs/

# ---- every example of the page
examples=0
while IFS= read -r line; do  # One after the other, as a reader would: none may be in another's way.
  read -ra command <<<"$line"
  expect 0 'every shard was read back and checked' "${command[@]}"
  expect 0 '0 damaged' gato-data verify data/*
  expect 0 'licence' gato-data inspect data/*
  examples=$((examples + 1))
done < <(grep -E '^gato-data import (text|webdataset) ' "$GATO_SOURCE/docs/importing.md")
[[ $examples -ge 6 ]] || { echo "FAILED: only $examples examples found"; exit 1; }

# ---- what they give
expect 0 'episodes    3' gato-data import text books/story.txt --out story --name text/story --split paragraphs
expect 0 'has two lines.' gato-data inspect story
expect 0 'was complete already' gato-data import text books/story.txt --out story --name text/story --split paragraphs
expect 0 "no key 'text'" gato-data import text documents.jsonl.zst --out zst --name text/zst
expect 0 'picture is WebP' gato-data import webdataset captions.tar --out captions --name pictures/captions
expect 0 'nothing was written' gato-data import webdataset captions.tar --name pictures/x --dry-run
[[ ! -e x ]]

# ---- an import that is interrupted goes on with the same shards
python3 - <<'PY'
import json
with open("long.jsonl", "w") as out:
    for i in range(60000):
        out.write(json.dumps({"text": f"document {i} " + "word " * 100}) + "\n")
PY
import_long=(gato-data import text long.jsonl --name text/long --shard-mib 1 --out)
"${import_long[@]}" whole >whole.txt
interrupted=0
for attempt in $(seq 1 30); do
  rc=0
  "${import_long[@]}" parts >parts.txt 2>&1 &
  pid=$!
  sleep "0.$((attempt + 20))"
  kill -TERM $pid 2>/dev/null || true
  wait $pid || rc=$?
  [[ $rc == 0 ]] && break
  [[ $rc == 75 || $rc == 143 ]] || { echo "FAILED: interrupted import gave $rc"; cat parts.txt; exit 1; }
  interrupted=$((interrupted + 1))
done
"${import_long[@]}" parts >parts.txt
echo "interrupted $interrupted times"
for shard in whole/*.gato; do cmp "$shard" "parts/$(basename "$shard")"; done
[[ $(ls whole | wc -l) == $(ls parts | wc -l) ]]

# ---- kills at random times lose nothing that was committed
for attempt in 1 2 3 4 5; do
  "${import_long[@]}" killed >/dev/null 2>&1 &
  pid=$!
  sleep "0.$((RANDOM % 50 + 10))"
  kill -KILL $pid 2>/dev/null || true
  wait $pid 2>/dev/null || true
done
"${import_long[@]}" killed >/dev/null
for shard in whole/*.gato; do cmp "$shard" "killed/$(basename "$shard")"; done

# ---- damage and wrong arguments
printf '{"text": "good"}\n{"text": bad}\n' >damaged.jsonl
expect 1 'damaged.jsonl, line 2 at byte 17' gato-data import text damaged.jsonl --out damaged --name text/damaged
expect 0 'damaged record' gato-data import text damaged.jsonl --out damaged --name text/damaged --drop-damaged
head -c 9000 captions.tar >cut.tar
expect 1 'cut.tar' gato-data import webdataset cut.tar --out cut --name pictures/cut --drop-damaged
expect 2 'another import' gato-data import text books --out story --name text/story
expect 2 'another import' gato-data import text books/story.txt --out story --name text/story --split lines
expect 2 '--name' gato-data import text books --out new
expect 2 '--out' gato-data import text books --name text/new
expect 2 'no such file' gato-data import text nowhere --out new --name text/new
expect 2 '--resize' gato-data import webdataset captions.tar --out new --name pictures/new --resize large
expect 2 "letters, digits" gato-data import text books --out new --name 'with blanks'
echo "all examples and checks passed"
