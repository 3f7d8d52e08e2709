"""The Compose files with the real `docker compose`: on an engine without a GPU, and with stand-ins for one."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from waiting import PATIENCE, wait_until

from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.network import find_network
from envbuilder.render.targets import Project, render_targets

from .engine import Image, docker
from .private_engine import PrivateEngine, import_shell, private_engine
from .registry import free_port

ROOT = Path(__file__).parents[2]
PRESET = "cu117-torch2.0.1-py3.9-debian11"
LOCK = ROOT / "docker" / "images" / PRESET / LOCK_FILE
TINY = "--rows 64 --held-out 16 --epochs 1"
LONG = "--rows 1900 --epochs 100"
TOKEN = "sesame"
NOTEBOOK = "compose.yaml:compose.notebook.yaml"
CLUSTER = "compose.yaml:compose.cluster.yaml"
ALL = "compose.yaml:compose.gpu.yaml:compose.notebook.yaml:compose.cluster.yaml"
RUN_SECONDS = 150


@dataclass(frozen=True)
class Site:
    """A separate project with the rendered files, and `docker compose` in it."""

    folder: Path
    env: dict[str, str]
    name: str = field(default_factory=lambda: f"compose-test-{uuid4().hex[:8]}")

    def start(self, *words: str, **env: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["docker", "compose", *words],
            cwd=self.folder,
            env={**self.env, "COMPOSE_PROJECT_NAME": self.name, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str, **env: str) -> tuple[int, str]:
        """Exit code and output."""
        process = self.start(*words, **env)
        try:
            said, _ = process.communicate(timeout=RUN_SECONDS)
        finally:
            process.kill()
        return process.returncode, said

    def shell(self, script: str, **env: str) -> tuple[int, str]:
        return self.run("run", "--rm", "--no-TTY", "shell", "sh", "-c", script, **env)

    def inspect(self, service: str, number: int = 1) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(
            docker("inspect", f"{self.name}-{service}-{number}").stdout
        )
        return found[0]

    def give_to(self, uid: int) -> None:
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, uid, uid)


def write(folder: Path) -> None:
    lock = parse_lock(LOCK.read_text(), source=PRESET)
    project = Project(lock=lock, image=f"envbuilder:{PRESET}", context="docker")
    for name, text in render_targets(project, "compose").files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture(scope="session")
def built(request: pytest.FixtureRequest) -> str:
    """The image that is there, else the one under test, which takes minutes to build."""
    tag = f"envbuilder:{PRESET}"
    if docker("image", "inspect", tag, check=False).returncode == 0:
        return tag
    image: Image = request.getfixturevalue("image")
    return image.tag


def surroundings(**env: str) -> dict[str, str]:
    """This machine's, without what the files could pick up by chance."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "HOME", "DOCKER_HOST")
        if name in os.environ
    }
    ca = find_network(os.environ, home=Path.home()).ca
    return {**kept, **({"CA_BUNDLE": str(ca)} if ca else {}), **env}


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Site]:
    """Without an image: nothing can run."""
    write(tmp_path)
    site = Site(tmp_path, surroundings(TRAIN_IMAGE=f"compose-test:{uuid4().hex[:8]}"))
    yield site
    code, said = site.run(
        "--profile", "*", "down", "--volumes", "--timeout", "1", "--rmi", "local"
    )
    docker("image", "rm", site.env["TRAIN_IMAGE"], check=False)
    assert code == 0, said


@pytest.fixture
def site(tmp_path: Path, built: str) -> Iterator[Site]:
    write(tmp_path)
    site = Site(tmp_path, surroundings(TRAIN_IMAGE=built))
    yield site
    code, said = site.run("--profile", "*", "down", "--volumes", "--timeout", "1")
    assert code == 0, said


# --- the files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["compose.gpu.yaml", "compose.notebook.yaml", "compose.cluster.yaml"]
)
def test_compose_accepts_each_file_with_every_profile(empty: Site, name: str) -> None:
    assert empty.run("--profile", "*", "config", "--quiet") == (0, "")
    assert empty.run(
        "-f", "compose.yaml", "-f", name, "--profile", "*", "config", "--quiet"
    ) == (0, "")


@pytest.mark.parametrize(
    ("access", "key"), [("runtime", "runtime"), ("gpus", "deploy"), ("cdi", "deploy")]
)
def test_every_job_gets_gpus_also_with_the_other_files(
    empty: Site, access: str, key: str
) -> None:
    code, said = empty.run(
        "--profile",
        "*",
        "config",
        "--format",
        "json",
        COMPOSE_FILE=ALL,
        GPU_ACCESS=access,
        MEMLOCK="1",
    )
    assert code == 0, said
    services = json.loads(said)["services"]
    jobs = {name for name, service in services.items() if service.get(key)}
    assert jobs == {"train", "accept", "shell", "notebook"}
    assert {services[name]["ulimits"]["memlock"] for name in jobs} == {1}
    assert services["train"]["command"][0] == "launch"
    assert services["notebook"]["image"].endswith("-notebook")


def test_only_train_is_started_without_a_name(empty: Site) -> None:
    assert empty.run("config", "--services", COMPOSE_FILE=ALL) == (0, "train\n")


def test_the_client_accepts_it_with_the_example_as_env_file(empty: Site) -> None:
    before = empty.run("--profile", "*", "config")
    (empty.folder / ".env").write_text((empty.folder / ".env.example").read_text())
    assert empty.run("--profile", "*", "config") == before


@pytest.mark.parametrize(
    ("text", "env", "base"),
    [
        ("", {}, "py3.9-debian11"),
        ("BASE=py3.10-debian12\n", {}, "py3.10-debian12"),
        ("BASE=py3.10-debian12\n", {"BASE": "py3.9-debian11"}, "py3.9-debian11"),
    ],
)
def test_base_selects_image_and_dockerfile(
    empty: Site, text: str, env: dict[str, str], base: str
) -> None:
    (empty.folder / ".env").write_text(text)
    code, said = empty.run(
        "--profile",
        "*",
        "config",
        "--format",
        "json",
        COMPOSE_FILE=NOTEBOOK,
        TRAIN_IMAGE="",
        **env,
    )
    assert code == 0, said
    services = json.loads(said)["services"]
    name = f"cu117-torch2.0.1-{base}"
    for service in ("train", "accept", "shell", "image", "tensorboard"):
        assert services[service]["image"] == f"envbuilder:{name}"
        assert services[service]["build"]["dockerfile"] == f"images/{name}/Dockerfile"
    assert services["notebook"]["image"] == f"envbuilder:{name}-notebook"
    assert services["notebook"]["build"]["args"] == {"IMAGE": f"envbuilder:{name}"}


@pytest.mark.parametrize("variable", ["CA_BUNDLE", "SSL_CERT_FILE", ""])
def test_missing_image_is_built_with_and_without_a_ca(
    empty: Site, variable: str
) -> None:
    (empty.folder / "ca.pem").write_text("a CA")
    place = empty.folder / "docker" / "images" / PRESET
    place.mkdir(parents=True)
    look = 'RUN --mount=type=secret,id=ca echo "CA: $(cat /run/secrets/ca)." >/told; : '
    (place / "Dockerfile").write_text(
        f"FROM envbuilder:{PRESET}\nUSER 0\n{look}{empty.name}\n"
    )
    given = {variable: str(empty.folder / "ca.pem")} if variable else {}
    code, said = empty.run(
        "run", "--rm", "--no-TTY", "shell", "cat", "/told", **{"CA_BUNDLE": "", **given}
    )
    assert code == 0, said
    assert said.endswith(f"CA: {'a CA' if variable else ''}.\n")
    assert "Pulling" not in said


# --- train -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uid", [1000, pytest.param(12345, marks=pytest.mark.exhaustive)]
)
def test_train_leaves_its_results_to_the_owner_of_the_project(
    site: Site, uid: int
) -> None:
    site.give_to(uid)
    code, said = site.run(
        "up", "--exit-code-from", "train", "train", TRAIN_OPTIONS=TINY, RUN="first"
    )
    assert code == 0, said
    assert "epoch 1: accuracy" in said
    assert (
        json.loads((site.folder / "runs" / "first" / "metrics.json").read_text())[
            "steps"
        ]
        == 2
    )
    left = [site.folder / "runs", *(site.folder / "runs").rglob("*")]
    assert len(left) > 4
    assert {(path.stat().st_uid, path.stat().st_gid) for path in left} == {(uid, uid)}
    ours = f"label=com.docker.compose.project={site.name}"
    started = docker("ps", "--all", "--filter", ours, "--format", "{{.Names}}")
    assert started.stdout.split() == [f"{site.name}-train-1"]


def test_exit_code_of_the_job_is_passed_on(site: Site) -> None:
    wrong = {"TRAIN_OPTIONS": "--rows 0"}
    assert site.run("up", "--exit-code-from", "train", "train", **wrong)[0] == 2
    assert site.run("run", "--rm", "--no-TTY", "train", **wrong)[0] == 2


def test_ctrl_c_ends_a_job_in_time_with_130(site: Site) -> None:
    site.give_to(12345)
    process = site.start("up", "--exit-code-from", "train", "train", TRAIN_OPTIONS=LONG)
    assert process.stdout
    seen = next(line for line in process.stdout if "device: " in line)
    assert "cpu" in seen
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert site.inspect("train")["State"]["ExitCode"] == 130
    assert site.inspect("train")["RestartCount"] == 0


def test_stop_reaches_programs_without_signal_handlers(site: Site) -> None:
    """As process 1 it would hear no signal: the whole grace period, and exit code 137."""
    site.give_to(12345)
    name = f"{site.name}-sleeper"
    code, said = site.run("run", "--detach", "--name", name, "train", "sleep", "300")
    assert code == 0, said
    wait_until(
        lambda: "sleep" in docker("top", name, "-o", "pid,comm").stdout.split(),
        "it does not start",
    )
    docker("stop", name)
    code_at_stop = docker("inspect", "--format", "{{.State.ExitCode}}", name).stdout
    docker("rm", name)
    assert code_at_stop.strip() == "130"


def test_job_has_its_user_memory_and_caches(site: Site) -> None:
    site.give_to(12345)
    look = "id -u; id -g; grep CapEff /proc/self/status; ulimit -s; stat -f -c %b*%S /dev/shm"
    write = 'for folder in "$HOME" "$HF_HOME" "$TORCHINDUCTOR_CACHE_DIR"; do echo kept >"$folder/file"; done'
    code, said = site.shell(f"exec 2>&1; {look}; {write}; touch mine", SHM_SIZE="96mb")
    assert said.splitlines()[-6:] == [
        "12345", "12345", "CapEff:\t0000000000000000", "65536", "24576*4096",
        "touch: cannot touch 'mine': Read-only file system",
    ]  # fmt: skip
    assert code == 1
    read = 'cat "$HOME/file" "$HF_HOME/file" "$TORCHINDUCTOR_CACHE_DIR/file"'
    assert site.shell(read)[1].splitlines()[-3:] == ["kept"] * 3


def test_directory_behind_a_link_keeps_its_owner(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    site.give_to(1234)
    (site.folder / "runs").symlink_to(outside)
    code, said = site.shell("true")
    assert (code, "runs is a link to a directory owned by root" in said) == (2, True), (
        said
    )
    assert outside.stat().st_uid == os.getuid() == 0


def test_the_user_can_be_chosen(site: Site) -> None:
    site.folder.chmod(0o755)
    code, said = site.shell("touch runs/file", HOST_UID="1001", HOST_GID="1002")
    assert code == 0, said
    made = (site.folder / "runs" / "file").stat()
    assert (made.st_uid, made.st_gid) == (1001, 1002)


def test_the_health_check_passes_and_can_fail(site: Site) -> None:
    assert site.run("up", "--detach", "train", TRAIN_OPTIONS=LONG)[0] == 0
    kind, check = site.inspect("train")["Config"]["Healthcheck"]["Test"]
    assert kind == "CMD"
    container = f"{site.name}-train-1"
    assert docker("exec", container, "sh", "-c", check, check=False).returncode == 0
    lost = "mkdir /tmp/bin; printf '#!/bin/sh\\nexit 9\\n' >/tmp/bin/nvidia-smi; chmod +x /tmp/bin/nvidia-smi"
    docker("exec", container, "sh", "-c", lost)
    assert (
        docker(
            "exec", container, "sh", "-c", f"PATH=/tmp/bin:$PATH; {check}", check=False
        ).returncode
        == 9
    )


# --- the others ------------------------------------------------------------------------------------------------------


def status(port: int, path: str, token: str = "") -> int:
    """HTTP status; 0 while there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(
            "GET", path, headers={"Authorization": f"token {token}"} if token else {}
        )
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def addresses(site: Site, service: str) -> set[str]:
    ports = site.inspect(service)["HostConfig"]["PortBindings"]
    return {binding["HostIp"] for bindings in ports.values() for binding in bindings}


@pytest.fixture
def notebook(site: Site) -> Iterator[Site]:
    site.env.update(NOTEBOOK_IMAGE=f"compose-test:{site.name}", COMPOSE_FILE=NOTEBOOK)
    yield site
    site.run("--profile", "*", "down", "--volumes", "--timeout", "1")
    docker("image", "rm", site.env["NOTEBOOK_IMAGE"], check=False)


KERNEL = """
from jupyter_client.manager import run_kernel
with run_kernel() as kernel:
    kernel.execute_interactive("import torch, packaging; print(torch.ones(2).sum().item(), packaging.__version__)")
"""


PIP = """
from jupyter_client.manager import run_kernel
with run_kernel() as kernel:
    kernel.execute_interactive("%pip install einops")
"""


def test_notebook_requires_a_token_and_uses_locked_packages(notebook: Site) -> None:
    code, said = notebook.run("up", "--exit-code-from", "notebook", "notebook")
    assert (code, "NOTEBOOK_TOKEN is empty" in said) == (2, True), said

    port = free_port()
    code, said = notebook.run(
        "up", "--detach", "notebook", NOTEBOOK_TOKEN=TOKEN, NOTEBOOK_PORT=str(port)
    )
    assert code == 0, said
    wait_until(lambda: status(port, "/api") == 200, "JupyterLab does not answer")
    assert [status(port, "/api/contents", token) for token in ("", "wrong", TOKEN)] == [
        403,
        403,
        200,
    ]
    assert status(port, "/lab", TOKEN) == 200
    assert addresses(notebook, "notebook") == {"127.0.0.1"}
    locked = {
        wheel.name: wheel.version
        for wheel in parse_lock(LOCK.read_text(), source=PRESET).wheels
    }
    code, said = notebook.run("exec", "--no-TTY", "notebook", "python", "-c", KERNEL)
    assert f"2.0 {locked['packaging']}" in said.splitlines(), said
    _, said = notebook.run("exec", "--no-TTY", "notebook", "python", "-c", PIP)
    assert "error: the packages of this image are locked" in said
    assert "`envbuilder build --package einops`" in said
    assert "-m pip install --no-deps --target ~/extra einops" in said
    assert "sys.path.append(" in said


def answer(port: int, path: str) -> Any:
    """The answer as JSON; None while there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    except (OSError, ValueError):
        return None
    finally:
        connection.close()


def test_tensorboard_serves_the_scalars_of_a_run_on_loopback(site: Site) -> None:
    code, said = site.run(
        "up", "--exit-code-from", "train", "train", TRAIN_OPTIONS=TINY, RUN="first"
    )
    assert code == 0, said
    port = free_port()
    site.env["COMPOSE_FILE"] = NOTEBOOK
    code, said = site.run("up", "--detach", "tensorboard", TENSORBOARD_PORT=str(port))
    assert code == 0, said
    tags, run = "/data/plugin/scalars/tags", "first/tensorboard"
    wait_until(lambda: bool(answer(port, tags)), "TensorBoard does not show the run")
    found = answer(port, tags)
    assert {name: sorted(scalars) for name, scalars in found.items()} == {
        run: ["accuracy", "learning_rate", "loss"],
    }
    served = answer(
        port, f"/data/plugin/scalars/scalars?tag=loss&run={run.replace('/', '%2F')}"
    )
    kept = map(
        json.loads,
        (site.folder / "runs" / "first" / "metrics.jsonl").read_text().splitlines(),
    )
    losses = [(event["step"], event["loss"]) for event in kept if "loss" in event]
    assert [(step, pytest.approx(loss)) for _, step, loss in served] == losses
    assert addresses(site, "tensorboard") == {"127.0.0.1"}


def test_accept_has_its_options_and_no_network(site: Site) -> None:
    code, said = site.run("run", "--rm", "--no-TTY", "accept", ACCEPT_OPTIONS="--help")
    assert code == 0, said
    assert "usage: accept" in said
    assert (
        '"network_mode": "none"'
        in site.run("--profile", "accept", "config", "--format", "json")[1]
    )


# --- several nodes ---------------------------------------------------------------------------------------------------

NODES = "--rows 640 --held-out 50 --epochs 2 --save-every 2"  # 40 batches, some seconds
NEAR = 2e-5  # of losses near 0.7, written with five digits


@pytest.fixture
def cluster(site: Site) -> Site:
    site.env.update(OMP_NUM_THREADS="1", TRAIN_OPTIONS=NODES, COMPOSE_FILE=CLUSTER)
    return site


def losses(site: Site, run: str) -> list[float]:
    found: list[float] = json.loads(
        (site.folder / "runs" / run / "metrics.json").read_text()
    )["losses"]
    return found


def nodes(site: Site, *path: str) -> list[Any]:
    """What the engine says of the two nodes."""
    found = [site.inspect("train", number) for number in (1, 2)]
    for name in path:
        found = [one[name] for one in found]
    return found


def start_nodes(site: Site, run: str) -> "subprocess.Popen[str]":
    """`up`, as soon as there is a checkpoint, whichever: the last two are kept, and a busy machine looks seldom."""
    process = site.start("up", RUN=run)
    folder = site.folder / "runs" / run
    wait_until(
        lambda: any(folder.glob("checkpoint-*")),
        "the nodes do not find each other",
        seconds=RUN_SECONDS,
    )
    return process


def test_nodes_reach_single_process_losses_even_after_ctrl_c(cluster: Site) -> None:
    cluster.env["TRAIN_OPTIONS"] += " --dropout 0"
    alone = ("up", "--exit-code-from", "train", "train")
    code, said = cluster.run(*alone, RUN="alone", COMPOSE_FILE="compose.yaml")
    assert code == 0, said
    process = start_nodes(cluster, "latest")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 130, said
    assert nodes(cluster, "State", "ExitCode") == [
        1,
        1,
    ]  # torchrun's, of a job that did not end by itself
    kept = cluster.run("logs", "train")[1]
    saved = re.search(r"saved after batch (\d+): continue with `--resume`", kept)
    assert saved, kept
    code, said = cluster.run("up")
    assert f"resuming after batch {saved[1]} of 40" in said, said
    assert nodes(cluster, "State", "ExitCode") == [0, 0]
    assert nodes(cluster, "RestartCount") == [0, 0]
    pairs = list(zip(losses(cluster, "latest"), losses(cluster, "alone"), strict=True))
    assert max(abs(one - other) for one, other in pairs) <= NEAR
    assert len(set(pairs)) > 30


def test_nodes_run_a_custom_script(site: Site) -> None:
    (site.folder / "mine.py").write_text(
        "import os, sys; print('rank', os.environ['RANK'], *sys.argv[1:])\n"
    )
    code, said = site.run(
        "up", COMPOSE_FILE=CLUSTER, TRAIN_SCRIPT="mine.py", TRAIN_OPTIONS="--more"
    )
    assert code == 0, said
    ours = [line.split("rank ")[1] for line in said.splitlines() if "rank " in line]
    assert sorted(ours) == [
        f"{rank} --output runs/latest --resume --more" for rank in (0, 1)
    ]


@pytest.mark.exhaustive
def test_killed_node_rejoins_and_the_result_is_the_same(cluster: Site) -> None:
    """The second one, then the first, which keeps the rendezvous."""
    code, said = cluster.run("up", RUN="whole")
    assert code == 0, said
    for number, restarts in {2: [0, 1], 1: [1, 1]}.items():
        process = start_nodes(cluster, f"lost-{number}")
        os.kill(cluster.inspect("train", number)["State"]["Pid"], signal.SIGKILL)
        said, _ = process.communicate(timeout=RUN_SECONDS)
        assert nodes(cluster, "State", "ExitCode") == [0, 0], said
        assert nodes(cluster, "RestartCount") == restarts
        assert "error: another process of this run has died" in said
        assert "resuming after batch" in said
        assert 'File "/opt/envbuilder' not in said  # torchrun prints its own tracebacks
        assert losses(cluster, f"lost-{number}") == losses(
            cluster, "whole"
        )  # to the last digit, dropout included
    code, said = cluster.run("up", RUN="whole")
    assert "resuming after batch 40 of 40" in said
    assert nodes(cluster, "State", "ExitCode") == [0, 0]


# --- GPUs ------------------------------------------------------------------------------------------------------------

CDI = """cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
  - name: all
    containerEdits:
      env: [STAND_IN_GPU=all]
"""
STAND_IN = """services:
  train:
    network_mode: none
    volumes:
      - ./entrypoint:/opt/envbuilder/payload/entrypoint:ro
      - ./as-owner:/opt/envbuilder/payload/bin/as-owner:ro
    command: [env]
"""


@pytest.fixture(scope="module")
def nvidia() -> Iterator[PrivateEngine]:
    with private_engine(nvidia=True, cdi=CDI) as engine:
        import_shell(engine, "test/shell:1", "stat", "id", "chown", "setpriv")
        yield engine


def on(engine: PrivateEngine, folder: Path, access: str) -> tuple[int, str]:
    """What `docker compose up train` says with a job that prints its environment."""
    write(folder)
    (folder / "stand-in.yaml").write_text(STAND_IN)
    (folder / "entrypoint").write_text('#!/bin/sh\nexec "$@"\n')
    (folder / "entrypoint").chmod(0o755)
    shutil.copy(ROOT / "docker" / "payload" / "bin" / "as-owner", folder)
    env = surroundings(
        DOCKER_HOST=engine.host,
        TRAIN_IMAGE="test/shell:1",
        MEMLOCK="65536",
        GPU_ACCESS=access,
    )
    files = (
        ["compose.yaml", "compose.gpu.yaml", "stand-in.yaml"]
        if access
        else ["compose.yaml", "stand-in.yaml"]
    )
    site = Site(folder, {**env, "COMPOSE_FILE": ":".join(files)})
    try:
        return site.run("up", "--exit-code-from", "train", "train")
    finally:
        site.run("--profile", "*", "down", "--volumes", "--timeout", "1")


@pytest.mark.parametrize(
    ("access", "seen"),
    [("", set()), ("runtime", {"runtime"}), ("gpus", {"hook"}), ("cdi", {"cdi"})],
)
def test_gpu_access_reaches_the_engine(
    nvidia: PrivateEngine, tmp_path: Path, access: str, seen: set[str]
) -> None:
    before = {name: len(nvidia.calls(name)) for name in ("hook", "runtime")}
    code, said = on(nvidia, tmp_path, access)
    assert code == 0, said
    assert "NVIDIA_VISIBLE_DEVICES=all" in said
    called = {name for name, count in before.items() if len(nvidia.calls(name)) > count}
    assert called | ({"cdi"} if "STAND_IN_GPU=all" in said else set()) == seen


def test_without_nvidia_only_requested_gpus_fail(tmp_path: Path) -> None:
    with private_engine() as engine:
        import_shell(engine, "test/shell:1", "stat", "id", "chown", "setpriv")
        assert on(engine, tmp_path, "")[0] == 0
        code, said = on(engine, tmp_path, "gpus")
        assert code != 0
        assert 'could not select device driver "nvidia"' in said
