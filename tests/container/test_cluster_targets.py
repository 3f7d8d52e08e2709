"""Runs the commands of --target kubernetes in two containers named as the headless Service names pods.

Containers have the settings of a pod: user, read-only root, no capabilities, memory for /dev/shm, empty
directories, the claim. They run the image's own job; a second job reports what it sees
(cluster_job.py), mounted over it.
"""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from waiting import wait_until

from container.engine import Image, docker
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.render.targets import Project, render_targets

ROOT = Path(__file__).parents[2]
PRESET = ROOT / "docker" / "images" / "cu117-torch2.0.1-py3.9-debian11"
JOB = Path(__file__).with_name("cluster_job.py")
TRAIN = "/opt/envbuilder/payload/bin/train"
NAME = "envbuilder-train"
UNKNOWN_NAME = "Name or service not known"  # glibc's words
REAL = "--rows 640 --held-out 50 --epochs 2 --save-every 2 --dropout 0"  # 40 batches, some seconds
NEAR = 2e-5  # of losses near 0.7, written with five digits


def documents(image: str, arguments: str = "") -> dict[str, Any]:
    lock = parse_lock((PRESET / LOCK_FILE).read_text(), source=str(PRESET))
    project = Project(
        lock=lock,
        image=image,
        context="docker",
        settings={"cpus": "1", "arguments": arguments},
    )
    files = render_targets(project, "kubernetes").files
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    return {
        document["kind"]: document
        for text in texts
        for document in yaml.safe_load_all(text)
    }


class Cluster:
    """A network, a claim, and containers in the place of pods."""

    def __init__(self, image: str) -> None:
        self.id = f"cluster-{uuid.uuid4().hex[:8]}"
        self.image = image
        self.pods: list[str] = []
        docker("network", "create", self.id)
        docker("volume", "create", self.id)
        chown = ["chown", "1000:1000", "/runs"]  # fsGroup
        docker(
            "run",
            "--rm",
            "--user",
            "0",
            "--volume",
            f"{self.id}:/runs",
            "--entrypoint",
            "",
            image,
            *chown,
        )

    def start(
        self,
        spec: dict[str, Any],
        *,
        host: str,
        command: list[str],
        env: dict[str, str],
        real: bool,
    ) -> str:
        """A pod of this pod spec."""
        (node,) = spec["containers"]
        rights, user = node["securityContext"], spec["securityContext"]
        assert rights == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        env = {entry["name"]: entry["value"] for entry in node["env"]} | env
        name = f"{self.id}-{len(self.pods)}"
        docker(
            *("run", "--detach", "--name", name, "--network", self.id),
            *(
                "--hostname",
                host,
                "--network-alias",
                host,
                "--network-alias",
                f"{host}.{NAME}",
            ),
            *("--user", f"{user['runAsUser']}:{user['runAsGroup']}"),
            *(
                "--security-opt",
                "no-new-privileges",
                "--read-only",
                "--cap-drop",
                "ALL",
            ),
            *(() if real else ("--volume", f"{JOB}:{TRAIN}:ro")),
            *self._mounts(spec),
            *(
                word
                for key, value in env.items()
                for word in ("--env", f"{key}={value}")
            ),
            self.image,
            *command,
        )
        self.pods.append(name)
        return name

    def _mounts(self, spec: dict[str, Any]) -> Iterator[str]:
        """The volumes of a pod. Docker's anonymous volumes replace emptyDir."""
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for mount in spec["containers"][0]["volumeMounts"]:
            volume, path = volumes[mount["name"]], mount["mountPath"]
            if "persistentVolumeClaim" in volume:
                yield from ("--volume", f"{self.id}:{path}")
            elif volume["emptyDir"].get("medium") == "Memory":
                yield from (
                    "--shm-size",
                    volume["emptyDir"]["sizeLimit"].removesuffix("i").lower(),
                )
            else:
                yield from ("--tmpfs", f"{path}:mode=1777")

    def log(self, pod: str) -> list[dict[str, Any]]:
        """The output of the job in a pod."""
        lines = docker("logs", pod).stdout.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait(self, *pods: str, seconds: float = 240) -> list[int]:
        """The exit codes of pods, when all of them have ended."""

        def states() -> list[str]:
            shown = "{{.State.Status}} {{.State.ExitCode}}"
            return [docker("inspect", "--format", shown, pod).stdout for pod in pods]

        def logs() -> str:
            said = "\n".join(docker("logs", pod).stderr[-2000:] for pod in pods)
            return f"still running after {seconds:.0f} s:\n{said}"

        wait_until(
            lambda: all(state.startswith("exited") for state in states()),
            logs,
            seconds=seconds,
        )
        return [int(state.split()[1]) for state in states()]

    def wait_for_checkpoint(self) -> None:
        def there() -> bool:
            return (
                "checkpoint-"
                in docker(
                    "exec", self.pods[0], "ls", f"/runs/{NAME}", check=False
                ).stdout
            )

        wait_until(
            there,
            lambda: f"no checkpoint:\n{docker('logs', self.pods[0]).stderr[-2000:]}",
        )

    def losses(self) -> list[float]:
        options = [
            "run",
            "--rm",
            "--volume",
            f"{self.id}:/runs:ro",
            "--entrypoint",
            "",
            self.image,
        ]
        found: list[float] = json.loads(
            docker(*options, "cat", f"/runs/{NAME}/metrics.json").stdout
        )["losses"]
        return found

    def remove(self) -> None:
        for pod in self.pods:
            docker("rm", "--force", pod, check=False)
        docker("network", "rm", self.id, check=False)
        docker("volume", "rm", self.id, check=False)


@pytest.fixture
def cluster(image: Image) -> Iterator[Cluster]:
    made = Cluster(image.id)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def alone(image: Image) -> list[float]:
    """The losses of one process."""
    job = f"train {REAL} --output /tmp/run >&2 && cat /tmp/run/metrics.json"
    options = ["run", "--rm", "--network", "none", "--env", "OMP_NUM_THREADS=1"]
    found: list[float] = json.loads(docker(*options, image.id, "sh", "-c", job).stdout)[
        "losses"
    ]
    return found


def start_job(cluster: Cluster, index: int, arguments: str = "") -> str:
    """The pod with this index of the Job. With arguments it trains, without it looks around."""
    job = documents(cluster.image, arguments)["Job"]
    spec = job["spec"]["template"]["spec"]
    assert spec["subdomain"] == NAME
    return cluster.start(
        spec,
        host=f"{job['metadata']['name']}-{index}",
        command=spec["containers"][0]["args"],
        env={"JOB_COMPLETION_INDEX": str(index)},
        real=bool(arguments),
    )


def start_train_job(cluster: Cluster, index: int) -> str:
    """The pod with this index of the TrainJob, with what Kubeflow's torch plugin gives it."""
    made = documents(cluster.image)
    (replicated,) = made["TrainingRuntime"]["spec"]["template"]["spec"][
        "replicatedJobs"
    ]
    trainer = made["TrainJob"]["spec"]["trainer"]
    host = f"{NAME}-{replicated['name']}-0"
    assert trainer["command"] == [
        "/opt/envbuilder/payload/entrypoint"
    ]  # the image's own: docker starts it anyway
    return cluster.start(
        replicated["template"]["spec"]["template"]["spec"],
        host=f"{host}-{index}",
        command=trainer["args"],
        env={
            "PET_NNODES": str(trainer["numNodes"]),
            "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
            "PET_NODE_RANK": str(index),
            "PET_MASTER_ADDR": f"{host}-0.{NAME}",
            "PET_MASTER_PORT": "29500",
        },
        real=False,
    )


def facts(rank: int, host: str, first: str) -> dict[str, Any]:
    """What the job says of itself when it starts."""
    return {
        "host": host,
        "rank": rank,
        "node": rank,
        "world": 2,
        "master": f"{first}.{NAME}",
        "threads": 1,
        "shm": 2**30,
        "user": 1000,
        "allocator": "libjemalloc.so.2",
        "words": [f"--output=/runs/{NAME}", "--resume"],
    }


def test_job_starts_before_its_first_pod_has_a_name(cluster: Cluster) -> None:
    second = start_job(cluster, 1)
    wait_until(
        lambda: UNKNOWN_NAME in docker("logs", second).stderr,
        "it does not look for index 0",
    )
    first = start_job(cluster, 0)
    assert cluster.wait(first, second) == [0, 0]
    assert cluster.log(first) == [facts(0, f"{NAME}-0", f"{NAME}-0")]
    assert cluster.log(second) == [facts(1, f"{NAME}-1", f"{NAME}-0")]


def test_a_train_job_finds_itself(cluster: Cluster) -> None:
    pods = [start_train_job(cluster, index) for index in (0, 1)]
    assert cluster.wait(*pods) == [0, 0]
    first = f"{NAME}-node-0-0"
    assert [cluster.log(pod) for pod in pods] == [
        [facts(index, f"{NAME}-node-0-{index}", first)] for index in (0, 1)
    ]


def assert_near(found: list[float], alone: list[float]) -> None:
    assert (
        max(abs(one - other) for one, other in zip(found, alone, strict=True)) <= NEAR
    )
    assert len(set(alone)) > 30


def turns(pod: str) -> list[str]:
    """Where the job went on from, as the process with rank 0 says it."""
    return [
        line
        for line in docker("logs", pod).stdout.splitlines()
        if line.startswith("resuming")
    ]


def test_lost_pod_is_replaced_while_the_other_waits(
    cluster: Cluster, alone: list[float]
) -> None:
    first, lost = (start_job(cluster, index, REAL) for index in (0, 1))
    cluster.wait_for_checkpoint()
    docker("rm", "--force", lost)
    new = start_job(cluster, 1, REAL)
    assert cluster.wait(first, new) == [0, 0]
    assert len(turns(first)) == 1  # and it is still the one with rank 0
    assert_near(cluster.losses(), alone)


@pytest.mark.exhaustive
def test_a_pod_that_is_drained_saves_first(
    cluster: Cluster, alone: list[float]
) -> None:
    first, drained = (start_job(cluster, index, REAL) for index in (0, 1))
    cluster.wait_for_checkpoint()
    docker("stop", "--time", "60", drained)  # SIGTERM, and time to save, as a drain
    assert (
        docker("inspect", "--format", "{{.State.ExitCode}}", drained).stdout == "1\n"
    )  # torchrun's
    new = start_job(cluster, 1, REAL)
    assert cluster.wait(first, new) == [0, 0]
    saved = [
        line.split()[3].rstrip(":")
        for line in docker("logs", first).stdout.splitlines()
        if "saved after" in line
    ]
    assert turns(first) == [f"resuming after batch {saved[0]} of 40"]
    assert_near(cluster.losses(), alone)


@pytest.mark.exhaustive
def test_job_restarts_from_its_checkpoint_without_its_first_pod(
    cluster: Cluster, alone: list[float]
) -> None:
    lost, second = (start_job(cluster, index, REAL) for index in (0, 1))
    cluster.wait_for_checkpoint()
    docker("rm", "--force", lost)
    assert cluster.wait(second) == [
        1
    ]  # no rendezvous any more: one failure of each index, and all are replaced
    assert 'File "/opt/envbuilder' not in docker("logs", second).stderr
    pods = [start_job(cluster, index, REAL) for index in (0, 1)]
    assert cluster.wait(*pods) == [0, 0]
    assert len(turns(pods[0])) == 1
    assert_near(cluster.losses(), alone)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["torchrun", "--no-such-option"], 2),
        (["no-such-command"], 127),
        (["/etc/passwd"], 126),
    ],
    ids=["usage", "no command", "no program"],
)
def test_exit_codes_that_fail_a_job_immediately(
    image: Image, command: list[str], code: int
) -> None:
    rules = documents(image.id)["Job"]["spec"]["podFailurePolicy"]["rules"]
    assert (
        docker(
            "run", "--rm", "--network", "none", image.id, *command, check=False
        ).returncode
        == code
    )
    assert code in rules[1]["onExitCodes"]["values"]


@pytest.mark.parametrize(
    "arguments", ["--epochs none", "--no-such-option", "--data imdb"]
)
def test_invalid_train_option_fails_a_job_immediately(
    image: Image, arguments: str
) -> None:
    job = documents(image.id, arguments)["Job"]["spec"]["template"]["spec"][
        "containers"
    ][0]["args"]
    done = docker("run", "--rm", "--network", "none", image.id, *job, check=False)
    assert done.returncode == 2
    assert "train: error: " in done.stderr
