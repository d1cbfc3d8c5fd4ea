#!/usr/bin/env bash
# One machine of several, to be run on each: trains an experiment under torchrun, which starts the processes, lets them
# find each other at RENDEZVOUS, and with RESTARTS starts all of them again when one is lost.
#
#   NODES=2 PROCESSES=1 RENDEZVOUS=node1:29400 RUN=7 scripts/torchrun_node.sh -c resnet_digits -c many_nodes
#
# NODES        machines [2]                    PROCESSES  on this machine, one for each GPU [1]
# RENDEZVOUS   HOST:PORT of the first machine  RUN        a name that is the same on all machines, and new for each run
# RESTARTS     how often to start again [0]; add --ckpt_path auto, and they go on from the last checkpoint
# ADDRESS      of this machine, where its name resolves to none that others can reach
# IS_HOST      1 on the machine of RENDEZVOUS, 0 on the others, where its name does not tell which it is
# PYTHON       the interpreter [python]
# All that follows goes to deqlight fit.
set -euo pipefail
: "${RENDEZVOUS:?is not set; RENDEZVOUS=HOST:PORT of the first machine}" "${RUN:?is not set; RUN=NAME, new for each run}"
nodes=${NODES:-2} processes=${PROCESSES:-1}

# Threads of all processes together, and not of each, are what a machine has.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes "$nodes" --nproc-per-node "$processes" --max-restarts "${RESTARTS:-0}" \
  --rdzv-backend c10d --rdzv-endpoint "$RENDEZVOUS" --rdzv-id "$RUN" ${ADDRESS:+--local-addr "$ADDRESS"} \
  ${IS_HOST:+--rdzv-conf "is_host=$IS_HOST"} \
  -m deqlight fit "$@" --trainer.num_nodes "$nodes" --trainer.devices "$processes"
