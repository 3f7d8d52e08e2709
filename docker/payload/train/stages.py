"""The layers of BERT on several devices: model and pipeline parallel, with what each torch has for it.

`Pipeline` (torch before 2.4) is one process with a thread for each device, `Stages` (from 2.6) a process for each.
"""

from __future__ import annotations

import copy
import inspect
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from train.checkpoints import NestedTensors
from train.errors import JobError
from train.options import Settings
from train.parallel import Autocast, Distributed, SingleProcess

# cross_entropy's own mark for a label that does not count.
IGNORED = -100


def pipeline_class() -> type[SingleProcess]:
    """How this torch has pipelines: in several processes (from 2.6), or in one (before 2.4)."""
    if has_process_pipelines():
        return Stages
    try:
        from torch.distributed.pipeline.sync import Pipe  # noqa: F401
    except ImportError:
        hint = "use torch 1.13 to 2.3, or 2.6 and later"
        raise JobError(
            f"torch {torch.__version__} cannot put layers on several devices", hint
        ) from None
    return Pipeline


def has_process_pipelines() -> bool:
    try:
        from torch.distributed.pipelining import ScheduleGPipe
    except ImportError:
        return False
    return "scale_grads" in inspect.signature(ScheduleGPipe).parameters


class Stage(torch.nn.Module):
    """Some of the layers of BERT; the first stage also has the embeddings, the last one the classifier."""

    def __init__(
        self,
        model: Any,
        number: int,
        stages: int,
        settings: Settings,
        autocast: Autocast,
    ) -> None:
        super().__init__()
        layers = list(model.bert.encoder.layer)
        count = len(layers)
        if count < stages:
            raise JobError(
                f"{count} layers cannot be split into {stages} stages",
                "use fewer stages",
            )
        first = count * number // stages
        end = count * (number + 1) // stages
        self.layers = torch.nn.ModuleList(layers[first:end])
        self.embeddings = model.bert.embeddings if number == 0 else None
        self.head = None
        if number == stages - 1:
            self.head = torch.nn.Sequential(
                model.bert.pooler, model.dropout, model.classifier
            )
        self.gradient_checkpointing = settings.gradient_checkpointing
        self.autocast = autocast

    def forward(self, hidden: Any, mask: Any) -> Any:
        """Token ids or hidden states (rows × tokens × width), and the attention mask → hidden states or logits."""
        with self.autocast():
            if self.embeddings is not None:
                hidden = self.embeddings(hidden)
            padding = 1.0 - mask[:, None, None, :].to(hidden.dtype)
            bias = padding * torch.finfo(hidden.dtype).min
            for layer in self.layers:
                hidden = self.run_layer(layer, hidden, bias)
            if self.head is not None:
                hidden = self.head(hidden)
            return hidden.float()

    def run_layer(
        self,
        layer: Any,
        hidden: Any,
        bias: Any,
    ) -> Any:
        if self.gradient_checkpointing and self.training:
            output = checkpoint(layer, hidden, bias, use_reentrant=False)
        else:
            output = layer(hidden, bias)
        # transformers 4 returns a tuple, transformers 5 the tensor.
        return output[0] if isinstance(output, tuple) else output


@dataclass
class Output:
    """What the training loop needs of a model's output."""

    loss: Any


class Pipeline(SingleProcess):
    """torch before 2.4: one process, a thread for each device (torch.distributed.pipeline)."""

    def prepare(self, model: Any) -> Any:
        from torch.distributed.pipeline.sync import Pipe

        self.model = model
        gpus = torch.cuda.device_count() if self.device == "cuda" else 0
        stages = self.settings.stages or gpus or 2
        if gpus and stages > gpus:
            raise JobError(
                f"{stages} stages need {stages} GPUs; there are {gpus}",
                f"use --stages {gpus} or fewer",
            )
        parts = []
        for number in range(stages):
            stage = Stage(
                model,
                number,
                stages,
                self.settings,
                self.autocast,
            )
            parts.append(_PassMask(stage).to(f"cuda:{number}" if gpus else "cpu"))
        start_rpc()
        chunks = micro_batches(self.settings, at_least=1)
        return _PipedModel(
            Pipe(torch.nn.Sequential(*parts), chunks, checkpoint="never")
        )

    def gather_model(self) -> Any:
        return (
            self.model
            if self.device == "cpu"
            else copy.deepcopy(self.model).to(self.device)
        )

    def shutdown(self) -> None:
        from torch.distributed import rpc

        rpc.shutdown()


def start_rpc() -> None:
    """Pipe keeps its results in torch's RPC framework, also within one process."""
    from torch.distributed import rpc

    store = Path(tempfile.mkdtemp(), "store")
    options = rpc.TensorPipeRpcBackendOptions(init_method=f"file://{store}")
    rpc.init_rpc(
        "train",
        rank=0,
        world_size=1,
        rpc_backend_options=options,
    )


def micro_batches(settings: Settings, *, at_least: int) -> int:
    """How many parts of a batch follow one another."""
    if settings.parallel != "pipeline":
        return at_least
    return max(at_least, settings.micro_batches)


class _PassMask(torch.nn.Module):
    """A stage that passes the attention mask on to the next one."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, hidden: Any, mask: Any) -> tuple[Any, Any]:
        return self.stage(hidden, mask), mask.to(hidden.device)


class _PipedModel(torch.nn.Module):
    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.pipe = pipe

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any,
        labels: Any,
    ) -> Output:
        logits, _ = self.pipe(input_ids, attention_mask).local_value()
        return Output(cross_entropy(logits, labels.to(logits.device)))


class Stages(Distributed):
    """torch from 2.6: a process for each stage (torch.distributed.pipelining)."""

    supports_fp16 = False

    def prepare(self, model: Any) -> Any:
        self.model = model
        stage = Stage(
            model,
            self.rank,
            self.world_size,
            self.settings,
            self.autocast,
        )
        self.stage = stage.to(self.device)
        return _ScheduledModel(self)

    def local_rows(self, rows: list[int]) -> list[int]:
        return rows

    def loss_weight(self, rows: list[int]) -> float:
        return 1.0

    def reduce_loss(self, loss: Any, stop: bool) -> tuple[float, bool]:
        # Only the last stage has a loss; the mean over the processes divided it by their number.
        mean, anybody = super().reduce_loss(loss, stop)
        return mean * self.world_size, anybody

    def gather_model(self) -> Any:
        names = self.parameter_names()
        own = {}
        for parameter in self.stage.parameters():
            name = names[id(parameter)]
            own[name] = parameter.detach().cpu()
        parts = self.gather_objects(own)
        if parts is None:
            return None
        # The main process's own part is in its model already.
        for part in parts[1:]:
            self.model.load_state_dict(part, strict=False)
        return self.model.to(self.device)

    def optimizer_state(self, optimizer: Any) -> NestedTensors:
        own: NestedTensors = {}
        for name, state in super().optimizer_state(optimizer).items():
            own[name] = {key: value.cpu() for key, value in state.items()}
        everything: NestedTensors = {}
        for part in self.gather_objects(own) or []:
            everything.update(part)
        return everything


class _ScheduledModel(torch.nn.Module):
    """A batch goes forward and backward at once: `.loss.backward()` then has nothing left to do."""

    def __init__(self, team: Stages) -> None:
        super().__init__()
        self.stage = team.stage
        self.number = team.rank
        self.stages = team.world_size
        self.config = team.model.config
        self.accumulation = team.settings.gradient_accumulation_steps
        self.parts = micro_batches(team.settings, at_least=team.world_size)
        self.schedules: dict[tuple[int, ...], Any] = {}

    @property
    def is_last(self) -> bool:
        return self.number == self.stages - 1

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any,
        labels: Any,
    ) -> Output:
        rows = len(input_ids)
        input_ids, mask, labels = self.fill_up(input_ids, attention_mask, labels)
        shape = (rows, *input_ids.shape)
        if shape not in self.schedules:
            self.schedules[shape] = self.make_schedule(*shape)
        losses: list[Any] = []
        inputs = (input_ids,) if self.number == 0 else ()
        outputs = {"target": labels, "losses": losses} if self.is_last else {}
        self.schedules[shape].step(*inputs, mask=mask, **outputs)
        total = torch.zeros(())
        if losses:
            total = sum(loss.detach() for loss in losses) * self.accumulation
        return Output(total.requires_grad_())

    def fill_up(
        self,
        input_ids: Any,
        mask: Any,
        labels: Any,
    ) -> tuple[Any, Any, Any]:
        """All parts must have the same number of rows; the rows that fill up the last one do not count."""
        missing = -len(input_ids) % self.parts
        first_row = [0] * missing
        more_ids = input_ids[first_row]
        more_mask = mask[first_row]
        ignored = labels.new_full((missing,), IGNORED)
        input_ids = torch.cat([input_ids, more_ids])
        mask = torch.cat([mask, more_mask])
        labels = torch.cat([labels, ignored])
        return input_ids, mask, labels

    def make_schedule(
        self,
        rows: int,
        filled: int,
        tokens: int,
    ) -> Any:
        """What runs when in which process. Shapes must be known in advance, so each has a schedule of its own."""
        from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

        shape = (filled // self.parts, tokens)
        device = next(self.stage.parameters()).device
        hidden = torch.empty(
            *shape,
            self.config.hidden_size,
            device="meta",
            requires_grad=True,
        )
        ids = torch.empty(shape, dtype=torch.long, device="meta")
        logits = torch.empty(shape[0], self.config.num_labels, device="meta")
        inputs = ids if self.number == 0 else hidden
        outputs = logits if self.is_last else hidden
        stage = PipelineStage(
            self.stage,
            self.number,
            self.stages,
            device,
            input_args=inputs,
            output_args=outputs,
        )

        def partial_loss(logits: Any, labels: Any) -> Any:
            total = cross_entropy(
                logits,
                labels,
                ignore_index=IGNORED,
                reduction="sum",
            )
            return total / (rows * self.accumulation)

        return ScheduleGPipe(
            stage,
            self.parts,
            loss_fn=partial_loss,
            scale_grads=False,
        )
