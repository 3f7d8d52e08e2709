"""A separate Docker engine for a test: it can be killed, run out of disk, and have stand-ins for NVIDIA's programs.

It runs in separate namespaces. Network: a second engine would take the first one's bridge down. Processes and
mounts: what a killed engine leaves behind (containerd, the commands of a build, their file systems) ends with it.
"""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from waiting import wait_until

STOP_SECONDS = 30
OWN_NAMESPACES = "setpriv --pdeathsig KILL unshare --net --pid --mount --fork --kill-child --mount-proc sh -ec".split()
START = """
ip link set lo up
if [ -n "$DISK" ]; then mount -t tmpfs -o size="$DISK" tmpfs "$DATA"; fi
exec dockerd "$@"
"""
HOOK = """#!/bin/sh
echo "hook $*" >> {calls}
cat > /dev/null
{then}
"""
RUNTIME = """#!/bin/sh
echo "runtime $*" >> {calls}
exec runc "$@"
"""


@dataclass(frozen=True)
class PrivateEngine:
    """One that answers at `host`; `pid` is dockerd's, as this machine sees it."""

    folder: Path
    process: "subprocess.Popen[bytes]"

    @property
    def host(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    @property
    def pid(self) -> int:
        children = (
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            .read_text()
            .split()
        )
        return int(children[0])

    def calls(self, of: str) -> list[str]:
        """What a stand-in, `hook` or `runtime`, was called with."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [
            line.removeprefix(f"{of} ") for line in lines if line.startswith(f"{of} ")
        ]

    def docker(self, *words: str) -> str:
        env = {**os.environ, "DOCKER_HOST": self.host}
        return subprocess.run(
            ["docker", *words],
            env=env,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    def kill(self) -> None:
        os.kill(self.pid, 9)
        self.process.wait(STOP_SECONDS)


@contextmanager
def private_engine(
    *,
    nvidia: bool = False,
    hook_says: str = "",
    cdi: str = "",
    disk: str = "",
    containerd: bool = False,
    mirror: str = "",
) -> Iterator[PrivateEngine]:
    """Start one and end it. `nvidia`: with stand-ins for its hook and runtime; `hook_says`: the hook fails with these
    words; `cdi`: the feature is on and this is its one specification; `disk`: the images are on a tmpfs of that size;
    `containerd`: its images are in containerd's store; `mirror`: the address of a mirror of Docker Hub.
    """
    folder = Path(
        tempfile.mkdtemp(prefix="engine-")
    )  # short: the path of a socket has at most 107 bytes
    try:
        words = [
            "--data-root",
            f"{folder}/data",
            "--exec-root",
            f"{folder}/exec",
            "--pidfile",
            f"{folder}/pid",
        ]
        words += [
            "--host",
            f"unix://{folder}/docker.sock",
            "--cgroup-parent",
            f"/{folder.name}",
        ]
        words += ["--bridge=none", "--iptables=false", "--ip6tables=false"]
        words += [*_nvidia(folder, hook_says)] if nvidia else []
        words += ["--config-file", str(_config(folder, cdi, containerd))]
        words += ["--registry-mirror", mirror] if mirror else []
        (folder / "data").mkdir()
        env = {
            **os.environ,
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "DISK": disk,
            "DATA": f"{folder}/data",
        }
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*OWN_NAMESPACES, START, "dockerd", *words],
                env=env,
                stdout=log,
                stderr=log,
            )
        engine = PrivateEngine(folder, process)
        try:
            _wait_for(engine)
            yield engine
        finally:
            _end(engine)
    finally:
        _remove_cgroups(folder.name)
        shutil.rmtree(folder)


def _nvidia(folder: Path, hook_says: str) -> Sequence[str]:
    """Stand-ins on the engine's PATH, as the NVIDIA Container Toolkit would have them there."""
    (folder / "bin").mkdir()
    then = f"echo '{hook_says}' >&2; exit 1" if hook_says else "exit 0"
    for name, text in (
        ("nvidia-container-runtime-hook", HOOK),
        ("nvidia-container-runtime", RUNTIME),
    ):
        program = folder / "bin" / name
        program.write_text(text.format(calls=folder / "calls", then=then))
        program.chmod(0o755)
    return ["--add-runtime", f"nvidia={folder}/bin/nvidia-container-runtime"]


def _config(folder: Path, cdi: str, containerd: bool) -> Path:
    """A separate daemon.json, so that this machine's does not apply."""
    (folder / "cdi").mkdir()
    if cdi:
        (folder / "cdi" / "nvidia.yaml").write_text(cdi)
    path = folder / "daemon.json"
    config: dict[str, object] = {
        "features": {"cdi": bool(cdi), "containerd-snapshotter": containerd}
    }
    path.write_text(
        json.dumps({**config, "cdi-spec-dirs": [f"{folder}/cdi"]} if cdi else config)
    )
    return path


def _wait_for(engine: PrivateEngine) -> None:
    def log() -> str:
        return (engine.folder / "log").read_text()[-2000:]

    def answers() -> bool:
        if engine.process.poll() is not None:
            raise AssertionError(log())
        try:
            engine.docker("version")
        except subprocess.CalledProcessError:
            return False
        return True

    wait_until(answers, log)


def _end(engine: PrivateEngine) -> None:
    """Ask dockerd; if it does not listen, end it. Its death is that of every process in its namespace."""
    if engine.process.poll() is not None:
        return
    with suppress(OSError, IndexError):  # it ends by itself
        os.kill(engine.pid, 15)
    try:
        engine.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        engine.kill()


def _remove_cgroups(name: str) -> None:
    """Those below the engine's own parent; only empty ones can be removed."""
    root = Path("/sys/fs/cgroup")
    for top in [root / name, *root.glob(f"*/{name}")]:
        for path, _, _ in os.walk(top, topdown=False):
            Path(path).rmdir()


def import_shell(engine: PrivateEngine, reference: str, *programs: str) -> None:
    """An image of nothing but this machine's shell, `env`, `sleep`, `dd`, `programs`, and the libraries they need."""
    tar = engine.folder / "shell.tar"
    with tarfile.open(tar, "w", dereference=True) as archive:
        seen: set[str] = set()
        for program in ("sh", "env", "sleep", "dd", *programs):
            path = shutil.which(program)
            assert path
            linked = subprocess.run(
                ["ldd", path], capture_output=True, text=True, check=True
            ).stdout
            for name in [
                path,
                *(word for word in linked.split() if word.startswith("/")),
            ]:
                if name not in seen:
                    seen.add(name)
                    archive.add(
                        name,
                        arcname=name.lstrip("/") if name != path else f"bin/{program}",
                    )
    engine.docker("import", "--change", "ENV PATH=/bin", str(tar), reference)
