"""Several processes and devices: the same losses as one process, also after one of them was killed. In the image."""

import json
import os
import shutil
from pathlib import Path

import pytest

from .engine import Image, docker

TRAIN = "/opt/envbuilder/payload/train"
SHORT = (
    "--max-train-samples",
    "330",
    "--max-eval-samples",
    "50",
    "--epochs",
    "1",
    "--save-every",
    "1",
)  # the last batch has ten rows
EXACT = (*SHORT, "--dropout", "0")
TWO = ("torchrun", "--nproc-per-node", "2", TRAIN)
NEAR = 2e-5  # of losses near 0.7, written with five digits

# Prints the largest difference between the first gradients of two runs: AdamW's first moment is a tenth of them.
FIRST_GRADIENTS = """
import sys
from safetensors.torch import load_file
one, other = (load_file("/runs/%s/checkpoint-1/optimizer.safetensors" % name) for name in sys.argv[1:])
assert one.keys() == other.keys() and len(one) > 30
print(max((one[name] - other[name]).abs().max().item() for name in one if name.endswith("exp_avg")))
print(max(one[name].abs().max().item() for name in one if name.endswith("exp_avg")))
"""
# Kills the last worker as soon as there is a checkpoint, and says what became of the run.
KILL = r"""
torchrun --nproc-per-node 2 --max-restarts 1 "$@" >/tmp/said 2>&1 &
while [ ! -e "$CHECKPOINT" ]; do sleep 0.02; done
for folder in /proc/[0-9]*; do
  words=$(tr '\0' ' ' <"$folder/cmdline" 2>/dev/null)
  case $words in *python*" -u "*payload/train*) last=${folder#/proc/} ;; esac
done
kill -9 "$last"
wait $!
code=$?
cat /tmp/said
exit $code
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    os.chown(folder, 1000, 1000)
    folder.chmod(0o755)
    return folder


def run(image: Image, runs: Path, *words: str, env: str = "X=") -> tuple[int, str]:
    options = [
        "--rm",
        "--shm-size",
        "1g",
        "--network",
        "none",
        "--env",
        "OMP_NUM_THREADS=1",
        "--env",
        env,
    ]
    done = docker(
        "run", *options, "--volume", f"{runs}:/runs", image.id, *words, check=False
    )
    return done.returncode, done.stdout + done.stderr


def losses(runs: Path, name: str) -> list[float]:
    found: list[float] = json.loads((runs / name / "metrics.json").read_text())[
        "losses"
    ]
    return found


def apart(runs: Path, one: str, other: str) -> float:
    pairs = list(zip(losses(runs, one), losses(runs, other), strict=True))
    return max(abs(a - b) for a, b in pairs)


@pytest.fixture(scope="module")
def alone(image: Image, runs: Path) -> str:
    code, said = run(image, runs, "train", *EXACT, "--output", "/runs/alone")
    assert code == 0, said
    assert len(set(losses(runs, "alone"))) == 11
    return "alone"


@pytest.fixture(scope="module")
def two(image: Image, runs: Path) -> str:
    code, said = run(image, runs, *TWO, *EXACT, "--output", "/runs/two")
    assert code == 0, said
    assert said.count("epoch 1: accuracy") == 1  # one of them speaks
    return "two"


def test_two_processes_have_the_losses_of_one(runs: Path, alone: str, two: str) -> None:
    assert apart(runs, alone, two) <= NEAR
    assert json.loads((runs / two / "metrics.json").read_text())["processes"] == 2


def test_two_processes_have_the_gradients_of_one(image: Image, runs: Path) -> None:
    words = [
        "--max-train-samples",
        "62",
        "--max-eval-samples",
        "2",
        "--epochs",
        "1",
        "--save-every",
        "1",
        "--dropout",
        "0",
        "--output",
    ]
    for name, how in {"one": ["train"], "both": TWO}.items():
        code, said = run(image, runs, *how, *words, f"/runs/{name}")
        assert code == 0, said
    code, said = run(image, runs, "python", "-c", FIRST_GRADIENTS, "one", "both")
    assert code == 0, said
    difference, largest = map(float, said.splitlines())
    assert difference <= 1e-6
    assert largest > 1e-3


@pytest.mark.exhaustive
def test_three_processes_and_every_option_that_changes_a_step(
    image: Image, runs: Path
) -> None:
    words = [
        *EXACT,
        "--gradient-accumulation-steps",
        "2",
        "--no-pad-to-max-length",
        "--gradient-checkpointing",
    ]
    for name, how in {
        "options": ["train"],
        "options-3": ["torchrun", "--nproc-per-node", "3", TRAIN],
    }.items():
        code, said = run(image, runs, *how, *words, "--output", f"/runs/{name}")
        assert code == 0, said
    assert apart(runs, "options", "options-3") <= NEAR


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["model", "pipeline"])
def test_layers_on_several_devices_have_the_losses_of_one(
    image: Image, runs: Path, alone: str, kind: str
) -> None:
    code, said = run(
        image, runs, "train", *EXACT, "--parallel", kind, "--output", f"/runs/{kind}"
    )
    assert code == 0, said
    assert apart(runs, alone, kind) <= NEAR


def test_checkpoint_of_two_processes_resumes_in_one(
    image: Image, runs: Path, alone: str, two: str
) -> None:
    (runs / two / "checkpoint-11").rename(
        runs / two / "done"
    )  # one epoch's last; there is the one before it
    code, said = run(
        image, runs, "train", *EXACT, "--output", f"/runs/{two}", "--resume"
    )
    assert code == 0, said
    assert "resuming after batch 10 of 11" in said
    assert apart(runs, alone, two) <= NEAR


@pytest.mark.exhaustive
def test_killed_process_restarts_and_losses_stay_the_same(
    image: Image, runs: Path
) -> None:
    words = [
        "--max-train-samples",
        "640",
        "--max-eval-samples",
        "50",
        "--epochs",
        "2",
        "--save-every",
        "2",
        "--resume",
        "--output",
    ]
    code, said = run(image, runs, *TWO, *words, "/runs/whole")
    assert code == 0, said
    code, said = run(
        image,
        runs,
        "bash",
        "-c",
        KILL,
        "kill",
        TRAIN,
        *words,
        "/runs/killed",
        env="CHECKPOINT=/runs/killed/checkpoint-4",
    )
    assert code == 0, said
    assert "resuming after batch " in said
    assert "Traceback" not in said
    assert losses(runs, "killed") == losses(
        runs, "whole"
    )  # to the last digit, dropout included


def test_nodes_without_a_shared_folder_get_an_error(
    image: Image, runs: Path, alone: str
) -> None:
    """Each process has a separate directory, and any one of them has a checkpoint."""
    job = f"exec python -u {TRAIN} {' '.join(EXACT)} --resume --output /runs/node-$RANK"
    for here, there in ((0, 1), (1, 0)):
        node = runs / f"node-{here}"
        shutil.copytree(runs / alone / "checkpoint-11", node / "checkpoint-11")
        node.chmod(0o777)  # as `runs` is: the job runs as a user of its own
        code, said = run(
            image,
            runs,
            "torchrun",
            "--nproc-per-node",
            "2",
            "--no-python",
            "sh",
            "-c",
            job,
        )
        lost = f"error: /runs/node-{there}/checkpoint-11 does not exist here, but another process sees it"
        assert (code, lost in said) == (1, True), said
        assert "hint: --output must be one directory that all nodes share" in said
        assert f"removed from an earlier run in /runs/node-{there}" not in said
        shutil.rmtree(runs / f"node-{here}")


def test_options_that_this_torch_lacks_are_refused(image: Image, runs: Path) -> None:
    for words, problem in {
        (
            "train",
            "--parallel",
            "ddp",
        ): "error: --parallel ddp needs several processes\nhint: start it with torchrun",
        (
            "train",
            "--parallel",
            "fsdp",
        ): "--parallel fsdp needs torch ≥ 2.6 (this is 2.0.1+cu117)\nhint: use --parallel ddp",
        (
            "train",
            "--parallel",
            "pipeline",
            "--stages",
            "3",
        ): "error: 2 layers cannot be split into 3 stages",
        (
            *TWO,
            "--parallel",
            "pipeline",
        ): "has pipelines only within one process\nhint: run `train --parallel",
    }.items():
        code, said = run(image, runs, *words)
        assert (code, problem in said) == (1, True), said


@pytest.mark.exhaustive
def test_two_processes_compile_to_the_losses_of_the_uncompiled(
    image: Image, runs: Path
) -> None:
    tiny = "--num-layers 1 --hidden-size 16 --max-train-samples 64 --max-eval-samples 20 --epochs 2 --max-length 12"
    tiny += " --dropout 0 --learning-rate 1e-2"
    for name, how in {"eager": [], "compiled": ["--compile"]}.items():
        code, said = run(
            image, runs, *TWO, *tiny.split(), *how, "--output", f"/runs/{name}"
        )
        assert code == 0, said
    assert len(set(losses(runs, "eager"))) == 4
    assert apart(runs, "eager", "compiled") <= 1e-4
