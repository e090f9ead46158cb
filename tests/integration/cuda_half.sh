#!/usr/bin/env bash
# What a machine without a GPU can say of the CUDA half: programs start, and tell why there is no GPU.
set -euo pipefail
bin="$GATO_BUILD/bin"
if [ ! -e "$bin/libgato_cuda.so" ]; then
  echo "left out: this build has no CUDA half (GATO_CUDA=OFF)"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $1" >&2; exit 1; }
cd "$work"
export CUDA_VISIBLE_DEVICES=   # also where there is one

# Where NVIDIA's libraries are: beside LibTorch (tools/setup --cuda), or in an installed toolkit.
toolkit=$(ls -d /usr/local/cuda/lib64 2>/dev/null || true)
code=0
LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}${toolkit:+:$toolkit}" "$bin/gato-train" devices >devices.txt 2>&1 || code=$?
cat devices.txt
[ "$code" = 0 ] || fail "gato-train devices ended with exit code $code"
grep -q '^cpu' devices.txt || fail "the CPU is not listed"
grep -Eq 'no CUDA device was found|does not load' devices.txt || fail "it is not said why there is no GPU"

code=0
LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}${toolkit:+:$toolkit}" "$bin/gato-train" --config "$GATO_SOURCE/configs/demo.yaml" \
  train.device=cuda run.dir=run >train.txt 2>&1 || code=$?
[ "$code" = 1 ] || { cat train.txt; fail "a GPU that is not there ended with exit code $code"; }
grep -Eq 'no CUDA device was found|does not load' train.txt || { cat train.txt; fail "no reason is given"; }
[ ! -e run ] || fail "a run was begun"
GATO_CUDA_LIBRARY="$work/none.so" "$bin/gato-train" devices | grep -q 'this build has no CUDA half' || fail "a missing library is not named"
echo "CUDA half: all fine"
