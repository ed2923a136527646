#!/bin/bash
# A Ray cluster inside a SLURM allocation, and bglora on it. Copy this file, fill in what it says, then: sbatch slurm.sh
#
# What has to be true before:
#   - The project folder, the film and this Python environment lie on a file system that all nodes mount at the same
#     path (/home and /scratch usually are). bglora asks every node before it starts, and names the one that isn't so.
#   - pip install 'bglora[ray]' was done in that environment, and `bglora models pull` has fetched the weights: compute nodes
#     seldom reach the internet. Where home is not shared, set HF_HOME to a shared folder.
#   - The nodes may talk to each other over the network; inside an allocation they usually may.

#SBATCH --job-name=bglora
#SBATCH --nodes=2                 # machines
#SBATCH --ntasks-per-node=1       # one Ray process a node: it lends all that the node got to bglora's workers
#SBATCH --cpus-per-task=16        # cores of each: stages without a network take one worker a core
#SBATCH --gpus-per-node=4         # stages with a network take one worker a card, or several where models are small
#SBATCH --mem=64G                 # memory of each node
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120       # SLURM's word two minutes before the end: bglora stops in order
#SBATCH --output=bglora-%j.log

PROJECT=${PROJECT:-$HOME/films/my-film}     # the folder with project.toml
VENV=${VENV:-$HOME/bglora-venv}             # where bglora is installed
STOP_AFTER=${STOP_AFTER:-7.5h}              # a bit less than --time: what is begun is ended, the next job goes on

set -euo pipefail
source "$VENV/bin/activate"
export RAY_USAGE_STATS_ENABLED=0            # Ray sends nothing to its makers

# Who reaches a Ray cluster can run anything on it as you: only who knows this job's token is let in.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN

# The first node of the allocation is the head. The port comes from the job's number: two jobs may share a node.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000))
export RAY_ADDRESS=$head_ip:$port           # bglora --executor ray joins what this names

# What SLURM gave to this job, not what the machine has: Ray would take all of it otherwise.
cores=${SLURM_CPUS_PER_TASK:-1}
cards=${SLURM_GPUS_ON_NODE:-0}
memory=$((${SLURM_MEM_PER_NODE:-4096} * 9 / 10 << 20)) # bytes; a tenth is left to Ray itself and to bglora
store=$((1 << 28))                          # 256 MB: pictures go through the project folder, not through Ray

# --block keeps `ray start` in the foreground, so that it belongs to its srun step and ends with the job. --overlap lets
# the step use what the batch step has, and --cpus-per-task has to be said again: newer SLURM would give it one core.
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap --cpus-per-task="$cores" \
    ray start --head --node-ip-address="$head_ip" --port="$port" --num-cpus="$cores" --num-gpus="$cards" \
    --memory="$memory" --object-store-memory="$store" --include-dashboard=false --disable-usage-stats --block &

tries=60
until ray status --address "$RAY_ADDRESS" >/dev/null 2>&1; do
    ((tries -= 1)) || { echo "The head did not start; what it said stands above." >&2; exit 3; }
    sleep 2
done

others=$((SLURM_JOB_NUM_NODES - 1))
if ((others > 0)); then
    srun --nodes="$others" --ntasks="$others" --exclude="$head" --overlap --cpus-per-task="$cores" \
        ray start --address="$RAY_ADDRESS" --num-cpus="$cores" --num-gpus="$cards" \
        --memory="$memory" --object-store-memory="$store" --disable-usage-stats --block &
fi

# The command itself runs here, on the head node, and alone writes the ledger. Nodes that join later get work as well.
# A worker or node that dies costs the item at hand: it is made again elsewhere. If this job ends too early, submit it
# again: it goes on where it was, trainings included.
#
# train: scenes are trained side by side, a card each. `bglora set train.processes 2` trains each scene on two cards of
# one node together; then half as many scenes go side by side.
code=0
bglora -C "$PROJECT" run --all --executor ray --max-time "$STOP_AFTER" &
bglora=$!
trap 'kill -TERM $bglora' TERM              # SLURM's word is passed on: bglora ends what is at hand
wait "$bglora" || code=$?
if kill -0 "$bglora" 2>/dev/null; then      # the word woke us; bglora is still ending
    code=0
    wait "$bglora" || code=$?
fi

# 75: --max-time is over and there is more to do. The same script goes on when it is submitted again:
#   [ "$code" = 75 ] && sbatch slurm.sh
exit "$code"
