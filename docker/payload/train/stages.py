"""The layers of BERT on several devices: model and pipeline parallel, with what each torch has for it.

`Pipeline` (torch before 2.4) is one process with a thread for each device, `Stages` (from 2.6) a process for each.
"""

import copy
import inspect
import os
import tempfile

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from train.errors import JobError
from train.parallel import Alone, Processes

UNCOUNTED = -100  # cross_entropy's own


def find_pipelines():
    """How this torch has pipelines: in processes (from 2.6), or in one (before 2.4)."""
    try:
        from torch.distributed.pipelining import ScheduleGPipe

        if "scale_grads" in inspect.signature(ScheduleGPipe).parameters:
            return Stages
    except ImportError:
        pass
    try:
        from torch.distributed.pipeline.sync import Pipe  # noqa: F401
    except ImportError:
        hint = "those from 1.13 to 2.3 can, and those from 2.6"
        raise JobError("torch %s has no way to put layers on several devices" % torch.__version__, hint) from None
    return Pipeline


class Stage(torch.nn.Module):
    """Some of the layers of BERT; the first has the embeddings as well, the last one the head."""

    def __init__(self, model, number, stages, settings, compute):
        super().__init__()
        layers = list(model.bert.encoder.layer)
        if len(layers) < stages:
            raise JobError("%d layers cannot be shared by %d stages" % (len(layers), stages), "use fewer")
        first, last = (len(layers) * part // stages for part in (number, number + 1))
        self.layers = torch.nn.ModuleList(layers[first:last])
        self.embeddings = model.bert.embeddings if number == 0 else None
        head = (model.bert.pooler, model.dropout, model.classifier) if number == stages - 1 else ()
        self.head = torch.nn.Sequential(*head) if head else None
        self.keeps_less, self.compute = settings.gradient_checkpointing, compute

    def forward(self, hidden, mask):
        """Token numbers or hidden states (rows × tokens × width), and the attention mask → hidden states or logits."""
        with self.compute():
            if self.embeddings is not None:
                hidden = self.embeddings(hidden)
            hidden_from = (1.0 - mask[:, None, None, :].to(hidden.dtype)) * torch.finfo(hidden.dtype).min
            for layer in self.layers:
                if self.keeps_less and self.training:
                    hidden = checkpoint(layer, hidden, hidden_from, use_reentrant=False)
                else:
                    hidden = layer(hidden, hidden_from)
                hidden = hidden[0] if isinstance(hidden, tuple) else hidden  # transformers 4 gives a tuple
            return (hidden if self.head is None else self.head(hidden)).float()


class Answer:
    """What a model answers with: `.loss`."""

    def __init__(self, loss):
        self.loss = loss


class Pipeline(Alone):
    """torch before 2.4: one process, a thread for each device (torch.distributed.pipeline)."""

    def wrap(self, model):
        from torch.distributed import rpc
        from torch.distributed.pipeline.sync import Pipe

        self.model = model
        seen = torch.cuda.device_count() if self.device == "cuda" else 0
        stages = self.settings.stages or seen or 2
        if seen and stages > seen:
            raise JobError("there are %d GPUs for %d stages" % (seen, stages), "give --stages %d, or less" % seen)
        parts = [_Passing(Stage(model, number, stages, self.settings, self.compute)) for number in range(stages)]
        for number, part in enumerate(parts):
            part.to("cuda:%d" % number if seen else "cpu")
        meeting = os.path.join(tempfile.mkdtemp(), "meeting")
        options = rpc.TensorPipeRpcBackendOptions(init_method="file://" + meeting)
        rpc.init_rpc("train", rank=0, world_size=1, rpc_backend_options=options)
        return _Piped(Pipe(torch.nn.Sequential(*parts), micro_batches(self.settings, 1), checkpoint="never"))

    def gather(self):
        return self.model if self.device == "cpu" else copy.deepcopy(self.model).to(self.device)

    def leave(self):
        from torch.distributed import rpc

        rpc.shutdown()


def micro_batches(settings, least):
    """How many parts of a batch follow one another."""
    return max(least, settings.micro_batches) if settings.parallel == "pipeline" else least


class _Passing(torch.nn.Module):
    """A stage that passes the mask on to the next one."""

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def forward(self, hidden, mask):
        return self.stage(hidden, mask), mask.to(hidden.device)


class _Piped(torch.nn.Module):
    def __init__(self, pipe):
        super().__init__()
        self.pipe = pipe

    def forward(self, input_ids, attention_mask, labels):
        logits, _ = self.pipe(input_ids, attention_mask).local_value()
        return Answer(cross_entropy(logits, labels.to(logits.device)))


class Stages(Processes):
    """torch from 2.6: a process for each stage (torch.distributed.pipelining)."""

    fp16 = False

    def wrap(self, model):
        self.model = model
        self.stage = Stage(model, self.rank, self.size, self.settings, self.compute).to(self.device)
        return _Scheduled(self)

    def share(self, rows):
        return rows

    def weight(self, rows):
        return 1.0

    def agree(self, loss, stop):  # only the last stage has a loss
        loss, stop = super().agree(loss, stop)
        return loss * self.size, stop

    def gather(self):
        names = self.names()
        mine = {names[id(parameter)]: parameter.detach().cpu() for parameter in self.stage.parameters()}
        found = self.collect(mine)
        if not self.leads:
            return None
        for part in found[1:]:
            self.model.load_state_dict(part, strict=False)
        return self.model.to(self.device)

    def optimizer_state(self, optimizer):
        mine = super().optimizer_state(optimizer)
        mine = {name: {key: value.cpu() for key, value in state.items()} for name, state in mine.items()}
        return {name: state for part in self.collect(mine) or () for name, state in part.items()}


class _Scheduled(torch.nn.Module):
    """A batch goes forward and backward at once: `.loss.backward()` finds nothing left to do."""

    def __init__(self, team):
        super().__init__()
        self.stage, self.schedules = team.stage, {}
        self.number, self.stages, self.settings = team.rank, team.size, team.settings
        self.parts = micro_batches(team.settings, team.size)
        self.width, self.labels = team.model.config.hidden_size, team.model.config.num_labels

    def forward(self, input_ids, attention_mask, labels):
        # All parts have the same number of rows; those that fill the last one up have a label that does not count.
        rows, more = len(input_ids), -len(input_ids) % self.parts
        fill = [0] * more
        input_ids, mask = (torch.cat([part, part[fill]]) for part in (input_ids, attention_mask))
        labels = torch.cat([labels, labels.new_full((more,), UNCOUNTED)])
        losses = []
        first = (input_ids,) if self.number == 0 else ()
        last = {"target": labels, "losses": losses} if self.number == self.stages - 1 else {}
        shape = (rows, *input_ids.shape)
        if shape not in self.schedules:
            self.schedules[shape] = self.schedule(*shape)
        self.schedules[shape].step(*first, mask=mask, **last)
        loss = sum(loss.detach() for loss in losses) * self.settings.accumulate if losses else torch.zeros(())
        return Answer(loss.requires_grad_())

    def schedule(self, rows, filled, tokens):
        """What goes when between the processes; shapes have to be known before, so each has one of its own."""
        from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

        shape = (filled // self.parts, tokens)
        device = next(self.stage.parameters()).device
        hidden = torch.empty(*shape, self.width, device="meta", requires_grad=True)
        numbers = torch.empty(shape, dtype=torch.long, device="meta")
        logits = torch.empty(shape[0], self.labels, device="meta")
        stage = PipelineStage(
            self.stage, self.number, self.stages, device,
            input_args=numbers if self.number == 0 else hidden,
            output_args=logits if self.number == self.stages - 1 else hidden,
        )  # fmt: skip

        def part_of_loss(logits, labels):
            whole = rows * self.settings.accumulate
            return cross_entropy(logits, labels, ignore_index=UNCOUNTED, reduction="sum") / whole

        return ScheduleGPipe(stage, self.parts, loss_fn=part_of_loss, scale_grads=False)
