"""Several processes: which part of a step each one computes, and how the parts come together again.

    torchrun --nproc-per-node 2 --no-python train   ddp: each process has the whole model and its share of every batch
    … --parallel fsdp       the same, but each keeps only a share of weights, gradients and optimizer
    … --parallel pipeline   each has some of the layers; the micro-batches of a batch follow one another through them
    … --parallel model      the same with a batch in as few parts as torch allows: one works, the others wait

`--batch-size` is that of all processes together, so that a job is the same on any number of them: the same losses,
except for the order in which numbers are added, and for dropout, which each process draws for itself.

What trains is `prepare(model)`. What is evaluated, kept and saved is always the plain model, which `gather_model`
brings up to date, and an optimizer's state by the parameters' names: a checkpoint of four processes continues in one,
or the other way round. accelerate's `prepare` has no such checkpoints, and no pipelines.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any, Callable, ContextManager, Iterator

import torch
import torch.distributed as dist

from train.checkpoints import NestedTensors, Tensors
from train.options import Settings

Autocast = Callable[[], ContextManager[Any]]

# Groups live until the process ends. When the last reference to one goes, Python's lock is held, and gloo waits for a
# thread of its own that may need that lock to release the last message: a deadlock (seen on torch 2.7.1).
GROUPS: list[Any] = []
# How long a process waits for the others before it ends.
SHUTDOWN_TIMEOUT = timedelta(minutes=2)


class SingleProcess:
    """One process: it has the whole model and all of every batch. The other classes say what they do differently."""

    needs_torchrun = False
    supports_fp16 = True
    rank = 0
    world_size = 1

    def __init__(
        self,
        settings: Settings,
        device: str,
        autocast: Autocast,
    ) -> None:
        self.settings = settings
        self.device = device
        self.autocast = autocast
        self.model: Any = None

    @property
    def is_main_process(self) -> bool:
        """Whether this process is the one that reports and writes."""
        return self.rank == 0

    def prepare(self, model: Any) -> Any:
        """What trains in the place of the model."""
        self.model = self._to_device(model)
        return self.model

    def _to_device(self, model: Any) -> Any:
        if self.settings.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model.to(self.device)

    def local_rows(self, rows: list[int]) -> list[int]:
        """This process's share of a batch. It is never empty: every process has to take part in every step."""
        return rows

    def loss_weight(self, rows: list[int]) -> float:
        """What this process's mean loss counts in a step on these rows."""
        return 1.0

    def no_sync(self, running: Any) -> ContextManager[Any]:
        """Within this, gradients accumulate locally; without it they are averaged after each backward."""
        return nullcontext()

    def reduce_loss(self, loss: Any, stop: bool) -> tuple[float, bool]:
        """The loss of the whole batch, and whether any process wants to stop: the same on every process."""
        return loss.item(), stop

    def gather_model(self) -> Any:
        """The plain model as it is now, to evaluate and to save; None on processes that hold only a part of it."""
        return self.model

    def broadcast(self, value: Any) -> Any:
        """The main process's value, on all processes."""
        return value

    def gather_objects(self, value: Any) -> list[Any] | None:
        """Each process's value, by rank, on the main process; None on the others."""
        return [value]

    def parameter_names(self) -> dict[int, str]:
        """The id of each parameter → its name in the plain model."""
        return {
            id(parameter): name for name, parameter in self.model.named_parameters()
        }

    def optimizer_state(self, optimizer: Any) -> NestedTensors:
        """{name of a parameter: {"exp_avg": tensor, …}}, of all parameters on the main process."""
        names = self.parameter_names()
        states = {}
        for parameter, state in optimizer.state.items():
            name = names[id(parameter)]
            states[name] = dict(state)
        return states

    def load(
        self,
        model_state: Tensors,
        optimizer: Any,
        optimizer_state: NestedTensors,
    ) -> None:
        """Restore the model and the optimizer."""
        self.model.load_state_dict(model_state)
        names = self.parameter_names()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                saved = optimizer_state.get(names[id(parameter)], {})
                optimizer.state[parameter] = _on_device_of(parameter, saved)

    def shutdown(self) -> None:
        """The run is over."""


def _on_device_of(parameter: Any, saved: Tensors) -> Tensors:
    """An optimizer's tensors next to their parameter. AdamW wants its step count on the CPU."""
    state = {}
    for name, value in saved.items():
        state[name] = value if name == "step" else value.to(parameter.device)
    return state


class Distributed(SingleProcess):
    """Several processes, started by torchrun. gloo carries what is not a tensor, on GPUs too."""

    needs_torchrun = True

    def __init__(
        self,
        settings: Settings,
        device: str,
        autocast: Autocast,
    ) -> None:
        super().__init__(settings, device, autocast)
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
        # The others wait while the main process evaluates; a dead one is noticed by its connection, not by the clock.
        self.control_group = dist.new_group(backend="gloo", timeout=timedelta(days=1))
        GROUPS.extend((dist.group.WORLD, self.control_group))
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()

    def local_rows(self, rows: list[int]) -> list[int]:
        return rows[self.rank :: self.world_size] or rows[:1]

    def loss_weight(self, rows: list[int]) -> float:
        # Gradients are averaged over the processes; what is wanted is the mean over the rows.
        own = rows[self.rank :: self.world_size]
        return len(own) * self.world_size / len(rows)

    def reduce_loss(self, loss: Any, stop: bool) -> tuple[float, bool]:
        values = torch.tensor([loss.item(), float(stop)])
        # Summed over the processes.
        dist.all_reduce(values, group=self.control_group)
        total, stops = values.tolist()
        mean = total / self.world_size
        return mean, stops > 0

    def broadcast(self, value: Any) -> Any:
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control_group)
        return values[0]

    def gather_objects(self, value: Any) -> list[Any] | None:
        values: list[Any] | None = (
            [None] * self.world_size if self.is_main_process else None
        )
        dist.gather_object(
            value,
            values,
            dst=0,
            group=self.control_group,
        )
        return values

    def shutdown(self) -> None:
        """All end together, so that nobody's last message is cut off: rank 0 may hold the store, and waits for all."""
        # A process that has ended by now, or does not answer, has delivered what it had.
        with suppress(RuntimeError):
            dist.monitored_barrier(self.control_group, SHUTDOWN_TIMEOUT)
        dist.destroy_process_group()


class DDP(Distributed):
    """Data parallel: the whole model everywhere, and the gradients' mean over all rows everywhere."""

    def prepare(self, model: Any) -> Any:
        self.model = self._to_device(model)
        return torch.nn.parallel.DistributedDataParallel(self.model)

    def no_sync(self, running: Any) -> ContextManager[Any]:
        context: ContextManager[Any] = running.no_sync()
        return context


class FSDP(Distributed):
    """Fully sharded: layer by layer the weights are gathered, used, and released."""

    supports_fp16 = False

    def prepare(self, model: Any) -> Any:
        from torch.distributed.fsdp import fully_shard

        # The plain model stays whole, on the CPU, for `gather_model`.
        self.model = model
        self.sharded = self._to_device(copy.deepcopy(model))
        for layer in self.sharded.bert.encoder.layer:
            fully_shard(layer)
        fully_shard(self.sharded)
        self.correction = 1 / self._reduced_ones()
        return self.sharded

    def _reduced_ones(self) -> float:
        """What reduce-scatter makes of the mean of ones: gloo gives their sum instead (torch 2.7)."""
        mean = torch.empty(1, device=self.device)
        ones = torch.ones(self.world_size, device=self.device)
        dist.reduce_scatter_tensor(mean, ones, op=dist.ReduceOp.AVG)
        value: float = mean.item()
        return value

    def loss_weight(self, rows: list[int]) -> float:
        return super().loss_weight(rows) * self.correction

    def reduce_loss(self, loss: Any, stop: bool) -> tuple[float, bool]:
        return super().reduce_loss(loss / self.correction, stop)

    @contextmanager
    def no_sync(self, running: Any) -> Iterator[None]:
        running.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            running.set_requires_gradient_sync(True)

    def _full_state(self, *, cpu_offload: bool) -> Any:
        from torch.distributed.checkpoint.state_dict import StateDictOptions

        return StateDictOptions(full_state_dict=True, cpu_offload=cpu_offload)

    def gather_model(self) -> Any:
        from torch.distributed.checkpoint.state_dict import get_model_state_dict

        state = get_model_state_dict(
            self.sharded, options=self._full_state(cpu_offload=True)
        )
        if not self.is_main_process:
            return None
        self.model.load_state_dict(state)
        return self.model.to(self.device)

    def optimizer_state(self, optimizer: Any) -> NestedTensors:
        from torch.distributed.checkpoint.state_dict import (
            get_optimizer_state_dict,
        )

        options = self._full_state(cpu_offload=True)
        everything = get_optimizer_state_dict(self.sharded, optimizer, options=options)
        states: NestedTensors = everything.get("state", {})
        return states

    def load(
        self,
        model_state: Tensors,
        optimizer: Any,
        optimizer_state: NestedTensors,
    ) -> None:
        from torch.distributed.checkpoint import state_dict

        options = self._full_state(cpu_offload=False)
        state_dict.set_model_state_dict(self.sharded, model_state, options=options)
        groups = state_dict.get_optimizer_state_dict(self.sharded, optimizer)[
            "param_groups"
        ]
        saved = {"state": optimizer_state, "param_groups": groups}
        state_dict.set_optimizer_state_dict(
            self.sharded, optimizer, saved, options=options
        )
