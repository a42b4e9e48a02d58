#!/usr/bin/env bash
# Trains under SLURM, one task a device. Ask for machines and devices on the command line, from the repository's root:
#
#   sbatch --nodes 2 --ntasks-per-node 8 --gpus-per-node 8 --cpus-per-task 12 --time 24:00:00 \
#       configs/engines/slurm.sh fit -c stage1.yaml
#
# Lightning reads ranks and addresses from SLURM by itself. SLURM sends SIGUSR1 120 s before the time limit: all processes then
# finish the same batch, write a checkpoint and put the job back into the queue, where it goes on from that checkpoint. A job
# that SLURM starts again after a machine has failed goes on from the newest checkpoint, too (docs/faults.md).
#
# A sweep is an array: each task adds the options of its own line of a file, which name a folder of its own.
#
#   SWEEP=sweep.txt sbatch --array 1-4 --nodes 1 --ntasks-per-node 8 ... configs/engines/slurm.sh fit -c stage1.yaml
#
# configs/engines/slurm_chain.sh submits stages one after another.
#
# Variables, with their defaults:
#   ENGINE=ddp            configs/engines/$ENGINE.yaml; it is read after your own configs
#   SWEEP                 a file of options, a line for each task of an array, counted from 1
#   PYTHON                the interpreter: .venv's where there is one
#
#SBATCH --job-name=isthmus
#SBATCH --signal=SIGUSR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -euo pipefail

if [[ $# -lt 1 || -z "${SLURM_JOB_ID:-}" ]]; then
    echo "usage: sbatch --nodes N --ntasks-per-node DEVICES [..] $0 fit|validate|test -c CONFIG [OPTIONS]" >&2
    exit 2
fi
if [[ -z "${SLURM_NTASKS_PER_NODE:-}" ]]; then
    echo "SLURM_NTASKS_PER_NODE isn't set: give sbatch --ntasks-per-node, one task for each device of a machine" >&2
    exit 2
fi

# SLURM runs a copy of this script from its spool, so the repository is where the job was submitted.
root="${SLURM_SUBMIT_DIR:-${PWD}}"
engine="${root}/configs/engines/${ENGINE:-ddp}.yaml"
if [[ ! -f "${engine}" ]]; then
    echo "there is no ${engine}: submit from the repository's root, and let ENGINE name a file of configs/engines" >&2
    exit 2
fi

if [[ -z "${PYTHON:-}" ]]; then
    PYTHON=python3
    [[ -x "${root}/.venv/bin/python" ]] && PYTHON="${root}/.venv/bin/python"
fi
own=()
if [[ -n "${SWEEP:-}" ]]; then
    line="$(sed -n "${SLURM_ARRAY_TASK_ID:?SWEEP needs an array: give sbatch --array 1-N}p" "${SWEEP}")"
    if [[ "${line}" != *--training.folder* ]]; then
        echo "${SWEEP}, line ${SLURM_ARRAY_TASK_ID}: found '${line}'; expected options with a --training.folder of its own" >&2
        exit 2
    fi
    read -ra own <<< "${line}"
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"

exec srun --kill-on-bad-exit=1 "${PYTHON}" "${root}/train.py" "$@" ${own[@]+"${own[@]}"} \
    -c "${engine}" \
    --trainer.num_nodes "${SLURM_JOB_NUM_NODES}" \
    --trainer.devices "${SLURM_NTASKS_PER_NODE}"
