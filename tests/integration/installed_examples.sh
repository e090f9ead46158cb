#!/usr/bin/env bash
# The installed package serves programs outside the source tree, also after it was moved: the examples are built and run.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $1" >&2; exit 1; }
cmake --install "$GATO_BUILD" --prefix "$work/first" >/dev/null
mv "$work/first" "$work/moved"
if grep -rl "$GATO_SOURCE/" "$work/moved/lib/cmake" ; then fail "the package names its source tree"; fi
cmake -G Ninja -S "$GATO_SOURCE/docs/examples" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$work/moved" \
  -DGATO_DEPS_DIR="${GATO_DEPS_DIR:-$GATO_SOURCE/.deps}" >/dev/null
cmake --build "$work/build"
cd "$work"
for source in "$GATO_SOURCE"/docs/examples/*.cpp; do
  [ "$(wc -l < "$source")" -lt 80 ] || fail "$source is longer than 79 lines"
done
"$work/build/custom_environment" boat | tee boat.txt
score=$(awk '$1 == "example/boat" { print int($2) }' boat.txt)
[ "${score:-0}" -ge 50 ] || fail "the boat's agent scores $score"
"$work/moved/bin/gato-data" collect --suite demo --scale 0.03 --reference-episodes 4 --out data >/dev/null
"$work/moved/bin/gato-data" train-tokenizer --size 1024 --out tokenizer.model data
"$work/moved/bin/gato-data" tokenize --tokenizer tokenizer.model data
"$work/build/training_loop" data tokenizer.model 40 | tee loop.txt
awk '/^step/ { losses[++n] = $4 } END { exit !(n >= 3 && losses[n] < losses[1]) }' loop.txt || fail "the loss did not fall"
"$work/build/write_dataset" cart | tee cart.txt
grep -q "100 episodes, 5000 steps" cart.txt || fail "the data set written from C++ is another one"
"$work/moved/bin/gato-data" verify cart
echo "installed examples: all fine"
