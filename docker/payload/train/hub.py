"""Whether Hugging Face's libraries may use the network: only for a model or a dataset that is not on this disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from train.options import BUNDLED, Settings

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


@dataclass
class Access:
    """`allowed` is set by the command; for those who import the job, e.g. the acceptance suite, it stays False."""

    allowed: bool = False


ACCESS = Access()


def is_needed(settings: Settings) -> bool:
    """Whether the model or the dataset has to come from a hub."""
    sources = (settings.model, settings.data)
    return any(source != BUNDLED and not Path(source).exists() for source in sources)


def set_environment() -> None:
    """Call this before the libraries are imported: that is when they read these variables."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not ACCESS.allowed:
        for name in OFFLINE:
            os.environ.setdefault(name, "1")
