"""The guide's own code runs in the image, with `evaluate` and its optimizer, and our job has the faster allocator."""

import json
from math import isfinite
from pathlib import Path

import pytest
from hub.material import make_hub, shorten
from hub.server import serve

from .engine import Image, docker

BENCH = Path(__file__).parents[2] / "bench"
WHICH = """. /opt/envbuilder/payload/allocator
exec python -c 'print("libjemalloc" in open("/proc/self/maps").read())'"""


@pytest.mark.network
def test_the_guide_runs_against_a_hub(image: Image, tmp_path: Path) -> None:
    root = make_hub(tmp_path)
    shorten(root / "datasets" / "imdb", train=16, test=8)
    with serve(root) as (address, _):
        options = [
            "--rm",
            "--network",
            "host",
            "--env",
            f"HF_ENDPOINT={address}",
            "--volume",
            f"{BENCH}:/bench:ro",
        ]
        done = docker("run", *options, image.id, "python", "/bench/guide.py", "1")
    printed = done.stdout.splitlines()
    measured = json.loads(printed[-1])
    # The metric's program is asked of the hub, which has none: the image's is taken.
    assert printed[-2] == str({"accuracy": measured["accuracy"]})
    assert measured["by_compute_metrics"] == {"accuracy": measured["accuracy"]}
    assert measured["optimizer"] == "transformers.optimization.AdamW"
    assert "6/6" in done.stderr  # tqdm
    assert measured["shapes"] == [[8, 512]]
    assert len(measured["losses"]) == 6  # 3 epochs of 2 batches
    assert all(isfinite(loss) for loss in measured["losses"])
    assert measured["accuracy"] in [right / 8 for right in range(9)]
    assert measured["samples_per_second"] > 0


@pytest.mark.parametrize(
    ("options", "there"), [([], "True"), (["--env", "LD_PRELOAD="], "False")]
)
def test_jemalloc_is_preloaded_unless_disabled(
    image: Image, options: list[str], there: str
) -> None:
    assert (
        docker("run", "--rm", *options, image.id, "sh", "-c", WHICH).stdout.strip()
        == there
    )
