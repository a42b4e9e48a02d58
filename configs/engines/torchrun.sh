#!/usr/bin/env bash
# Trains on several machines (or several processes of one) with torchrun. Run the same line on every machine:
#
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 configs/engines/torchrun.sh fit -c stage1.yaml     # on the first
#   NNODES=2 NODE_RANK=1 MASTER_ADDR=10.0.0.1 configs/engines/torchrun.sh fit -c stage1.yaml     # on the second
#
# Variables, with their defaults:
#   NNODES=1              machines
#   NODE_RANK=0           which of them this is, counted from 0
#   NPROC_PER_NODE        processes on each machine: its GPUs, or 1 where there is none
#   MASTER_ADDR=127.0.0.1 the first machine, as the others reach it
#   MASTER_PORT=29500     a free port there; with MAX_RESTARTS also as many of the next ones
#   MAX_RESTARTS=0        how often all processes are started again after one of them has died; each start goes on from the
#                         run's newest checkpoint (docs/faults.md)
#   SHUTDOWN_TIMEOUT=300  seconds that processes have, after SIGTERM, to finish their batch and write a checkpoint
#   ENGINE=ddp            configs/engines/$ENGINE.yaml; it is read after your own configs
#   PYTHON                the interpreter: .venv's where there is one
set -euo pipefail

if [[ $# -lt 1 ]]; then
    echo "usage: [NNODES=.. NODE_RANK=.. MASTER_ADDR=..] $0 fit|validate|test -c CONFIG [OPTIONS]" >&2
    exit 2
fi

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
engine="${root}/configs/engines/${ENGINE:-ddp}.yaml"
if [[ ! -f "${engine}" ]]; then
    echo "there is no ${engine}: ENGINE names a file of configs/engines, without .yaml" >&2
    exit 2
fi

if [[ -z "${PYTHON:-}" ]]; then
    PYTHON=python3
    [[ -x "${root}/.venv/bin/python" ]] && PYTHON="${root}/.venv/bin/python"
fi
if [[ -z "${NPROC_PER_NODE:-}" ]]; then
    NPROC_PER_NODE="$("${PYTHON}" -c 'import torch; print(max(1, torch.cuda.device_count()))')"
fi
nodes="${NNODES:-1}"

# Lightning compares its own count of machines and devices with torchrun's, so both are told the same.
exec "${PYTHON}" -m torch.distributed.run \
    --nnodes "${nodes}" \
    --node-rank "${NODE_RANK:-0}" \
    --nproc-per-node "${NPROC_PER_NODE}" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" \
    --master-port "${MASTER_PORT:-29500}" \
    --max-restarts "${MAX_RESTARTS:-0}" \
    --shutdown-timeout "${SHUTDOWN_TIMEOUT:-300}" \
    --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \
    "${root}/train.py" "$@" \
    -c "${engine}" \
    --trainer.num_nodes "${nodes}" \
    --trainer.devices "${NPROC_PER_NODE}"
