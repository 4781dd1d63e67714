#!/usr/bin/env bash
# Train by torchrun on machines that come and go. Run this on each machine, as soon as it is there:
#
#   HEAD=10.0.0.1 NODES=1:4 ./elastic.sh --data /shared/birds --global-batch 64 --out /shared/runs/birds
#
# The words after it are those of `detect train`. NODES is the smallest and the largest number of machines. Training
# starts with the smallest number; when a machine comes or is lost, all processes start again from the last checkpoint
# with the new number. The machine HEAD holds the meeting point and must stay; where it was lost, run the line again on
# all. --global-batch keeps the batch, and with it the learning rate and the number of steps, for any number of machines.
set -euo pipefail
: "${HEAD:?the address of the machine that stays}"
: "${NODES:?the smallest and the largest number of machines, as 1:4}"

export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # each start has an address of its own: the first machine may be lost, too
exec torchrun --nnodes "$NODES" --nproc-per-node "${PROCESSES:-gpu}" --max-restarts "${RESTARTS:-100}" \
    --rdzv-backend c10d --rdzv-endpoint "$HEAD:${PORT:-29500}" --rdzv-id "${RUN:-gridhead}" \
    -m detect train "$@" --resume
