"""Stands in for the training job in test_cluster_targets.py: adds up numbers over all ranks, step by step, and goes on
from its last step when it is started again. A line of JSON for each thing worth knowing."""

import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

STEPS = int(os.environ.get("STEPS", "5"))


def say(**facts):
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main():
    path = Path(sys.argv[sys.argv.index("--output") + 1]) / "step"
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    if rank == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
    done = torch.tensor([0])
    if rank == 0 and path.exists():
        done[0] = int(path.read_text())
    dist.broadcast(done, 0)
    start = int(done)
    say(
        host=os.environ["HOSTNAME"],
        rank=rank,
        node=int(os.environ["GROUP_RANK"]),
        world=dist.get_world_size(),
        master=os.environ["MASTER_ADDR"],
        threads=torch.get_num_threads(),
        start=start,
        shm=os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
        user=os.getuid(),
        words=sys.argv[1:],
    )
    for step in range(start, STEPS):
        total = torch.tensor([float((rank + 1) * (step + 1))])
        dist.all_reduce(total)
        if rank == 0:
            new = path.with_suffix(".new")
            new.write_text(str(step + 1))
            new.replace(path)
        time.sleep(0.25)
    say(done=STEPS, total=float(total))


main()
