"""Runs in an image, by torchrun: a sum over all nodes that grows step by step, and goes on after a restart."""

import json
import os
import sys
import time

import torch
from torch import distributed

STEPS = 8

distributed.init_process_group("gloo")
rank, size = distributed.get_rank(), distributed.get_world_size()
path = os.path.join(sys.argv[sys.argv.index("--output") + 1], "state.json")
state = torch.zeros(2, dtype=torch.float64)  # steps done, sum
if rank == 0:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.exists(path):
        with open(path) as stream:
            state = torch.tensor(json.load(stream), dtype=torch.float64)
distributed.broadcast(state, 0)
print("rank %d of %d starts at step %d" % (rank, size, state[0]), flush=True)
while state[0] < STEPS:
    part = torch.tensor([(rank + 1) * (state[0].item() + 1)], dtype=torch.float64)
    distributed.all_reduce(part)
    state += torch.tensor([1, part.item()])
    if rank == 0:
        with open(path + ".new", "w") as stream:
            json.dump(state.tolist(), stream)
        os.replace(path + ".new", path)
    time.sleep(0.5)
distributed.destroy_process_group()
