"""Where `make chaos` runs commands, and what a command leaves there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRESETS = ROOT / "docker" / "images"
RUN_LABEL = "dev.envbuilder.run"
HEARING = ("env", "--default-signal=INT,TERM,HUP")  # whoever started us may ignore them
LONGEST = 900  # seconds until a command that nobody kills counts as hung
Files = dict[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """Where a command runs: a project, a folder for temporary files, and what it is told by its environment."""

    folder: Path
    env: Mapping[str, str]

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def start(self, words: Sequence[str]) -> "subprocess.Popen[bytes]":
        argv = [*HEARING, "nice", sys.executable, "-m", "envbuilder", *words]
        log = (self.folder / "log").open("w", encoding="utf-8", newline="\n")
        env = {**os.environ, **self.env, "TMPDIR": str(self.temporary)}
        with log:
            return subprocess.Popen(
                argv, cwd=self.project, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def run(self, words: Sequence[str]) -> int:
        return self.start(words).wait(LONGEST)

    def said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-600:]

    def docker(self, *words: str) -> list[str]:
        done = subprocess.run(
            ["docker", *words],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()


def place_in(folder: Path, env: Mapping[str, str]) -> Workplace:
    place = Workplace(folder=folder, env=env)
    for path in (place.temporary, place.project):
        path.mkdir(parents=True)
    return place


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def fill(folder: Path, files: Files) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def preset(name: str) -> Path:
    return next(PRESETS.glob(f"{name}*")) / "envbuilder.lock"


# --- what is left --------------------------------------------------------------------------------------------------


def read_files(folder: Path) -> Files:
    """Every file below a folder; what lies in a half-made folder counts as well."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def processes_in(folder: Path) -> list[str]:
    """The processes that have this folder in their environment, but for the engine's."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment = (path / "environ").read_bytes()
            command = (
                (path / "cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="replace")
            )
        except OSError:
            continue
        if f"TMPDIR={folder}".encode() in environment and "dockerd" not in command:
            found.append(f"process left: {command[:80]}")
    return found


def containers_of(place: Workplace, pid: int) -> list[str]:
    """The containers that a run of ours made and that are still there."""
    template = f'{{{{.ID}}}}={{{{.Label "{RUN_LABEL}"}}}}'
    lines = place.docker(
        "ps", "--all", "--filter", f"label={RUN_LABEL}", "--format", template
    )
    return [f"container left: {line}" for line in lines if f":{pid}:" in line]


def volumes_of(place: Workplace, pid: int) -> list[str]:
    """The volumes that a run of ours made and that are still there."""
    template = f'{{{{.Name}}}}={{{{.Label "{RUN_LABEL}"}}}}'
    lines = place.docker(
        "volume", "ls", "--filter", f"label={RUN_LABEL}", "--format", template
    )
    return [f"volume left: {line}" for line in lines if f":{pid}:" in line]


def left_by(place: Workplace, pid: int, *, has_engine: bool) -> list[str]:
    """What lies about after a command has ended."""
    found = [
        f"temporary folder left: {path.name}" for path in place.temporary.iterdir()
    ]
    mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    found += [
        f"mount left: {line.split()[1]}"
        for line in mounts
        if str(place.temporary) in line
    ]
    found += processes_in(place.temporary)
    if has_engine:
        found += containers_of(place, pid) + volumes_of(place, pid)
    return found
