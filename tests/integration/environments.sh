#!/usr/bin/env bash
# Environments of Python packages: a sample of every family that is set up here keeps the contract of environments, is
# collected twice to the same files, and is listed; without a family's packages there is one clear sentence.
set -euo pipefail
bin="$GATO_BUILD/bin"
export GATO_ROOT="$GATO_SOURCE" GATO_PROGRESS=off GATO_DEPS_DIR="${GATO_DEPS_DIR:-$GATO_SOURCE/.deps}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAILED: $1" >&2; exit 1; }

declare -A samples=(
  [metaworld]="metaworld/button-press-v3"
  [minigrid]="babyai/GoToLocal-v0 minigrid/DoorKey-5x5-v0"
  [gymnasium]="gymnasium/CartPole-v1 gymnasium/InvertedPendulum-v5"
  [dm_control]="dm_control/pendulum-swingup"
)

"$bin/gato-data" environments | tee families.txt
checked=0
for family in metaworld minigrid gymnasium dm_control; do
  grep -q "^$family " families.txt || fail "$family is not listed"
  if GATO_DEPS_DIR="$work/none" "$bin/gato-data" environments "$family" --check 2>none.txt; then fail "$family was not missing"; fi
  grep -q "tools/setup --envs $family" none.txt || fail "that $family is missing is not explained: $(cat none.txt)"
  if [ ! -x "$GATO_DEPS_DIR/env-$family/bin/python" ]; then
    echo "$family is left out: tools/setup --envs $family was not run"
    continue
  fi
  for task in ${samples[$family]}; do
    "$bin/gato-data" environments "$family" --check --task "$task" || fail "$task breaks the contract"
  done
  checked=$((checked + 1))
done

# The same without the name of a family: native tasks, and the sample; here of one task each.
"$bin/gato-data" environments --check --task 'g*/go_to' | grep -q 'grid/go_to: fine' || fail "native tasks are not checked"
if "$bin/gato-data" environments --check --task 'metaworld/door-*' 2>none.txt; then fail "a task outside the sample was checked"; fi
grep -q "of the sample matches" none.txt || fail "no clear sentence: $(cat none.txt)"

collect() {
  cat >suite.yaml <<YAML
tasks:
  - pattern: $1
    episodes: 4
    noise: [0, 0.3]
YAML
  "$bin/gato-data" collect --suite ./suite.yaml --out "$2" --threads "$3" >"$2.txt"
}
if [ -x "$GATO_DEPS_DIR/env-minigrid/bin/python" ]; then
  collect babyai/GoToLocal-v0 one 1
  collect babyai/GoToLocal-v0 two 2
  cmp one/babyai-GoToLocal-v0/*.gato two/babyai-GoToLocal-v0/*.gato || fail "the data depend on the number of workers"
  collect babyai/GoToLocal-v0 two 2
  grep -q "was there already" two.txt || fail "a finished data set was made again"
  "$bin/gato-data" verify one/babyai-GoToLocal-v0/*.gato >/dev/null || fail "damaged data"
fi
if [ "$checked" -eq 0 ]; then
  exit 77
fi
echo "environments: $checked families, all fine"
