"""Several processes or devices: who takes which part of a step, and how the parts meet again.

    torchrun --nproc-per-node 2 --no-python train   ddp: each process has the whole model and its share of every batch
    … --parallel fsdp       so too, but of weights, gradients and optimizer each keeps a share only
    … --parallel pipeline   each has some of the layers; the micro-batches of a batch follow one another through them
    … --parallel model      the same with a batch in as few parts as torch allows: one works, the others wait

`--batch` is that of all processes together, so that a job is the same one on any number of them: the same losses, but
for the order in which numbers are added, and for dropout, which each process draws for itself.

What trains is `wrap(model)`. What is evaluated, kept and saved is always the plain model, which `gather` brings up to
date, and an optimizer's state by the parameters' names: a checkpoint of four processes goes on in one, or the other
way round.
"""

import copy
import os
from contextlib import nullcontext, suppress
from datetime import timedelta

import torch
import torch.distributed as dist

from train.errors import JobError

# Groups stay until the process ends. When the last reference to one goes, Python's lock is held, and gloo waits for a
# thread of its own that may just want that lock, to let go of the last message: neither goes on (seen on torch 2.7.1).
GROUPS = []
PARTING = timedelta(minutes=2)  # how long a process waits for the others before it leaves
TORCHRUN = "start it with torchrun, as in `torchrun --nproc-per-node 2 --no-python train …`"


def make_team(settings, device, compute):
    """The processes of this run, joined, in the way that --parallel names. Raises `JobError` for what cannot be.

    `compute` makes the context in which the model computes, as `precision` in train.py.
    """
    started = dist.is_available() and dist.is_torchelastic_launched()
    kind = settings.parallel or ("ddp" if started else None)
    if kind is None:
        return Alone(settings, device, compute)
    if kind == "fsdp" and not has_fully_shard():
        raise JobError("torch %s has no fully_shard" % torch.__version__, "it came with 2.6; ddp is there")
    if kind in ("ddp", "fsdp"):
        team = Replicas if kind == "ddp" else Shards
    else:
        from train.stages import find_pipelines

        team = find_pipelines()
    if team.processes and not started:
        raise JobError("--parallel %s wants several processes" % kind, TORCHRUN)
    if started and not team.processes and int(os.environ["WORLD_SIZE"]) > 1:
        hint = "`train --parallel %s` without torchrun takes every GPU, or on the CPU --stages" % kind
        raise JobError("torch %s has pipelines within one process only" % torch.__version__, hint)
    if settings.precision == "fp16" and not team.fp16:
        raise JobError("--parallel %s and --precision fp16 do not go together" % kind, "bf16 does, and on newer GPUs")
    return team(settings, device, compute)


def has_fully_shard():
    try:
        from torch.distributed.fsdp import fully_shard  # noqa: F401
    except ImportError:
        return False
    return True


class Alone:
    """One process: it has the whole model and all of every batch."""

    processes, fp16 = False, True
    rank, size = 0, 1

    def __init__(self, settings, device, compute):
        self.settings, self.device, self.compute, self.model = settings, device, compute, None

    @property
    def leads(self):
        """Whether this process is the one that speaks and writes."""
        return self.rank == 0

    def wrap(self, model):
        """What trains in the place of the model."""
        self.model = self.placed(model)
        return self.model

    def placed(self, model):
        """The model on its device; with --gradient-checkpointing, one that computes its activations anew."""
        if self.settings.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model.to(self.device)

    def share(self, rows):
        """This process's part of a batch. It is never empty: every process has to take part in every step."""
        return rows

    def weight(self, rows):
        """What this process's mean loss counts in a step on these rows."""
        return 1.0

    def waits(self, run_model):
        """Within this, gradients add up where they are; without, they meet after each backward."""
        return nullcontext()

    def agree(self, loss, stop):
        """The loss of the whole batch, and whether anybody wants to stop: the same on every process."""
        return loss.item(), stop

    def gather(self):
        """The plain model as it is now, to evaluate and to save; None on processes that hold only some of it."""
        return self.model

    def tell(self, value):
        """What the leader has; for all."""
        return value

    def collect(self, value):
        """What each process has, by rank; for the leader, None for the others."""
        return [value]

    def names(self):
        """id of a parameter → its name in the plain model."""
        return {id(parameter): name for name, parameter in self.model.named_parameters()}

    def optimizer_state(self, optimizer):
        """{name of a parameter: {"exp_avg": tensor, …}}, of all of them on the leader."""
        names = self.names()
        return {names[id(parameter)]: dict(state) for parameter, state in optimizer.state.items()}

    def load(self, model_state, optimizer, optimizer_state):
        """Put the model and the optimizer as they were."""
        self.model.load_state_dict(model_state)
        names = self.names()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                state = optimizer_state.get(names[id(parameter)], {})
                optimizer.state[parameter] = {
                    name: value if name == "step" else value.to(parameter.device) for name, value in state.items()
                }

    def leave(self):
        """The run is over."""


class Processes(Alone):
    """Several of them, started by torchrun. `gloo` carries what is no tensor, on GPUs as well."""

    processes = True

    def __init__(self, settings, device, compute):
        super().__init__(settings, device, compute)
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
        # The others wait while the leader evaluates; one that has gone is noticed by its connection, not by the clock.
        self.talk = dist.new_group(backend="gloo", timeout=timedelta(days=1))
        GROUPS.extend((dist.group.WORLD, self.talk))
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def share(self, rows):
        return rows[self.rank :: self.size] or rows[:1]

    def weight(self, rows):
        # The mean over the processes is taken of their gradients; what counts is the mean over the rows.
        return len(rows[self.rank :: self.size]) * self.size / len(rows)

    def agree(self, loss, stop):
        both = torch.tensor([loss.item(), float(stop)])
        dist.all_reduce(both, group=self.talk)
        return both[0].item() / self.size, both[1].item() > 0

    def tell(self, value):
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.talk)
        return box[0]

    def collect(self, value):
        box = [None] * self.size if self.leads else None
        dist.gather_object(value, box, dst=0, group=self.talk)
        return box

    def leave(self):
        """All go together, so that nobody's last message is cut off; rank 0, which may hold the store, hears of all."""
        with suppress(RuntimeError):  # one that has gone by now, or does not answer, has given what it had
            dist.monitored_barrier(self.talk, PARTING)
        dist.destroy_process_group()


class Replicas(Processes):
    """Data parallel (DDP): the whole model everywhere, and the gradients' mean over all rows everywhere."""

    def wrap(self, model):
        self.model = self.placed(model)
        return torch.nn.parallel.DistributedDataParallel(self.model)

    def waits(self, run_model):
        return run_model.no_sync()


class Shards(Processes):
    """Fully sharded (FSDP): layer by layer the weights come together, are used, and go again."""

    fp16 = False

    def wrap(self, model):
        from torch.distributed.fsdp import fully_shard

        self.model = model  # stays whole, on the CPU, for `gather`
        self.sharded = self.placed(copy.deepcopy(model))
        for layer in self.sharded.bert.encoder.layer:
            fully_shard(layer)
        fully_shard(self.sharded)
        # Asked for a mean, gloo gives the sum (torch 2.7); so it is asked what it does.
        mean = torch.empty(1, device=self.device)
        dist.reduce_scatter_tensor(mean, torch.ones(self.size, device=self.device), op=dist.ReduceOp.AVG)
        self.correction = 1 / mean.item()
        return self.sharded

    def weight(self, rows):
        return super().weight(rows) * self.correction

    def agree(self, loss, stop):
        return super().agree(loss / self.correction, stop)

    def waits(self, run_model):
        return _Unsynced(run_model)

    @staticmethod
    def _whole(**options):
        from torch.distributed.checkpoint.state_dict import StateDictOptions

        return StateDictOptions(full_state_dict=True, **options)

    def gather(self):
        from torch.distributed.checkpoint.state_dict import get_model_state_dict

        state = get_model_state_dict(self.sharded, options=self._whole(cpu_offload=True))
        if not self.leads:
            return None
        self.model.load_state_dict(state)
        return self.model.to(self.device)

    def optimizer_state(self, optimizer):
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        return get_optimizer_state_dict(self.sharded, optimizer, options=self._whole(cpu_offload=True)).get("state", {})

    def load(self, model_state, optimizer, optimizer_state):
        from torch.distributed.checkpoint import state_dict

        state_dict.set_model_state_dict(self.sharded, model_state, options=self._whole())
        groups = state_dict.get_optimizer_state_dict(self.sharded, optimizer)["param_groups"]
        whole = {"state": optimizer_state, "param_groups": groups}
        state_dict.set_optimizer_state_dict(self.sharded, optimizer, whole, options=self._whole())


class _Unsynced:
    """FSDP's own no_sync."""

    def __init__(self, module):
        self.module = module

    def __enter__(self):
        self.module.set_requires_gradient_sync(False)

    def __exit__(self, *_):
        self.module.set_requires_gradient_sync(True)
