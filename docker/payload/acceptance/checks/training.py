"""Does BERT learn, and does it learn right?"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import math
import os
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Sequence

from acceptance.checks.inspection import LIBRARIES, Answer, Failure, Skipped

if TYPE_CHECKING:
    from acceptance.checks.inspection import Inspection

RUN_TRAIN = "run `train` in the image and compare its epochs with docs/decisions/0006-the-fine-tune.md"


def load_job() -> Any:
    """The training job of this image, or the one that came with the suite for an image without."""
    train = importlib.import_module("train")
    if hasattr(train, "__path__"):
        return importlib.import_module("train.job")
    return train  # images of an older envbuilder have it as one module


def job_check(check: Callable[[Inspection], Answer]) -> Callable[[Inspection], Answer]:
    """Decorate a check of the training job: where the job breaks, the check has failed."""

    @functools.wraps(check)
    def wrapper(inspection: Inspection) -> Answer:
        try:
            return check(inspection)
        except (Failure, Skipped):
            raise
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name in LIBRARIES:
                raise  # no evidence against the job
            raise Failure(
                f"the training job broke: {describe(error)}", remedy=RUN_TRAIN
            ) from error

    return wrapper


def describe(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()[:300]}"


# --- the whole fine-tune -------------------------------------------------------------------------------------------


def trained(inspection: Inspection) -> dict[str, Any]:
    """The figures of the bundled fine-tune, which runs once for the four checks that look at it."""
    training = inspection.training
    if not training.figures and training.error is None:
        job = load_job()
        # Holds if a deadline ends the fine-tune: it is not started again for the next check.
        training.error = "it did not end in time"
        try:
            fine_tune(job, inspection)
        except Exception as error:
            training.error = describe(error)
            raise
        training.error = None
    if training.error is not None:
        raise Failure(f"the training job broke: {training.error}", remedy=RUN_TRAIN)
    return training.figures


def fine_tune(job: Any, inspection: Inspection) -> None:
    settings = job.parse_settings([])

    def on_step(step: int, steps: int, loss: float) -> None:
        if step % 10 == 0 or step == steps:
            inspection.on_progress(step, steps, f"loss {loss:.3f}")

    use_one_thread()
    started = time.process_time()
    figures = job.fine_tune(settings, on_step=on_step)[0]
    seconds = time.process_time() - started
    training = inspection.training
    training.figures = figures
    training.processor_seconds = round(seconds, 2)


def use_one_thread() -> None:
    """As fast for so small a model, and on a busy machine many times faster than two."""
    import torch

    torch.set_num_threads(1)


@job_check
def check_accuracy(inspection: Inspection) -> Answer:
    return inspection.require(
        "training.accuracy",
        trained(inspection)["accuracy"],
        detail="it did not learn to classify the reviews",
        remedy=RUN_TRAIN,
    )


@job_check
def check_negated(inspection: Inspection) -> Answer:
    return inspection.require(
        "training.negated",
        trained(inspection)["negated"],
        detail="it counts words and ignores negation",
        remedy=RUN_TRAIN,
    )


@job_check
def check_loss(inspection: Inspection) -> Answer:
    return inspection.require(
        "training.loss",
        trained(inspection)["loss"],
        detail="the training loss stays high",
        remedy=RUN_TRAIN,
    )


@job_check
def check_seconds(inspection: Inspection) -> Answer:
    """Seconds of its one thread: on a busy machine the clock runs on while others work."""
    trained(inspection)
    return inspection.require(
        "training.seconds",
        inspection.training.processor_seconds,
        detail="training takes too long",
        remedy="check whether this is a slow build of torch or a slow processor",
        unit="s",
    )


@job_check
def check_throughput(inspection: Inspection) -> Answer:
    """Training's arithmetic against a matrix product's, measured next to it: a bound that holds on any machine."""
    figures = trained(inspection)
    # Forward and backward pass take six operations for each parameter and token.
    operations = 6 * figures["parameters"] * figures["tokens"]
    speed = figures["samples_per_second"] * operations
    return inspection.require(
        "training.throughput",
        round(speed / matmul_speed(), 4),
        detail="training is far slower than this machine allows",
        remedy="check whether one thread does all the work (OMP_NUM_THREADS), or torch is a slow build",
    )


def matmul_speed(size: int = 768, seconds: float = 1.0) -> float:
    """Operations in a second of a matrix product."""
    import torch

    a = torch.randn(size, size)
    b = torch.randn(size, size)
    a @ b  # the first one also starts threads
    products = 0
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        a @ b
        products += 1
    operations = products * 2 * size**3
    return operations / (time.monotonic() - started)


# --- what accuracy does not see: exact comparisons on a few steps --------------------------------------------------

BATCH_SIZE = 32
EIGHT_STEPS = (
    "--rows",
    "128",
    "--held-out",
    "16",
    "--epochs",
    "2",
    "--batch",
    str(BATCH_SIZE),
)
DIFFERENT = 1e-4  # losses further apart are not the same


@dataclass
class ShortRun:
    """Settings, data and tokenizer of a run of a few steps."""

    job: Any
    settings: Any
    data: Any
    held_out: Any
    tokenizer: Any

    def make_model(self) -> Any:
        return self.job.make_model(self.settings, len(self.tokenizer))

    def train(self, model: Any, settings: Any = None) -> list[float]:
        """Train a model on the data; returns the loss of each step."""
        losses: list[float] = self.job.train(
            model, self.data, settings or self.settings, "cpu"
        )
        return losses


def short_run() -> ShortRun:
    job = load_job()
    use_one_thread()
    settings = job.parse_settings(list(EIGHT_STEPS))
    rows, held_out, _ = job.load_data(settings)
    tokenizer = job.make_tokenizer()
    return ShortRun(
        job=job,
        settings=settings,
        data=job.tokenize(rows, tokenizer, settings),
        held_out=job.tokenize(held_out, tokenizer, settings),
        tokenizer=tokenizer,
    )


def largest_difference(losses: Sequence[float], expected: Sequence[float]) -> float:
    if len(losses) != len(expected):
        return math.inf
    return largest([abs(a - b) for a, b in zip(losses, expected)])


def largest(values: Sequence[float]) -> float:
    """NaN if any is, which `max` would pass over."""
    return math.nan if any(map(math.isnan, values)) else max(values)


@job_check
def check_repeatable(inspection: Inspection) -> Answer:
    """The same seed gives the same losses."""
    run = short_run()
    first = run.train(run.make_model())
    second = run.train(run.make_model())
    return inspection.require(
        "training.repeatable",
        largest_difference(first, second),
        detail="the same seed gives different losses",
        remedy="seed weights, order and dropout",
    )


@job_check
def check_padding(inspection: Inspection) -> Answer:
    """Logits are the same with padding and without: the attention mask is right and is used."""
    import torch

    run = short_run()
    model = run.make_model().eval()
    pad_token = run.tokenizer.pad_token_id
    with torch.no_grad():
        differences = [
            padding_difference(model, row, pad_token) for row in run.held_out
        ]
    return inspection.require(
        "training.padding",
        largest(differences),
        detail="padding changes predictions",
        remedy="the attention mask must be 0 on padding: see `tokenize` in the training job",
    )


def padding_difference(model: Any, row: Any, pad_token: int) -> float:
    import torch

    ids = row["input_ids"]
    padded = model(
        input_ids=ids[None],
        attention_mask=row["attention_mask"][None],
    )
    words = ids[ids != pad_token]
    bare = model(
        input_ids=words[None],
        attention_mask=torch.ones_like(words)[None],
    )
    difference: float = (padded.logits - bare.logits).abs().max().item()
    return difference


# --- a checkpoint, and going on from it ----------------------------------------------------------------------------

PICKLED = (".bin", ".pt", ".pth", ".pkl")


@job_check
def check_checkpoint(inspection: Inspection) -> Answer:
    """What is saved (safetensors, nothing else) and loaded again predicts the same and goes on with the same loss."""
    import torch

    run = short_run()
    model = run.make_model()
    run.train(model)
    with tempfile.TemporaryDirectory() as folder:
        run.job.save(folder, {}, model, run.tokenizer)
        require_safetensors(os.listdir(folder))
        loaded = type(model).from_pretrained(folder)
    with torch.no_grad():
        difference = predictions(run, model) - predictions(run, loaded)
    losses = further_losses(run, loaded)
    expected = further_losses(run, model)
    worst_loss = largest_difference(losses, expected)
    worst_logit = difference.abs().max().item()
    return inspection.require(
        "training.checkpoint",
        largest([worst_loss, worst_logit]),
        detail="the loaded model differs from the saved one",
        remedy="see `save` in the training job",
    )


def require_safetensors(names: Sequence[str]) -> None:
    pickled = [name for name in names if name.endswith(PICKLED)]
    if pickled or "model.safetensors" not in names:
        raise Failure(
            "the checkpoint is not saved as safetensors",
            value=", ".join(sorted(names)),
            bound="safetensors only",
            remedy="save with safe_serialization=True: unpickling runs whatever is in the file",
        )


def predictions(run: ShortRun, model: Any) -> Any:
    batch = {name: value[:16] for name, value in run.held_out[:16].items()}
    return model.eval()(**batch).logits


def further_losses(run: ShortRun, model: Any) -> list[float]:
    """The losses of one more epoch, the same for two models that are the same."""
    import torch

    settings = run.job.parse_settings([*EIGHT_STEPS, "--epochs", "1"])
    torch.manual_seed(2)
    return run.train(model, settings)


class Cut(Exception):
    """Ends a run in its middle."""


# The last checkpoint is one step earlier: in the middle of an epoch, and between its last batch and its evaluation.
CUTS = (4, 5)


@job_check
def check_resume(inspection: Inspection) -> Answer:
    """A run that is cut off after a checkpoint and resumed has the losses of one that was not."""
    job = load_job()
    options = [*EIGHT_STEPS, "--save-every", "1"]
    expected = job.fine_tune(job.parse_settings(options))[0]["losses"]
    differences = []
    for step in CUTS:
        resumed = resumed_losses(job, options, step)
        differences.append(largest_difference(resumed, expected))
    return inspection.require(
        "training.resume",
        largest(differences),
        detail="a resumed run diverges from an uninterrupted one",
        remedy="see what the training job's checkpoints keep",
    )


def resumed_losses(job: Any, options: Sequence[str], last_step: int) -> list[float]:
    """The losses of a run that ends during a step, before its checkpoint, and is resumed."""

    def cut(step: int, steps: int, loss: float) -> None:
        if step == last_step:
            raise Cut

    with tempfile.TemporaryDirectory() as folder:
        words = [*options, "--output", folder]
        with contextlib.suppress(Cut):
            job.fine_tune(job.parse_settings(words), on_step=cut)
        settings = job.parse_settings([*words, "--resume"])
        losses: list[float] = job.fine_tune(settings)[0]["losses"]
    return losses


# --- a reference implementation ------------------------------------------------------------------------------------


@job_check
def check_reference(inspection: Inspection) -> Answer:
    """The losses are those of a loop written down here once more: gradients by autograd, AdamW by its formulas."""
    run = short_run()
    model = run.make_model()
    turn_off_dropout(model)
    other = copy.deepcopy(model)
    losses = run.train(model)
    expected = reference_losses(other, run.data, run.settings)
    return inspection.require(
        "training.reference",
        largest_difference(losses, expected),
        detail=f"the losses leave the reference at step {first_difference(losses, expected)}",
        remedy=(
            "see the loop of the training job: loss.backward, optimizer.step, schedule.step and zero_grad, "
            "each once a step"
        ),
    )


def turn_off_dropout(model: Any) -> None:
    """Nothing is left to chance then."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0


def first_difference(losses: Sequence[float], expected: Sequence[float]) -> int:
    """The first step at which two runs differ, from 1 on."""
    pairs = zip(losses, expected)
    for step, (loss, expected_loss) in enumerate(pairs, 1):
        difference = abs(loss - expected_loss)
        if difference >= DIFFERENT or math.isnan(difference):
            return step
    return len(expected)


def reference_losses(model: Any, data: Any, settings: Any) -> list[float]:
    """One loss for each step of the whole run, with linear warm-up and decay."""
    import torch

    order = torch.Generator().manual_seed(settings.seed)
    steps = settings.epochs * math.ceil(len(data) / BATCH_SIZE)
    optimizer = ReferenceAdamW(model)
    losses: list[float] = []
    model.train()
    for _ in range(settings.epochs):
        rows = torch.randperm(len(data), generator=order)
        for batch in rows.split(BATCH_SIZE):
            rate = learning_rate(settings, len(losses), steps)
            loss = model(**data[batch.tolist()]).loss
            optimizer.step(loss, rate)
            losses.append(loss.item())
    return losses


def learning_rate(settings: Any, step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to nothing."""
    warmup = int(steps * settings.warmup)
    if step < warmup:
        share = step / warmup
    else:
        share = (steps - step) / (steps - warmup)
    rate: float = settings.learning_rate * share
    return rate


BETA_1, BETA_2 = 0.9, 0.999
EPSILON = 1e-8
WEIGHT_DECAY = 0.01


class ReferenceAdamW:
    """AdamW (Loshchilov and Hutter, 2019) in plain arithmetic."""

    def __init__(self, model: Any) -> None:
        self.parameters = [
            parameter for parameter in model.parameters() if parameter.requires_grad
        ]
        self.moments = [Moments(parameter) for parameter in self.parameters]
        self.steps = 0

    def step(self, loss: Any, rate: float) -> None:
        import torch

        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        self.steps += 1
        with torch.no_grad():
            for moments, gradient in zip(self.moments, gradients):
                if gradient is not None:
                    moments.add(gradient)
                    moments.update(self.steps, rate)


class Moments:
    """A parameter, and the running means of its gradient and of the gradient's square."""

    def __init__(self, parameter: Any) -> None:
        import torch

        self.parameter = parameter
        self.mean = torch.zeros_like(parameter)
        self.square = torch.zeros_like(parameter)

    def add(self, gradient: Any) -> None:
        self.mean.lerp_(gradient, 1 - BETA_1)
        self.square.lerp_(gradient**2, 1 - BETA_2)

    def update(self, step: int, rate: float) -> None:
        """Move the parameter. Both means began at nothing, which their corrections make up for."""
        mean_correction = 1 - BETA_1**step
        square_correction = 1 - BETA_2**step
        mean = self.mean / mean_correction
        square = self.square / square_correction
        direction = mean / (square.sqrt() + EPSILON)
        decay = rate * WEIGHT_DECAY
        self.parameter.mul_(1 - decay)
        self.parameter.sub_(rate * direction)
