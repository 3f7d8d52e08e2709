"""The command `finetune`. Options and data come first: the libraries take seconds to import."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict

# `python …/finetune` puts this directory first on the path; the package is found from the one above.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from finetune.data import Data, is_local, labels_of, load_data
from finetune.options import FIXED, Settings, fail, parse_settings
from train import hub
from train.errors import JobError
from train.interrupts import end_process, handle_interrupt

OURS = (
    "checkpoint-*",
    "tensorboard",
    "merged",
    "metrics.json*",
    "finetune.json",
    "learning-curve.*",
    "report.html",
    "predictions.jsonl",
    "README.md",
    "config.json",
    "adapter_*",
    "model*",
    "pytorch_model*",
    "*token*",
    "vocab*",
    "merges.txt",
    "chat_template*",
    "generation_config.json",
    "settings.json",
)


def main() -> None:
    # As process 1 of a container, Python would not even notice SIGTERM by default.
    signal.signal(signal.SIGINT, handle_interrupt)
    signal.signal(signal.SIGTERM, handle_interrupt)
    # Else tokenizers warns where matplotlib starts a process.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Several processes say what is wrong once.
    if int(os.environ.get("RANK", "0")) > 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        if sys.argv[1:2] == ["predict"]:
            from finetune import predict

            hub.set_environment()
            code = predict.main(sys.argv[2:])
        else:
            code = finetune(parse_settings())
    except JobError as error:
        fail(str(error), error.hint)
    end_process(code)


def finetune(settings: Settings) -> int:
    """The whole job; returns the exit code."""
    output = Path(settings.output or "")
    check_output(output, settings)
    check_token(settings)
    data = None
    if is_local(settings):
        data = load_data(settings)
        report_data(data, settings)
    if settings.check:
        return 0
    prepare_output(output, settings)
    hub.ACCESS.allowed = needs_hub(settings)
    hub.set_environment()
    if data is None:
        data = load_data(settings)
        report_data(data, settings)
    try:
        run(settings, data, output)
    except SystemExit as end:
        # Interrupted, and saved.
        return int(end.code or 0)
    except JobError:
        raise
    except Exception as error:
        return explain(error)
    return 0


def run(settings: Settings, data: Data, output: Path) -> None:
    """Train, save, report, predict, upload."""
    from finetune import report, training
    from finetune.callbacks import is_main_process

    done = training.train(settings, data)
    training.save(done, settings, data)
    if not is_main_process():
        return
    report.write_report(output, done.measured, settings, describe(data, settings))
    report.write_card(output, done.measured, settings)
    print(report.summary(done.measured, settings))
    print(f"model, metrics, learning-curve.png and report.html: {output}", flush=True)
    if settings.predict:
        predict_file(done, settings, data, output)
    if settings.push_to_hub:
        push(settings.push_to_hub, output)


def predict_file(
    done: Any,
    settings: Settings,
    data: Data,
    output: Path,
) -> None:
    """`--predict FILE`: on the device that the model is on already."""
    from finetune.predict import Predictor, read_rows

    model = done.trainer.model.eval()
    device = str(done.trainer.args.device)
    predictor = Predictor(
        model,
        done.tokenizer,
        settings,
        data.labels,
        device,
    )
    path = output / "predictions.jsonl"
    with path.open(
        "w",
        encoding="utf-8",
    ) as stream:
        predictor.write(
            read_rows(
                str(settings.predict),
                settings,
            ),
            stream,
        )
    print(
        f"predictions: {path}",
        flush=True,
    )


def push(name: str, output: Path) -> None:
    """Upload what a user of the model needs; a new repository is private."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(name, private=True, exist_ok=True)
    api.upload_folder(
        repo_id=name,
        folder_path=str(output),
        ignore_patterns=[
            "checkpoint-*",
            "tensorboard/*",
            "predictions.jsonl",
            "merged/*",
        ],
        commit_message="Upload by finetune",
    )
    print(f"uploaded to {name}", flush=True)


# --- before the libraries are imported -----------------------------------------------------------------------------


def needs_hub(settings: Settings) -> bool:
    sources = (
        [settings.model] if is_local(settings) else [settings.model, settings.data]
    )
    missing = [source for source in sources if not Path(source).exists()]
    return bool(missing or settings.push_to_hub)


def check_token(settings: Settings) -> None:
    """An upload that fails for want of a token would fail after the training."""
    if not settings.push_to_hub or os.environ.get("HF_TOKEN"):
        return
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    home = os.environ.get("HF_HOME", str(Path(cache, "huggingface")))
    if not Path(home, "token").is_file():
        raise JobError(
            "--push-to-hub needs a token",
            "set HF_TOKEN, or run `huggingface-cli login`",
        )


def check_output(output: Path, settings: Settings) -> None:
    """Nothing is overwritten unless the user says so, and a resumed run is the same run."""
    if int(os.environ.get("RANK", "0")) > 0:
        # The main process may have made it a moment ago.
        return
    if settings.resume:
        check_same(output / "settings.json", settings)
        return
    if output.is_dir() and any(output.iterdir()) and not settings.overwrite:
        # torchrun starts a run again whose process has died.
        if os.environ.get("TORCHELASTIC_RUN_ID", "?") == read_settings(output).get(
            "run"
        ):
            return
        raise JobError(
            f"{output} is not empty",
            "choose another --output, continue with --resume, or remove that run with --overwrite",
        )
    if output.exists() and not output.is_dir():
        raise JobError(f"--output {output} is a file")


def read_settings(output: Path) -> Dict[str, Any]:
    try:
        document = json.loads((output / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def check_same(path: Path, settings: Settings) -> None:
    """Raise `JobError` for a setting that makes the resumed run another one."""
    before = read_settings(path.parent)
    for name in FIXED:
        value = getattr(settings, name)
        if name in before and before[name] != value:
            option = f"--{name.replace('_', '-')}"
            raise JobError(
                f"the run in {path.parent} was started with {option} {before[name]}, not {value}",
                "resume it with the same options, or choose another --output",
            )


def prepare_output(output: Path, settings: Settings) -> None:
    """The directory, without an earlier run where --overwrite says so; only what `finetune` writes is removed."""
    if int(os.environ.get("RANK", "0")) > 0:
        return
    if settings.overwrite and output.is_dir():
        for pattern in OURS:
            for path in output.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
    try:
        output.mkdir(parents=True, exist_ok=True)
        document = {**asdict(settings), "run": os.environ.get("TORCHELASTIC_RUN_ID")}
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (output / "settings.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise JobError(
            f"--output {output} cannot be written by UID {os.getuid()}: {error.strerror}",
            "mount a directory of yours and run as its owner: `docker run --user $(id -u):$(id -g) "
            '--volume "$PWD/runs:/runs" IMAGE finetune --output /runs/first …`',
        ) from error


def describe(
    data: Data,
    settings: Settings,
) -> Dict[str, str]:
    """The rows of each split, and how often each label occurs."""
    lines = {}
    for split, table in data.tables.items():
        lines[split] = f"{len(table)} rows of {table.source}"
    counts = labels_of(
        data.tables["train"],
        settings,
    )
    most = [f"{name} {count}" for name, count in counts.most_common(20)]
    if most:
        lines["labels to train on"] = ", ".join(most)
    for number, note in enumerate(
        data.notes,
        1,
    ):
        lines[f"note {number}"] = note
    return lines


def report_data(data: Data, settings: Settings) -> None:
    for note in data.notes:
        print(note)
    for name, text in describe(data, settings).items():
        if not name.startswith("note "):
            print(f"{name}: {text}", flush=True)


def explain(error: Exception) -> int:
    """One line for an error that the user can do something about; raises the others again."""
    from train import job

    message, hint = job.explain(error)
    if not message:
        raise error
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
