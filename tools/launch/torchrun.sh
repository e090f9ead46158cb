#!/usr/bin/env bash
# Trains under torchrun, which restarts the processes when one is lost, with fewer or more hosts if it must. On every host:
#   HEAD=gpu-a NODES=2 tools/launch/torchrun.sh --config CONFIG.yaml [key.path=value ...]
# HEAD: a host that all can reach (default: this one alone). NODES: how many hosts, or a range such as 1:4.
# PROCESSES: per host (default: one per GPU, or 1). RESTARTS: at most so many (default 10).
set -euo pipefail
nodes=${NODES:-1}
gpus=$({ nvidia-smi --list-gpus 2>/dev/null || true; } | wc -l)
processes=${PROCESSES:-$((gpus > 0 ? gpus : 1))}
if [[ -n ${HEAD:-} ]]; then
  # The id tells runs apart that meet at the same port.
  meeting=(--rdzv-backend=c10d --rdzv-endpoint="$HEAD:${PORT:-29400}" --rdzv-id="${RUN_ID:-gato}")
else
  meeting=(--standalone)
fi
# --no-python: the program is started as it is. torchrun sets OMP_NUM_THREADS=1 unless it is set; gato-train's own
# train.threads decides for its threads.
exec ${TORCHRUN:-torchrun} --no-python --nnodes="$nodes" --nproc-per-node="$processes" --max-restarts="${RESTARTS:-10}" \
  "${meeting[@]}" "${GATO_TRAIN:-gato-train}" "$@"
