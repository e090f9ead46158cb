#!/usr/bin/env bash
# The examples of docs/importing.md for RLDS data sets, word for word, on files that the package tfrecord wrote
# (tools/fixtures/make_tfds.py); then what must be asked for, damage and wrong arguments.
set -euo pipefail

bin="$GATO_BUILD/bin"
fixtures="$GATO_SOURCE/tests/episode/fixtures/import/tfds"
page="$GATO_SOURCE/docs/importing.md"
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

cp -r "$fixtures"/{robot_arm,odd_tensors} .
# The map file of the page: the YAML block that begins with `others`.
awk '/^```yaml$/ {inside = 1; next} /^```$/ {inside = 0; wanted = 0} inside && /^others:/ {wanted = 1} wanted' "$page" >arm.yaml
grep -q hand_camera arm.yaml
printf 'action: {low: [-5, -6], high: [5, 6]}\n' >arm_bounds.yaml
cat >odd.yaml <<'YAML'
fields:
  steps/observation/keys: ignore
  steps/observation/goal: {as: text}
  steps/observation/counts: {as: continuous}
YAML

# ---- every example of the page
examples=0
while IFS= read -r line; do
  rm -rf data
  read -ra command <<<"$line"
  expect 0 'every shard was read back and checked' "${command[@]}"
  expect 0 '0 damaged' gato-data verify data/*
  expect 0 'how the episode ended' "${command[@]}"  # Complete already: the mapping is printed all the same.
  examples=$((examples + 1))
done < <(grep -E '^gato-data import tfds ' "$page")
[[ $examples == 3 ]] || { echo "FAILED: $examples examples found"; exit 1; }

# ---- what they give
arm=(gato-data import tfds robot_arm --map arm.yaml --action-low -5 --action-high 5)
expect 0 'episodes    4' "${arm[@]}" --out arm
expect 0 'put the cup' gato-data inspect arm
expect 0 'CC0-1.0' gato-data inspect arm
expect 0 'episodes    1' "${arm[@]}" --out test --split test
expect 0 'episodes    5' "${arm[@]}" --out keep --last-step keep
expect 0 'nothing was written' "${arm[@]}" --dry-run
expect 2 'another import' "${arm[@]}" --out arm --last-step keep

# ---- nothing is guessed
expect 2 '--values mode=N' gato-data import tfds robot_arm --out new
expect 2 'arm: {low: -1, high: 1}' gato-data import tfds robot_arm --out new --values mode=5
expect 2 '--split can be train, test' "${arm[@]}" --out new --split validation
expect 2 'several data sets' gato-data import tfds . --out new
expect 2 'FIELD=N' gato-data import tfds robot_arm --out new --values mode
expect 2 '--compression' "${arm[@]}" --out new --compression zip
expect 2 'one folder at a time' gato-data import tfds robot_arm odd_tensors --out new

# ---- damage
cp -r robot_arm damaged
file=damaged/1.0.0/robot_arm-train.tfrecord-00001-of-00002
printf '\xff' | dd of="$file" bs=1 seek=300 conv=notrunc status=none
expect 1 'record 0 at byte 0: its checksum is wrong' gato-data import tfds damaged --map arm.yaml --action-low -5 --action-high 5 --out new
expect 0 'damaged record' gato-data import tfds damaged --map arm.yaml --action-low -5 --action-high 5 --out new --drop-damaged
rm "$file"
expect 1 'is missing' gato-data import tfds damaged --map arm.yaml --action-low -5 --action-high 5 --out new2
echo "all examples and checks passed"
