#!/usr/bin/env bash
# gato-train under a real Slurm of two virtual nodes, which this script starts for itself: a job of two tasks per node,
# the time limit's signal with requeueing by tools/launch/slurm.sbatch, and the verdicts of batch scripts without srun.
set -uo pipefail
[ "$(id -u)" = 0 ] || { echo "skipped: a Slurm of one's own needs root"; exit 77; }
for program in munged slurmctld slurmd srun; do
  command -v "$program" >/dev/null || { echo "skipped: there is no $program; tools/setup --launchers installs it"; exit 77; }
done
source "$GATO_SOURCE/tests/integration/tiny_run.bash"
mkdir -p state munge && chmod 700 munge
chmod 755 "$work"
head -c 1024 /dev/urandom > munge/key && chmod 400 munge/key
ports=($(free_port) $(free_port) $(free_port))
# Nodes named by addresses of this machine: what Slurm calls them can be reached.
cat > slurm.conf <<CONF
ClusterName=gato
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
MpiDefault=none
ReturnToService=2
KillWait=20
SlurmdParameters=config_overrides
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool-%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd-%n.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd-%n.log
NodeName=n1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${ports[1]} CPUs=4
NodeName=n2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${ports[2]} CPUs=4
PartitionName=all Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$work/slurm.conf"
munged --foreground --force --key-file=munge/key --socket=munge/socket --pid-file=munge/pid --log-file=munge/log \
  --seed-file=munge/seed 2>munge.txt & started+=($!)
for _ in $(seq 50); do [ -S munge/socket ] && break; sleep 0.1; done
slurmctld -D 2>ctld.txt & started+=($!)
for node in n1 n2; do slurmd -D -N "$node" 2>"slurmd-$node.txt" & started+=($!); done
for _ in $(seq 150); do [ "$(sinfo -h -o %T 2>/dev/null | sort -u)" = idle ] && break; sleep 0.2; done
[ "$(sinfo -h -o %T 2>/dev/null | sort -u)" = idle ] || { tail -n 8 *.log ./*.txt; fail "Slurm does not start"; }

export GATO_TRAIN="$bin/gato-train" MASTER_ADDR=127.0.0.1   # the virtual nodes have no addresses of their own names
"$GATO_TRAIN" --config tiny.yaml run.dir=alone comm.launcher=none >alone.txt 2>&1 || fail "one process"
# shape: options of every job that take the place of those in the script
shape=(--nodes=2 --ntasks-per-node=2 --cpus-per-task=1 --gpus-per-node=0 --mem=0 --output=job-%j.txt)

job=$(GATO_RUN_DIR=four sbatch --parsable --wait "${shape[@]}" "$GATO_SOURCE/tools/launch/slurm.sbatch" tiny.yaml) ||
  { cat job-*.txt | tail -20; fail "a job of four tasks"; }
grep -q 'launcher=slurm rank 0/4 local 0/2 node 0/2 restart 0' "job-$job.txt" || { head -20 "job-$job.txt"; fail "the verdict is not printed"; }
grep -q 'launcher=slurm rank 3/4 local 1/2 node 1/2 restart 0' four/logs/rank-3.log || fail "rank 3 has another verdict"
same_loss alone four

# Stopped in the midst by the signal that comes before the time limit; the script queues the job again, and it goes on.
job=$(GATO_RUN_DIR=requeued sbatch --parsable "${shape[@]}" --open-mode=append "$GATO_SOURCE/tools/launch/slurm.sbatch" \
  tiny.yaml train.steps=3000 train.checkpoint_every=100000)
wait_for_text "job-$job.txt" 'step 50/' 60
scancel --signal=TERM "$job" || fail "no signal could be sent"
wait_for_text "job-$job.txt" 'is queued again' 40
wait_for_text "job-$job.txt" 'goes on from' 60
wait_for_text "job-$job.txt" 'restart 1' 10
scancel "$job"
grep -q 'everything is saved' "job-$job.txt" || { tail -20 "job-$job.txt"; fail "nothing was saved"; }

# Without srun in the batch script only one process runs, which says so.
printf '#!/bin/bash\nexec "$GATO_TRAIN" --config tiny.yaml run.dir=batch train.steps=2\n' > batch.sh
job=$(sbatch --parsable --wait "${shape[@]}" batch.sh) || { tail -20 job-*.txt; fail "a batch script without srun"; }
grep -q 'launcher=none rank 0/1' "job-$job.txt" || { head "job-$job.txt"; fail "the verdict without srun is wrong"; }
grep -q 'only srun starts them' "job-$job.txt" || { head "job-$job.txt"; fail "the missing srun is not told"; }
echo "Slurm: all fine"
