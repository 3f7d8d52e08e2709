"""The dev container by the real devcontainer command: for three users of the host, and where it must refuse."""

import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .engine import Image, docker, envbuilder

ROOT = Path(__file__).parents[2]
SOCKET = Path("/var/run/docker.sock")
USERS = (1000, 1001, 12345)
# A user needs an entry in passwd; here in a copy that only these processes see.
BECOME = """
set -eu
mount --bind "$1" /etc/passwd
uid=$2 group=$3
shift 3
exec setpriv --reuid "$uid" --regid "$uid" --groups "$group" "$@"
"""


@dataclass(frozen=True)
class Host:
    """A user of the host with the devcontainer command, and a project folder that belongs to them."""

    uid: int
    home: Path
    project: Path
    command: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"envbuilder.test={self.project.name}"

    @property
    def volume(self) -> str:
        return f"envbuilder-cache-{self.home.name}"

    def __call__(
        self, verb: str, *words: str, packages: str = ""
    ) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "USER": self.home.name, "TMPDIR": str(self.home),
            "DEVCONTAINER_PACKAGES": packages,
        }  # fmt: skip
        label = () if verb == "build" else ("--id-label", self.label)
        return subprocess.run(
            [*self.become(), *self.command, verb, "--workspace-folder", str(self.project), *label, *words],
            capture_output=True, text=True, check=False, timeout=300, cwd=self.home, env=env,
        )  # fmt: skip

    def become(self) -> tuple[str, ...]:
        if os.geteuid() == self.uid:
            return ()
        passwd = self.home / "passwd"
        entry = f"{self.home.name}:x:{self.uid}:{self.uid}::{self.home}:/bin/sh\n"
        passwd.write_text(Path("/etc/passwd").read_text() + entry)
        words = (str(passwd), str(self.uid), str(SOCKET.stat().st_gid))
        return ("unshare", "--mount", "sh", "-c", BECOME, "sh", *words)

    def container(self) -> Any:
        found = docker(
            "ps", "--all", "--quiet", "--filter", f"label={self.label}"
        ).stdout.split()
        return json.loads(docker("inspect", *found).stdout)[0]

    def clean(self) -> None:
        for number in docker(
            "ps", "--all", "--quiet", "--filter", f"label={self.label}"
        ).stdout.split():
            docker("rm", "--force", number)
        docker("volume", "rm", "--force", self.volume)
        for name in self.project.glob("docker/images/*"):
            alias = f"envbuilder-devcontainer:{name.name}"
            docker("image", "rm", "--force", alias, check=False)
        images = docker(
            "image",
            "ls",
            "--format",
            "{{.Repository}}",
            "--filter",
            f"reference=vsc-{self.project.name}-*",
        )
        for name in sorted(set(images.stdout.split()), reverse=True):
            docker("image", "rm", "--force", name)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that every user can reach, as pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="envbuilder-devcontainer-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def command(place: Path) -> tuple[str, ...]:
    """The devcontainer command, where every user can read it."""
    done = subprocess.run(
        [ROOT / "tools/node", "up"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    node = shutil.copy(done.stdout.strip(), place / "node")
    shutil.copytree(ROOT / "tests/node/node_modules/@devcontainers/cli", place / "cli")
    return (str(node), str(place / "cli/devcontainer.js"))


New = Callable[[int], Host]


@pytest.fixture
def new_host(image: Image, place: Path, command: tuple[str, ...]) -> Iterator[New]:
    """Makes hosts; what they leave in the engine goes with the test."""
    made: list[Host] = []
    lock = next(image.site.glob("build/images/*/envbuilder.lock"))

    def make(uid: int) -> Host:
        if os.geteuid() not in (0, uid):
            pytest.skip("only root can be another user")
        home = (
            place / f"user{uid}-{secrets.token_hex(4)}"
        )  # hex: devcontainer takes other signs out of image names
        project = home / f"project-{home.name}"
        project.mkdir(parents=True)
        answer = envbuilder(
            "init", "--lock", str(lock), "--target", "devcontainer", cwd=project
        )
        assert answer.code == 0, answer.err
        for path in (home, *home.rglob("*")):
            os.chown(path, uid, uid)
        made.append(Host(uid, home, project, command))
        return made[-1]

    yield make
    for host in made:
        host.clean()


@pytest.mark.parametrize(
    "uid",
    [USERS[0], *(pytest.param(uid, marks=pytest.mark.exhaustive) for uid in USERS[1:])],
)
def test_container_starts_trains_and_files_belong_to_the_user(
    uid: int, new_host: New
) -> None:
    host = new_host(uid)
    up = host("up")
    assert up.returncode == 0, up.stderr
    assert json.loads(up.stdout.splitlines()[-1])["remoteUser"] == "trainer"
    words = "train --rows 64 --held-out 16 --epochs 1 --output runs/x".split()
    trained = host("exec", *words)
    assert trained.returncode == 0, trained.stderr
    left = list((host.project / "runs").rglob("*"))
    assert "metrics.json" in {path.name for path in left}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in left} == {(uid, uid)}
    seen = host(
        "exec",
        "sh",
        "-c",
        "id -u && touch ~/.cache/a && stat -c %u ~/.cache ~/.cache/a && cat /proc/1/comm",
    )
    assert seen.stdout.split() == [str(uid)] * 3 + ["docker-init"]


def test_shells_of_an_editor_find_the_environment_and_git(new_host: New) -> None:
    host = new_host(USERS[0])
    up = host("up", packages="git")
    assert up.returncode == 0, up.stderr
    for shell in (["sh", "-c"], ["bash", "-lc"], ["bash", "-lic"]):
        found = host(
            "exec",
            *shell,
            "for name in python train accept git; do command -v $name; done",
        )
        expected = "/opt/venv/bin/python /usr/local/bin/train /usr/local/bin/accept /usr/bin/git".split()
        assert found.stdout.split() == expected, found.stderr
    limits = host.container()["HostConfig"]
    assert (limits["ShmSize"], limits["Init"]) == (2 * 2**30, True)


def test_shells_of_an_editor_get_threads_pip_and_metrics(new_host: New) -> None:
    host = new_host(USERS[0])
    path = host.project / ".devcontainer/devcontainer.json"
    path.write_text(path.read_text().replace('"--shm-size', '"--cpus=1", "--shm-size'))
    up = host("up")
    assert up.returncode == 0, up.stderr
    if host("exec", "nproc", "--all").stdout.strip() == "1":
        pytest.skip("the machine has one CPU, which no quota makes fewer")
    look = (
        "echo $OMP_NUM_THREADS; command -v pip; "
        "ls ~/.cache/huggingface/modules/evaluate_modules/metrics | wc -l"
    )
    expected = ["1", "/opt/envbuilder/payload/no-pip/pip", "5"]
    for shell in (["bash", "-lc"], ["bash", "-ic"], ["sh", "-lc"]):
        found = host("exec", *shell, look)
        assert found.stdout.split() == expected, found.stderr
    # An editor starts processes with the environment of a login shell, and without one.
    python = host(
        "exec", "python", "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"
    )
    assert python.stdout == "1\n", python.stderr


def test_the_image_alone_is_a_dev_container(image: Image, new_host: New) -> None:
    """Its label says the user, the environment and the editor's settings."""
    host = new_host(USERS[0])
    folder = host.project / ".devcontainer"
    for path in folder.iterdir():
        path.unlink()
    (folder / "devcontainer.json").write_text(json.dumps({"image": image.tag}))
    up = host("up", "--include-merged-configuration")
    assert up.returncode == 0, up.stderr
    outcome = json.loads(up.stdout.splitlines()[-1])
    assert outcome["remoteUser"] == "trainer"
    code = outcome["mergedConfiguration"]["customizations"]["vscode"][0]
    assert code["settings"]["python.defaultInterpreterPath"] == "/opt/venv/bin/python"
    look = (
        "for name in python train accept; do command -v $name; done; "
        "id -un; touch mine; stat -c %u mine; cat /proc/1/comm"
    )
    seen = host("exec", "sh", "-c", look)
    assert seen.stdout.split() == [
        "/opt/venv/bin/python",
        "/opt/envbuilder/payload/bin/train",
        "/opt/envbuilder/payload/bin/accept",
        "trainer",
        str(USERS[0]),
        "docker-init",
    ], seen.stderr
    words = "train --rows 64 --held-out 16 --epochs 1 --output runs/x".split()
    trained = host("exec", *words)
    assert trained.returncode == 0, trained.stderr


@pytest.mark.exhaustive
def test_gpu_is_requested_only_if_one_exists(new_host: New) -> None:
    host = new_host(USERS[0])
    without = host("up", "--gpu-availability", "none", "--skip-post-create")
    assert without.returncode == 0, without.stderr
    assert "--gpus all" not in without.stderr
    host.clean()
    assert (
        "--gpus all"
        in host("up", "--gpu-availability", "all", "--skip-post-create").stderr
    )


def test_build_command_gives_an_image(new_host: New) -> None:
    host = new_host(USERS[0])
    name = f"envbuilder-test-{host.home.name}"
    # `up` does this by itself; `build` runs no command on the host.
    subprocess.run(["sh", ".devcontainer/image"], cwd=host.project, check=True)
    built = host("build", "--image-name", name)
    try:
        assert built.returncode == 0, built.stderr
        assert (
            docker(
                "image", "inspect", "--format", "{{.Config.User}}", name
            ).stdout.strip()
            == "trainer"
        )
    finally:
        docker("image", "rm", "--force", name, check=False)


def refused(host: Host) -> str:
    """What `up` says when it must not come up."""
    up = host("up")
    assert up.returncode != 0
    assert json.loads(up.stdout.splitlines()[-1])["outcome"] == "error"
    return up.stdout + up.stderr


def select_image(host: Host, name: str) -> None:
    """Have the dev container start from this image, as if BASE selected it."""
    path = host.project / ".devcontainer/image"
    text = re.sub("(?m)^image=.*$", f"image={name}", path.read_text())
    path.write_text(text)


def test_broken_image_does_not_start_and_explains_why(
    image: Image, new_host: New
) -> None:
    host = new_host(USERS[0])
    broken = f"envbuilder-test-broken:{host.home.name}"
    recipe = (
        f"FROM {image.tag}\nUSER 0\n"
        "RUN rm /opt/venv/lib/python3*/site-packages/transformers/trainer.py\nUSER 1000\n"
    )
    subprocess.run(
        ["docker", "buildx", "build", "--quiet", "--load", "--tag", broken, "-"],
        input=recipe,
        text=True,
        check=True,
    )
    try:
        select_image(host, broken)
        said = refused(host)
    finally:
        host.clean()
        docker("image", "rm", "--force", broken)
    assert "files of torch, transformers and CUDA are unchanged" in said
    assert "transformers/trainer.py" in said
    assert "error: this container does not match its lock" in said


def test_missing_image_error_tells_how_to_build_it(new_host: New) -> None:
    host = new_host(USERS[0])
    select_image(host, "envbuilder-test-absent:1")
    said = refused(host)
    assert "error: image envbuilder-test-absent:1 not found" in said
    assert "hint: build it: `envbuilder build`" in said


def test_an_image_of_another_lock_is_refused(new_host: New) -> None:
    host = new_host(USERS[0])
    lock = next(host.project.glob("docker/images/*/envbuilder.lock"))
    lock.write_text(lock.read_text().replace('"schema": 1', '"schema":  1', 1))
    assert "the file has changed since" in refused(host)


def test_cache_volume_of_another_user_is_refused(image: Image, new_host: New) -> None:
    host = new_host(USERS[1])
    volume = f"{host.volume}:/cache"
    docker(
        "run",
        "--rm",
        "--user",
        "0",
        "--network",
        "none",
        "--volume",
        volume,
        image.tag,
        "touch",
        "/cache/models",
    )
    assert "cannot write to the cache volume, which belongs to UID 0" in refused(host)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_directory_of_another_user_is_refused(new_host: New) -> None:
    host = new_host(USERS[1])
    os.chown(host.project, 0, 0)
    assert "trainer (1001) cannot write" in refused(host)
