#!/usr/bin/env bash
# Train on a fixed number of machines by torchrun. Run this on each machine, with its number in NODE_RANK:
#
#   HEAD=10.0.0.1 NODES=2 NODE_RANK=0 ./static.sh --data /shared/birds --global-batch 64 --out /shared/runs/birds
#
# The words after it are those of `detect train`. Where a process dies, all start again from the last checkpoint. Where
# a machine other than the first dies, the others wait half an hour for it: run the same line there again. Where the
# first dies, run the lines again on all.
set -euo pipefail
: "${HEAD:?the address of the machine with NODE_RANK 0}"
: "${NODES:?the number of machines}"
: "${NODE_RANK:?the number of this machine, from 0}"

exec torchrun --nnodes "$NODES" --node-rank "$NODE_RANK" --nproc-per-node "${PROCESSES:-gpu}" \
    --master-addr "$HEAD" --master-port "${PORT:-29500}" --max-restarts "${RESTARTS:-3}" \
    -m detect train "$@" --resume
