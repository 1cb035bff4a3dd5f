#!/usr/bin/env bash
#SBATCH --job-name=likeness
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
# Usage: sbatch slurm.sh RESULTS, from the clone, on a disk that all nodes share. A job that ends early goes on when it
# is submitted again. Before the first one, on a node with a network: python3 run.py ray --version
set -euo pipefail

results=${1:?usage: sbatch slurm.sh RESULTS, a folder that "run.py evaluate plan" made}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')  # of this job alone

srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" \
    python3 run.py ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_NNODES" -- \
    python3 run.py evaluate generate "$results" --ray auto
