#!/usr/bin/env python
"""Replaces the training job in test_cluster_targets.py: joins the other nodes and prints what it sees as JSON."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
facts = {
    "host": os.environ["HOSTNAME"],
    "rank": dist.get_rank(),
    "node": int(os.environ["GROUP_RANK"]),
    "world": dist.get_world_size(),
    "master": os.environ["MASTER_ADDR"],
    "threads": torch.get_num_threads(),
    "shm": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
    "user": os.getuid(),
    "allocator": Path(os.environ.get("LD_PRELOAD", "")).name,
    "words": sys.argv[1:],
}
sys.stdout.write(json.dumps(facts) + "\n")
sys.stdout.flush()
dist.barrier()
dist.destroy_process_group()
