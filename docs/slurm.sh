#!/bin/bash
# The paper's experiments in 16 parts: `sbatch docs/slurm.sh` in the repository, after `cargo build --release --example paper`.
#
# Every task of the array does one part on its own node, with its own file in target/paper. When all are done, on any machine
# that has the folder: `target/release/examples/paper`, which finds the files of the parts and writes the page.
# A part that failed or ran out of time continues from its file: `sbatch --array=5 docs/slurm.sh`.
#SBATCH --job-name=bptt-paper
#SBATCH --array=1-16
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
#SBATCH --output=target/paper-%a.log

# The number of parts is written out, since an array of one task, as above, does not tell of how many it is one.
exec target/release/examples/paper --shard "$SLURM_ARRAY_TASK_ID/16" --workers "$SLURM_CPUS_PER_TASK"
