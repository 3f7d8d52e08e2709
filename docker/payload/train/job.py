"""The fine-tune, from the data to the saved model.

Read in this order: options.py, data.py (where the texts come from), model.py (tokenizer and BERT), loop.py (training
and evaluation), and this file. Next to them: pretrain.py, parallel.py, stages.py and team.py (several processes or
devices), compiling.py, record.py and checkpoints.py (scores, resuming), outputs.py (plot and report).

    train                                                     the bundled reviews, in seconds, without a network
    train --model bert-base-uncased --data imdb --output runs/imdb      the guide's job
    torchrun --nproc-per-node 2 --no-python train …                     in two processes
"""

from __future__ import annotations

import copy
import errno
import io
import json
import os
import resource
import sys
import warnings
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

from train import hub

# Before the libraries below are imported.
hub.set_environment()

import torch
from datasets import disable_progress_bar

from train.compiling import failed_to_compile
from train.data import load_data
from train.errors import JobError, first_line
from train.interrupts import STOP
from train.loop import autocast, evaluate, train
from train.model import load_model, make_model, make_tokenizer, tokenize
from train.options import Settings, parse_settings
from train.outputs import plot, write_report
from train.parallel import SingleProcess
from train.pretrain import pretrain
from train.record import OnStep, Recorder, Say
from train.team import make_team

# What the acceptance suite and the tests call.
__all__ = [
    "JobError",
    "evaluate",
    "fine_tune",
    "load_data",
    "load_model",
    "main",
    "make_model",
    "make_tokenizer",
    "parse_settings",
    "save",
    "tokenize",
    "train",
]

if not sys.stderr.isatty():
    disable_progress_bar()


class Result(NamedTuple):
    """What `fine_tune` returns."""

    measured: dict[str, Any]
    model: Any
    tokenizer: Any


@dataclass
class Evaluation:
    """Evaluates the model of all processes on the rows that were held out."""

    data: Any
    negated: Sequence[Any]
    tokenizer: Any
    batch: int
    team: SingleProcess

    def score(self, model: Any, device: str = "cpu") -> tuple[float, float]:
        """The accuracy on all rows, and on the negated ones."""
        scores: tuple[float, float] = evaluate(
            model,
            self.data,
            device,
            negated=self.negated,
            tokenizer=self.tokenizer,
            batch=self.batch,
        )
        return scores

    def __call__(self) -> Any:
        """The same on the main process, for all processes."""
        model = self.team.gather_model()
        scores = (
            self.score(model, self.team.device) if self.team.is_main_process else None
        )
        return self.team.broadcast(scores)


def fine_tune(
    settings: Settings, say: Say = str, on_step: OnStep | None = None
) -> Result | None:
    """The whole job; None on processes other than the main one."""
    device = choose_device(settings)
    team = make_team(settings, device, partial(autocast, settings, device))
    if not team.is_main_process:
        say = str
    say(describe_hardware(team))
    rows, held_out, labels = load_data(settings)
    model, tokenizer = load_model(settings, labels)
    train_data = tokenize(rows, tokenizer, settings)
    test_data = tokenize(held_out, tokenizer, settings)
    negated = held_out["negated"] if "negated" in held_out.column_names else []
    pretraining = pretrain(
        model,
        tokenizer,
        (rows, held_out),
        settings,
        team=team,
        say=say,
    )

    evaluation = Evaluation(
        test_data,
        negated,
        tokenizer,
        4 * settings.batch_size,
        team,
    )
    recorder = Recorder(settings, evaluation, say, on_step)
    losses = train(
        model,
        train_data,
        settings,
        device,
        tokenizer=tokenizer,
        callbacks=recorder,
        team=team,
    )
    seconds = recorder.seconds()
    recorder.close()
    STOP.can_save = False
    model = team.gather_model()
    team.shutdown()
    if not team.is_main_process:
        return None
    measured = {
        **measure(
            recorder,
            losses,
            seconds,
            settings,
            samples=len(train_data),
        ),
        **measure_model(model, team),
        **pretraining,
    }
    if settings.quantize:
        measured["quantized"] = quantize(model, evaluation)
        say(
            "quantized: {share:.2f} of the size, accuracy {accuracy:.3f}".format(
                **measured["quantized"]
            )
        )
    return Result(measured, model, tokenizer)


def choose_device(settings: Settings) -> str:
    """ "cuda" or "cpu"; raises `JobError` for what this machine or this torch cannot do."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = "cuda" if gpus and settings.device != "cpu" else "cpu"
    if settings.device == "cuda" and not gpus:
        raise JobError(
            "no GPU is visible",
            "give the container one: `docker run --gpus all …`",
        )
    check_precision(settings.precision, device)
    if device == "cuda":
        rank = int(os.environ.get("LOCAL_RANK", "0"))
        if rank >= gpus:
            message = f"this is process {rank + 1} of this node, which has {gpus} GPUs"
            hint = "start one process per GPU: torchrun --nproc-per-node gpu"
            raise JobError(message, hint)
        torch.cuda.set_device(rank)
    return device


def check_precision(precision: str, device: str) -> None:
    if precision in ("fp16", "tf32") and device == "cpu":
        raise JobError(
            f"--precision {precision} needs a GPU",
            "use --precision bf16 or fp32",
        )
    if precision == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported():
        raise JobError(
            "this GPU does not support bf16",
            "use --precision fp16",
        )


def device_name(device: str) -> str:
    return str(torch.cuda.get_device_name()) if device == "cuda" else "cpu"


def describe_hardware(team: SingleProcess) -> str:
    line = f"device: {device_name(team.device)}, {torch.get_num_threads()} threads"
    if team.world_size > 1:
        line += f", {team.world_size} processes"
    return line


def measure(
    recorder: Recorder,
    losses: list[float],
    seconds: float,
    settings: Settings,
    *,
    samples: int,
) -> dict[str, Any]:
    """How well and how fast it learned."""
    last = losses[-10:]
    return {
        "accuracy": recorder.epochs[-1]["accuracy"],
        "negated": recorder.epochs[-1]["negated"],
        "loss": sum(last) / len(last),
        "losses": [round(loss, 5) for loss in losses],
        "epochs": recorder.epochs,
        "steps": len(losses),
        "seconds": round(seconds, 2),
        "samples_per_second": round(settings.epochs * samples / seconds, 2),
        "tokens": settings.max_length,
        "seed": settings.seed,
    }


def measure_model(model: Any, team: SingleProcess) -> dict[str, Any]:
    """What it took."""
    return {
        "peak_memory_bytes": peak_memory(team.device),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "device": device_name(team.device),
        "processes": team.world_size,
    }


def peak_memory(device: str) -> int:
    """Bytes: of the GPU if there is one, else of this process."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def quantize(model: Any, evaluation: Evaluation) -> dict[str, float]:
    """The model with 8-bit weights in its linear layers: its size, the share of the model's, and its accuracy."""
    library = getattr(torch, "ao", torch).quantization
    with warnings.catch_warnings():
        # torch announces a successor that BERT does not need yet.
        warnings.simplefilter("ignore")
        plain = copy.deepcopy(model).cpu().eval()
        small = library.quantize_dynamic(plain, {torch.nn.Linear}, dtype=torch.qint8)
    size = saved_size(small)
    accuracy, negated = evaluation.score(small)
    return {
        "bytes": size,
        "share": round(size / saved_size(model), 3),
        "accuracy": accuracy,
        "negated": negated,
    }


def saved_size(model: Any) -> int:
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    return stream.tell()


# --- the command ---------------------------------------------------------------------------------------------------


def save(
    folder: str,
    measured: Mapping[str, Any],
    model: Any,
    tokenizer: Any,
) -> None:
    """Model (safetensors), tokenizer and metrics.json."""
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    Path(folder, "metrics.json").write_text(
        json.dumps(measured, indent=1), encoding="utf-8"
    )


LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "ncclRemoteError",
    "communicator was aborted",
)
LOST_HINT = (
    "see its output. If it has none and torchrun reports SIGKILL (-9), the kernel killed it, most likely for "
    "memory: halve --batch-size (--gradient-accumulation-steps 2 keeps the size of a step), or give the container "
    "more (--memory, --shm-size). With --save-every and --resume a run continues, with torchrun --max-restarts by "
    "itself"
)


# What torch and NCCL say when /dev/shm is full. Their own words can name the disk, which has room.
SHARED_MEMORY = (
    "Bus error",
    "shared memory(shm)",
    "shared memory (shm)",
    "creating shared memory segment",
    "unable to write to file </torch_",
    "DataLoader worker (pid(s)",
)
SHARED_MEMORY_HINT = "give the container more: `docker run --shm-size 1g IMAGE train`"


OUTPUT_HINT = (
    "mount a directory of yours and run as its owner: `mkdir -p runs && docker run --user $(id -u):$(id -g) "
    '--volume "$PWD/runs:/runs" IMAGE train --output /runs/first`'
)


def explain(error: BaseException) -> tuple[str, str]:
    """An error as one line for the user, and what to change; ("", "") for one that only a developer can fix."""
    text = str(error)
    line = first_line(error)
    shortage = explain_shortage(text, line)
    if shortage:
        return shortage
    if any(sign in text for sign in LOST):
        return f"another process of this run has died: {line[-200:]}", LOST_HINT
    if failed_to_compile(error):
        return f"torch.compile failed: {line[:300]}", "leave out --compile"
    if isinstance(error, (JobError, OSError)):
        return text, getattr(error, "hint", "")
    return "", ""


def explain_shortage(text: str, line: str) -> tuple[str, str] | None:
    """The same for memory, shared memory or disk space that has run out."""
    if "out of memory" in text or "can't allocate memory" in text:
        hint = "halve --batch-size or shorten --max-length; on a GPU, check who else uses it: `nvidia-smi`"
        return f"out of memory: {line[:200]}", hint
    if any(sign in text for sign in SHARED_MEMORY):
        return (
            f"/dev/shm has {shared_memory()}, probably too little: {line[:200]}",
            SHARED_MEMORY_HINT,
        )
    # OSError's words, and those in safetensors' own error.
    if "No space left on device" in text:
        return (
            "the disk is full",
            "free some space, then continue from the last checkpoint with `--resume`",
        )
    return None


def shared_memory() -> str:
    """`64 MB`, which is what `docker run` gives by default."""
    try:
        disk = os.statvfs("/dev/shm")
    except OSError:
        return "no memory"
    return f"{disk.f_frsize * disk.f_blocks >> 20} MB"


def main(settings: Settings) -> int:
    """Run the job and save what it leaves; returns the exit code."""
    try:
        if settings.output:
            make_output(Path(settings.output))
        result = fine_tune(settings, say=partial(print, flush=True))
        if result and settings.output:
            save_outputs(result, settings, settings.output)
    except SystemExit as end:
        # Interrupted, and saved.
        return int(end.code or 0)
    except Exception as error:
        message, hint = explain(error)
        if not message:
            raise
        print(f"error: {message}", file=sys.stderr)
        if hint:
            print(f"hint: {hint}", file=sys.stderr)
        return 1
    if result:
        print_summary(result.measured, settings.output)
    return 0


def make_output(output: Path) -> None:
    """Create the directory; raises `JobError` if it cannot be written, before anything is trained."""
    denied = False
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        denied = True
    if denied or not os.access(output, os.W_OK | os.X_OK):
        raise JobError(
            f"--output {output} cannot be written by the user of this container, UID {os.getuid()}",
            OUTPUT_HINT,
        )


def save_outputs(result: Result, settings: Settings, output: str) -> None:
    save(output, result.measured, result.model, result.tokenizer)
    plot(Path(output))
    write_report(Path(output), result.measured, asdict(settings))


def print_summary(measured: Mapping[str, Any], output: str | None) -> None:
    speed = "{steps} steps in {seconds:.1f} s, {samples_per_second:.0f} texts per second, loss {loss:.4f}"
    print(speed.format(**measured))
    if output:
        print(f"model, metrics, learning-curve.png and report.html: {output}")
