"""Do transformers' Trainer and accelerate take a step, and the same one as a plain loop?

The bundled job has a loop of its own. The two are what most people train with, and they use each other's insides
without bounds in their metadata: with an accelerate that is too new, `Trainer(...)` raises.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import sys
import tempfile
from importlib import metadata
from typing import TYPE_CHECKING, Any, Callable, Dict, List

from acceptance.checks.inspection import LIBRARIES, Answer, Failure, Skipped

if TYPE_CHECKING:
    from acceptance.checks.inspection import Inspection

RATE = 0.1
ROWS = 2
WORDS = 8

Row = Dict[str, Any]


def step_check(
    subject: str, *packages: str
) -> Callable[[Callable[[Inspection], Answer]], Callable[[Inspection], Answer]]:
    """Decorate the check of a library's training step: where the step raises, the check has failed."""

    def decorate(
        check: Callable[[Inspection], Answer],
    ) -> Callable[[Inspection], Answer]:
        @functools.wraps(check)
        def wrapper(inspection: Inspection) -> Answer:
            try:
                return check(inspection)
            except (Failure, Skipped):
                raise
            except Exception as error:
                if isinstance(error, ModuleNotFoundError) and error.name in LIBRARIES:
                    raise  # no evidence against the step
                text = f"{type(error).__name__}: {str(error).strip()[:300]}"
                raise Failure(
                    f"{subject} broke: {text}", remedy=remedy_for(packages)
                ) from error

        return wrapper

    return decorate


def remedy_for(packages: tuple[str, ...]) -> str:
    """The versions that do not go together, and who chooses some that do."""
    versions = []
    for name in packages:
        version = installed(name)
        if version:
            versions.append(f"{name} {version}")
    here = " and ".join(versions)
    return f"use versions of one time, as `envbuilder lock --transformers X.Y` does: here are {here}"


def installed(name: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def require_accelerate(newest_without: tuple[int, ...] = ()) -> None:
    """Skip the check if accelerate is not installed: an image that envbuilder did not build may lack it."""
    if installed("accelerate") is not None:
        return
    version = installed("transformers") or "0"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers > newest_without:
        raise Skipped("accelerate is not installed")


# --- the model, the rows and the step that is expected --------------------------------------------------------------


def small_model() -> Any:
    """A BERT of one layer without dropout, the same each time."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=WORDS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=2,
    )
    return BertForSequenceClassification(config)


def small_rows() -> List[Row]:
    """One batch: `input_ids` and `attention_mask` of `WORDS` tokens, and a label."""
    import torch

    torch.manual_seed(1)
    rows = []
    for label in range(ROWS):
        ids = torch.randint(1, 32, (WORDS,))
        mask = torch.ones_like(ids)
        row = {"input_ids": ids, "attention_mask": mask, "labels": label}
        rows.append(row)
    return rows


def as_batch(rows: List[Row]) -> Row:
    import torch

    return {
        "input_ids": torch.stack([row["input_ids"] for row in rows]),
        "attention_mask": torch.stack([row["attention_mask"] for row in rows]),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }


def plain_step(model: Any, rows: List[Row]) -> Any:
    """A copy of a model after one step of gradient descent."""
    import torch

    model = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    model(**as_batch(rows)).loss.backward()
    optimizer.step()
    return model


def largest_difference(model: Any, other: Any) -> float:
    """The largest difference of two weights; NaN if there is one."""
    import torch

    differences = []
    for parameter, expected in zip(model.parameters(), other.parameters()):
        difference = (parameter.detach().cpu() - expected.detach()).abs().max()
        differences.append(difference)
    largest: float = torch.stack(differences).max().item()
    return largest


# --- the two checks ------------------------------------------------------------------------------------------------


@step_check("transformers' Trainer", "transformers", "accelerate", "torch")
def check_trainer(inspection: Inspection) -> Answer:
    """One step of `transformers.Trainer`, on the CPU, against the plain one."""
    # transformers 4.29 was the last whose Trainer needs no accelerate.
    require_accelerate((4, 29))
    import torch

    transformers = importlib.import_module("transformers")
    model = small_model()
    rows = small_rows()
    expected = plain_step(model, rows)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=model,
            args=trainer_arguments(transformers.TrainingArguments, folder),
            train_dataset=rows,
            optimizers=(optimizer, None),
        )
        # It prints its figures, and stdout is for the suite's results.
        with contextlib.redirect_stdout(sys.stderr):
            trainer.train()
    return inspection.require(
        "training.trainer",
        largest_difference(model, expected),
        detail="a step of transformers' Trainer is not that of a plain loop",
        remedy=remedy_for(("transformers", "accelerate", "torch")),
    )


def trainer_arguments(kind: Any, folder: str) -> Any:
    """Arguments for one step that reports to nobody; the option that keeps it off the GPU has had two names."""
    cpu = "use_cpu" if hasattr(kind, "use_cpu") else "no_cuda"
    return kind(
        output_dir=folder,
        max_steps=1,
        per_device_train_batch_size=ROWS,
        learning_rate=RATE,
        max_grad_norm=0.0,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **{cpu: True},
    )


@step_check("a step with accelerate", "accelerate", "torch")
def check_accelerate(inspection: Inspection) -> Answer:
    """One step of a loop that accelerate prepares, on the CPU, against the plain one."""
    require_accelerate()
    import torch

    accelerate = importlib.import_module("accelerate")
    model = small_model()
    rows = small_rows()
    expected = plain_step(model, rows)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    loader = torch.utils.data.DataLoader(rows, batch_size=ROWS, shuffle=True)
    accelerator = accelerate.Accelerator(cpu=True)
    prepared = accelerator.prepare(model, optimizer, loader)
    for batch in prepared[2]:
        loss = prepared[0](**batch).loss
        accelerator.backward(loss)
        prepared[1].step()
    return inspection.require(
        "training.accelerate",
        largest_difference(model, expected),
        detail="a step with accelerate is not that of a plain loop",
        remedy=remedy_for(("accelerate", "torch")),
    )
