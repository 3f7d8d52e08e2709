"""Whether Hugging Face's libraries may use the network: only for a model or a dataset that is not on the disk."""

import os

from train.options import BUNDLED

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


class Access:
    """`allowed` is set by the command; for those who import the job, such as the acceptance suite, it stays False."""

    allowed = False


ACCESS = Access()


def is_needed(settings):
    return not all(name == BUNDLED or os.path.exists(name) for name in (settings.model, settings.data))


def set_environment():
    """Call this before the libraries are imported: that is when they read these variables."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not ACCESS.allowed:
        for name in OFFLINE:
            os.environ.setdefault(name, "1")
