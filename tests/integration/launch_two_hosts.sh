#!/usr/bin/env bash
# Two hosts, made of two network namespaces with a cable between them: training over it, and the cable cut.
set -uo pipefail
[ "$(id -u)" = 0 ] || { echo "skipped: making network namespaces needs root"; exit 77; }
command -v ip >/dev/null || { echo "skipped: there is no ip program; tools/setup --launchers installs it"; exit 77; }
source "$GATO_SOURCE/tests/integration/tiny_run.bash"
a="gato-a-$$" b="gato-b-$$" link_a="ga$$" link_b="gb$$"
remove_hosts() { ip netns del "$a" 2>/dev/null; ip netns del "$b" 2>/dev/null; cleanup; }
trap remove_hosts EXIT
{ ip netns add "$a" && ip netns add "$b" &&
  ip link add "$link_a" netns "$a" type veth peer name "$link_b" netns "$b" &&
  ip -n "$a" addr add 10.77.0.1/24 dev "$link_a" && ip -n "$b" addr add 10.77.0.2/24 dev "$link_b" &&
  ip -n "$a" link set "$link_a" up && ip -n "$b" link set "$link_b" up &&
  ip -n "$a" link set lo up && ip -n "$b" link set lo up; } 2>ip.txt || skip "no network namespaces here: $(head -1 ip.txt)"

# start HOST RANK RUN SETTINGS...: output in RUN-RANK.txt
start() {
  local host=$1 rank=$2 run=$3
  shift 3
  RANK=$rank WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=10.77.0.1 MASTER_PORT=29511 \
    ip netns exec "$host" "$bin/gato-train" --config tiny.yaml run.dir="$run" "$@" >"$run-$rank.txt" 2>&1 &
  started+=($!)
}
"$bin/gato-train" --config tiny.yaml run.dir=alone >alone.txt 2>&1 || fail "one process"
start "$a" 0 both; first=$!
start "$b" 1 both; second=$!
wait "$first" && wait "$second" || { tail -5 both-*.txt; fail "two hosts"; }
grep -q 'launcher=env rank 0/2 local 0/1 node 0/2' both-0.txt || { head -20 both-0.txt; fail "the verdict is not printed"; }
same_loss alone both

# The cable is cut while both train: both end with 76, and each names the other.
start "$a" 0 cut train.steps=100000 train.checkpoint_every=100000 comm.timeout_seconds=5; first=$!
start "$b" 1 cut train.steps=100000 train.checkpoint_every=100000 comm.timeout_seconds=5; second=$!
wait_for_text cut-0.txt 'step 20/' 60
ip -n "$a" link set "$link_a" down
begin=$SECONDS
wait "$first"; code_a=$?
wait "$second"; code_b=$?
took=$((SECONDS - begin))
[ "$code_a" = 76 ] && [ "$code_b" = 76 ] || { tail -20 cut-*.txt; fail "exit codes $code_a and $code_b"; }
[ "$took" -le 45 ] || fail "noticed after $took s only"
grep -q 'rank 1 (.*cannot be reached' cut-0.txt || { tail -20 cut-0.txt; fail "rank 0 does not name rank 1"; }
grep -q 'rank 0 (.*cannot be reached' cut-1.txt || { tail -20 cut-1.txt; fail "rank 1 does not name rank 0"; }
for rank in 0 1; do grep -q 'all threads' "cut/logs/rank-$rank.log" || fail "rank $rank shows no stacks"; done
echo "two hosts: all fine ($took s until a cut cable ended both)"
