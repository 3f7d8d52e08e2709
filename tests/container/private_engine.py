"""A Docker engine of a test's own: to die, to run out of disk, and to have a stand-in for NVIDIA's runtime.

It runs in a network namespace of its own, because a second engine without one takes the first one's bridge down.
"""

import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ANSWER_SECONDS = 60
HOOK = """#!/bin/sh
echo "$@" >> {calls}
cat > /dev/null
{then}
"""
RUNTIME = """#!/bin/sh
echo runtime >> {calls}
exec runc "$@"
"""


@dataclass
class PrivateEngine:
    """One that answers at `host`; `calls` is what the NVIDIA stand-ins were called with."""

    folder: Path
    process: "subprocess.Popen[bytes]"
    host: str = field(init=False)

    def __post_init__(self) -> None:
        self.host = f"unix://{self.folder}/docker.sock"

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def docker(self, *words: str) -> str:
        env = {**os.environ, "DOCKER_HOST": self.host}
        return subprocess.run(["docker", *words], env=env, check=True, capture_output=True, text=True).stdout

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


@contextmanager
def private_engine(
    folder: Path, *, nvidia: bool = False, hook_says: str = "", options: Sequence[str] = (), disk: str = ""
) -> Iterator[PrivateEngine]:
    """Start one in `folder`; `hook_says` makes the stand-in hook fail with these words, `disk` is a tmpfs's size."""
    folder.mkdir(parents=True)
    programs = folder / "bin"
    programs.mkdir()
    words = ["--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")]
    words += ["--pidfile", str(folder / "pid"), "--host", f"unix://{folder}/docker.sock"]
    words += ["--bridge=none", "--iptables=false", "--ip6tables=false", *options]
    if nvidia:
        then = f'echo "{hook_says}" >&2; exit 1' if hook_says else "exit 0"
        write_program(programs / "nvidia-container-runtime-hook", HOOK.format(calls=folder / "calls", then=then))
        write_program(programs / "nvidia-container-runtime", RUNTIME.format(calls=folder / "calls"))
        words += ["--add-runtime", f"nvidia={programs / 'nvidia-container-runtime'}"]
    (folder / "data").mkdir()
    if disk:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={disk}", "tmpfs", str(folder / "data")], check=True)
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["unshare", "--net", "dockerd", *words], env=env, stdout=log, stderr=log)
    try:
        engine = PrivateEngine(folder, process)
        wait_for(engine)
        yield engine
    finally:
        process.terminate()
        process.wait(60)
        end_containerd(folder / "exec" / "containerd" / "containerd.pid")
        unmount(folder)
        shutil.rmtree(folder, ignore_errors=True)


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def wait_for(engine: PrivateEngine) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline and engine.process.poll() is None:
        try:
            engine.docker("version")
        except subprocess.CalledProcessError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError((engine.folder / "log").read_text()[-2000:])


def end_containerd(pidfile: Path) -> None:
    """A killed dockerd leaves its containerd; end that one, by the id it wrote."""
    if not pidfile.exists():
        return
    pid = int(pidfile.read_text())
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def unmount(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)


def import_shell(engine: PrivateEngine, reference: str) -> None:
    """An image of nothing but this machine's shell, `env`, `sleep` and `dd`, with the libraries they need."""
    tar = engine.folder / "shell.tar"
    with tarfile.open(tar, "w", dereference=True) as archive:
        seen: set[str] = set()
        for program in ("sh", "env", "sleep", "dd"):
            path = shutil.which(program)
            assert path
            linked = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
            for name in [path, *(word for word in linked.split() if word.startswith("/"))]:
                if name not in seen:
                    seen.add(name)
                    archive.add(name, arcname=name.lstrip("/") if name != path else f"bin/{program}")
    engine.docker("import", "--change", "ENV PATH=/bin", str(tar), reference)
