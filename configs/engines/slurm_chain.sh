#!/usr/bin/env bash
# Submits stages as SLURM jobs of their own, each of which begins when the one before it has ended well, from its weights:
#
#   FOLDER=runs/chain STAGES="encoder_alignment decoder_alignment instruction_tuning" \
#       configs/engines/slurm_chain.sh --nodes 2 --ntasks-per-node 8 --gpus-per-node 8 --time 24:00:00 -- -c curriculum.yaml
#
# What stands before -- goes to sbatch, what stands behind it to `train.py fit`. Each stage has the folder FOLDER/STAGE, with its
# weights in FOLDER/STAGE/STAGE. A job that is put back into the queue keeps its number, so the chain holds.
#
# Variables:
#   STAGES    names of stages, in their order
#   FOLDER    where their folders are
#   ENGINE, PYTHON, OMP_NUM_THREADS   as configs/engines/slurm.sh reads them
set -euo pipefail

options=()
while [[ $# -gt 0 && "$1" != -- ]]; do
    options+=("$1")
    shift
done
if [[ $# -lt 2 || -z "${STAGES:-}" || -z "${FOLDER:-}" ]]; then
    echo "usage: FOLDER=.. STAGES='FIRST SECOND ..' $0 [SBATCH OPTIONS] -- -c CONFIG [OPTIONS]" >&2
    exit 2
fi
shift

script="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/slurm.sh"
earlier=""
job=""
for stage in ${STAGES}; do
    own=(--training.run "[${stage}]" --training.folder "${FOLDER}/${stage}")
    after=()
    if [[ -n "${earlier}" ]]; then
        own+=(--training.init_from "${FOLDER}/${earlier}/${earlier}")
        after=(--dependency "afterok:${job}" --kill-on-invalid-dep yes)
    fi
    job="$(sbatch --parsable --job-name "isthmus-${stage}" ${after[@]+"${after[@]}"} ${options[@]+"${options[@]}"} \
        "${script}" fit "$@" "${own[@]}")"
    job="${job%%;*}"  # a federation adds its cluster's name
    echo "${stage}: job ${job}"
    earlier="${stage}"
done
