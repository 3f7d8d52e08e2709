"""Runs the output of --target slurm; the commands of Slurm and Apptainer are stand-ins that run their arguments."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from marks import few
from presets import read_preset
from waiting import PATIENCE, wait_until

from envbuilder.lock.lock_file import LOCK_FILE
from envbuilder.render.targets import Project, render_targets

DOCKER = Path(__file__).parents[2] / "docker"
PRESETS = sorted((DOCKER / "images").iterdir())
PAYLOAD = DOCKER / "payload"

# Each stand-in records its arguments. srun starts the task of each node; apptainer the command behind the image, where
# this checkout's payload is that of the image; torchrun records its environment too, and exits at once or on a signal.
STAND_INS = {
    "scontrol": """
        note "$@"
        if [ "$1" = show ]; then printf 'node-a\\nnode-b\\n'; fi
    """,
    "scancel": """
        note "$@"
        kill -TERM $(cat "$NOTES"/torchrun-*.pid)
    """,
    "srun": """
        note "$@"
        while [ "$1" != apptainer ]; do shift; done
        SLURM_NODEID=0 SLURMD_NODENAME=node-a "$@" & one=$!
        SLURM_NODEID=1 SLURMD_NODENAME=node-b "$@" & two=$!
        code=0; wait $one || code=$?; wait $two || code=$?
        exit $code
    """,
    "apptainer": """
        note "$@"
        while [ "$1" != "$SIF" ]; do shift; done
        shift
        exec "$@"
    """,
    "torchrun": """
        note "$@"
        env >"$NOTES/torchrun-$SLURM_NODEID.env"
        trap 'exit ${CODE_AT_TERM:-1}' TERM
        echo $$ >"$NOTES/$SLURM_NODEID.new"
        mv "$NOTES/$SLURM_NODEID.new" "$NOTES/torchrun-$SLURM_NODEID.pid"  # it is there: the trap is set
        for _ in $(seq ${SECONDS_TO_RUN:-0}0); do sleep 0.1; done
    """,
}
NOTE = """#!/bin/bash
note() { for word; do printf '%s\\0' "$word"; done >"$NOTES/$(basename "$0")-${SLURM_NODEID:-}$RANDOM.words"; }
"""


def script(preset: Path = PRESETS[-1], **settings: str) -> str:
    lock = read_preset(preset / LOCK_FILE)
    project = Project(
        lock=lock,
        image=f"envbuilder:{lock.stack.name}",
        context="docker",
        settings=settings,
    )
    return render_targets(project, "slurm").files["slurm/train.sbatch"]


class Session:
    """A folder to submit from, with stand-ins on the PATH."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder / "a site"  # names have spaces
        self.notes = folder / "notes"
        commands = folder / "bin"
        for made in (self.folder, self.notes, commands):
            made.mkdir()
        for name, body in STAND_INS.items():
            (commands / name).write_text(NOTE + body)
            (commands / name).chmod(0o755)
        (folder / "train.sbatch").write_text(
            text.replace("/opt/envbuilder/payload", str(PAYLOAD))
        )
        self.sif = self.folder / "envbuilder-train.sif"
        self.sif.touch()
        self.runs = self.folder / "runs"
        self.command = ["bash", str(folder / "train.sbatch")]
        self.environment = {
            "PATH": f"{commands}:{os.environ['PATH']}:{PAYLOAD}/bin",  # the last as in the image
            "HOME": str(folder / "home"),
            "NOTES": str(self.notes),
            "SIF": str(self.sif),
            "SLURM_SUBMIT_DIR": str(self.folder),
            "SLURM_JOB_ID": "1234567",
            "SLURM_JOB_NAME": "envbuilder-train",
            "SLURM_JOB_NODELIST": "node-[a-b]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "12",
            "PYTHONPATH": "/the/user's/own",
        }

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *words],
            env=self.environment | env, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    def run_until(self, number: int, **env: str) -> tuple[int, str]:
        """Start, send a signal when both nodes are running, and wait: exit code and output."""
        running = subprocess.Popen(
            self.command, env=self.environment | env, stderr=subprocess.PIPE, text=True
        )
        wait_until(
            lambda: len(list(self.notes.glob("torchrun-*.pid"))) == 2,
            "the nodes do not start",
        )
        running.send_signal(number)
        _, said = running.communicate(timeout=PATIENCE)
        return running.returncode, said

    def started(self, command: str) -> list[list[str]]:
        """The words of every start of a command, by node."""
        return [
            path.read_text().split("\0")[:-1]
            for path in sorted(self.notes.glob(f"{command}-*.words"))
        ]

    def env(self, node: int) -> dict[str, str]:
        lines = (self.notes / f"torchrun-{node}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path, script())


@pytest.mark.parametrize("gpus", ["0", "8"])
@pytest.mark.parametrize("preset", few(PRESETS), ids=lambda path: path.name)
def test_shellcheck_reports_nothing(preset: Path, gpus: str, tmp_path: Path) -> None:
    path = tmp_path / "train.sbatch"
    path.write_text(script(preset, gpus=gpus, arguments="--data 'a; b' --epochs 3"))
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    assert shellcheck, "run `make setup`"
    done = subprocess.run(
        [shellcheck, "--severity=style", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_sbatch_options_match_the_settings() -> None:
    told = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in script(
            nodes="4", gpus="8", cpus="64", memory="256", hours="12"
        ).splitlines()
        if line.startswith("#SBATCH")
    )
    assert told == {
        "job-name": "envbuilder-train",
        "nodes": "4",
        "ntasks-per-node": "1",
        "cpus-per-task": "64",
        "mem": "256G",
        "gpus-per-node": "8",
        "time": "12:00:00",
        "output": "%x-%j.log",
        "open-mode": "append",
        "requeue": "",
        "signal": "B:USR1@180",
    }


def test_no_path_of_any_machine_is_in_it() -> None:
    inside = {"/runs", "/home/trainer", "/opt/envbuilder", "/bin/bash"}
    paths = set(re.findall(r"(?<![\w$}/.~*])/(?:[\w.-]+/?)+", script()))
    assert not {
        path for path in paths if not any(path.startswith(known) for known in inside)
    }


@pytest.mark.slow
def test_each_node_joins_the_first_one(session: Session) -> None:
    done = session.run("--epochs", "3", "--model", "m", "--data", "a b")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    for node, name in enumerate(("node-a", "node-b")):
        assert session.started("torchrun")[node] == [
            "--nnodes=2",
            "--nproc_per_node=1",
            "--max_restarts=3",
            "--rdzv_backend=c10d",
            "--rdzv_endpoint=node-a:24567",
            "--rdzv_id=1234567",
            f"--rdzv_conf=is_host={'false' if node else 'true'},read_timeout=900,join_timeout=900",
            f"--local_addr={name}",
            "--no_python",
            "train",
            "--output",
            "/runs/envbuilder-train-1234567",
            "--resume",
            "--epochs",
            "3",
            "--model",
            "m",
            "--data",
            "a b",
        ]


@pytest.mark.slow
def test_arguments_passed_to_the_image(session: Session, tmp_path: Path) -> None:
    session.run()
    home = tmp_path / "home" / ".cache" / "envbuilder"
    assert session.started("apptainer")[0][:10] == [
        "exec",
        "--home",
        f"{home}:/home/trainer",
        "--pwd",
        "/home/trainer",
        "--no-mount",
        "cwd",
        "--bind",
        f"{session.runs}:/runs",
        str(session.sif),
    ]
    assert session.started("apptainer")[0][10:12] == [f"{PAYLOAD}/entrypoint", "launch"]
    assert home.is_dir()
    assert session.runs.is_dir()
    assert session.env(0)["OMP_NUM_THREADS"] == "12"
    assert session.env(0)["PYTHONNOUSERSITE"] == "1"
    assert "PYTHONPATH" not in session.env(0)


@pytest.mark.slow
def test_with_gpus(session: Session) -> None:
    session.run(SLURM_GPUS_ON_NODE="4")
    assert "--nv" in session.started("apptainer")[0]
    assert "--nproc_per_node=4" in session.started("torchrun")[1]
    assert session.env(1)["OMP_NUM_THREADS"] == "3"


@pytest.mark.slow
def test_one_task_on_each_node_with_its_cores(session: Session) -> None:
    session.run()
    (words,) = session.started("srun")
    assert words[: words.index("apptainer")] == [
        "--kill-on-bad-exit=0",
        "--wait=120",
        "--cpus-per-task=12",
        "--label",
    ]


@pytest.mark.slow
def test_places_can_be_set(session: Session, tmp_path: Path) -> None:
    other = tmp_path / "other.sif"
    other.touch()
    runs, home = tmp_path / "my runs", tmp_path / "my home"
    settings = {
        "ENVBUILDER_SIF": str(other),
        "ENVBUILDER_RUNS": str(runs),
        "ENVBUILDER_HOME": str(home),
    }
    done = session.run(SIF=str(other), **settings)
    assert done.returncode == 0, done.stderr
    words = session.started("apptainer")[0]
    assert {f"{runs}:/runs", f"{home}:/home/trainer", str(other)} <= set(words)


def test_missing_image_is_reported_before_starting(session: Session) -> None:
    session.sif.unlink()
    done = session.run()
    assert done.returncode == 2
    assert (
        f"error: there is no image {session.sif}\nhint: `apptainer build "
        in done.stderr
    )
    assert session.started("srun") == []


@pytest.mark.slow
def test_a_job_that_fails_fails(session: Session) -> None:
    (Path(session.environment["PATH"].split(":")[0]) / "torchrun").write_text(
        "#!/bin/sh\nexit 3\n"
    )
    assert session.run().returncode == 3


@pytest.mark.slow
def test_invalid_option_is_reported_before_torchrun_starts(session: Session) -> None:
    done = session.run("--epochs", "none")
    assert (done.returncode, session.started("torchrun")) == (2, [])
    assert (
        "train: error: argument --epochs/--num-train-epochs: 'none' is not a whole number of 1 or more\n"
        in done.stderr
    )


@pytest.mark.slow
def test_near_the_time_limit_it_saves_and_queues_again(session: Session) -> None:
    code, said = session.run_until(signal.SIGUSR1, SECONDS_TO_RUN="20")
    assert code == 1
    assert said == "time is up in turn 1; back into the queue\n"
    assert session.started("scancel") == [["--signal=TERM", "1234567"]]
    assert ["requeue", "1234567"] in session.started("scontrol")


@pytest.mark.slow
def test_finished_job_is_not_requeued(session: Session) -> None:
    assert session.run_until(signal.SIGUSR1, SECONDS_TO_RUN="20", CODE_AT_TERM="0") == (
        0,
        "",
    )
    assert session.started("scontrol") == [["show", "hostnames", "node-[a-b]"]]


@pytest.mark.slow
def test_it_does_not_come_back_for_ever(session: Session) -> None:
    code, _ = session.run_until(
        signal.SIGUSR1,
        SECONDS_TO_RUN="20",
        SLURM_RESTART_COUNT="2",
        ENVBUILDER_TURNS="3",
    )
    assert code == 1
    assert len(session.started("scancel")) == 1
    assert session.started("scontrol") == [["show", "hostnames", "node-[a-b]"]]


@pytest.mark.slow
def test_the_settings_arguments_come_before_those_of_sbatch(tmp_path: Path) -> None:
    session = Session(tmp_path, script(arguments="--epochs 3 --model '$(touch x)'"))
    session.run("--epochs", "4")
    assert session.started("torchrun")[0][-6:] == [
        "--epochs",
        "3",
        "--model",
        "$(touch x)",
        "--epochs",
        "4",
    ]


@pytest.mark.slow
def test_stand_ins_are_called(session: Session) -> None:
    """A stand-in that is not started records nothing: the checks above can fail."""
    session.run()
    heard: dict[str, Any] = {name: len(session.started(name)) for name in STAND_INS}
    assert (
        json.dumps(heard, sort_keys=True)
        == '{"apptainer": 2, "scancel": 0, "scontrol": 1, "srun": 1, "torchrun": 2}'
    )
