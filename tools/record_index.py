"""Record the part of the index that decides the committed locks, for the tests: `make record-index`.

    .venv/bin/python tools/record_index.py [--index-url URL]

One file for each project goes to `tests/recorded_index/`: the wheels that uv could take for a lock, and a few that it
must not take (`index/recording.py` says which), and of their METADATA what decides an installation. Nothing names the
index. Which projects matter follows from the locks' requirements and METADATA, not from what a run of uv downloads: uv
fetches ahead, so that its requests depend on the speed of the network. The same index gives the same bytes.
"""

import argparse
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import requests
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple
from remotezip import RemoteZip  # type: ignore[import-untyped]
from requests.adapters import HTTPAdapter

from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import Lock, Stack
from index.recording import (
    Releases,
    Wheel,
    dependencies,
    fits,
    read_wheels,
    releases_for,
    trim_metadata,
    versions_to_keep,
)

ROOT = Path(__file__).parent.parent
RECORDED = ROOT / "tests" / "recorded_index"
PACKAGES = {
    "cu117-torch2.0.1-py3.9-debian11": (
        "peft",
        "tqdm",
        "transformers>=4.50",
        "numpy>=2",
        "torch==2.6.0",
    )
}
"""What tests ask for in addition to a stack."""
CONNECTIONS = 12


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 1 if a locked wheel is not on the index as it was locked, and nothing is written then."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--index-url",
        default=PYPI_SIMPLE_ENDPOINT,
        help="an index with upload times (PEP 700)",
    )
    options = parser.parse_args(argv)
    locks = [
        parse_lock(path.read_text(encoding="utf-8"), source=str(path))
        for path in find_locks()
    ]
    with (
        requests.Session() as session,
        PyPISimple(options.index_url, session=session) as source,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        session.mount("https://", HTTPAdapter(pool_maxsize=CONNECTIONS))
        recording = Recording(Index(source, session), pool)
        for lock in locks:
            recording.want(lock)
        recording.follow()
        files = recording.texts([lock.stack for lock in locks])
    problems = [
        line for lock in locks for line in find_drift(lock, recording.index.wheels)
    ]
    for line in problems:
        print(f"error: {line}", file=sys.stderr)
    return 1 if problems else write(files)


def find_locks() -> list[Path]:
    """Every lock that is committed."""
    tests = ROOT / "tests" / "golden"
    return sorted(
        [
            *(ROOT / "docker" / "images").glob(f"*/{LOCK_FILE}"),
            *tests.glob(f"*/{LOCK_FILE}"),
        ]
    )


def find_drift(lock: Lock, wheels: Mapping[str, Sequence[Wheel]]) -> Iterator[str]:
    """Locked wheels that the index does not have, or has yanked."""
    stack = lock.stack.name
    for locked in lock.wheels:
        on_index = {wheel.filename: wheel for wheel in wheels[locked.name]}
        wheel = on_index.get(locked.file)
        if wheel is None or wheel.sha256 != locked.sha256:
            yield f"{stack}: the index does not have {locked.file} as it was locked"
        elif wheel.yanked is not None:
            reason = wheel.yanked or "no reason given"
            yield f"{stack}: {locked.file} is yanked: {reason}"


def write(files: Mapping[str, str]) -> int:
    """Write the files that changed, remove those that are no longer wanted, and say so."""
    RECORDED.mkdir(exist_ok=True)
    for path in sorted(RECORDED.glob("*.json")):
        if path.name not in files:
            path.unlink()
            print(f"removed {path.name}")
    size = 0
    for name, text in files.items():
        path = RECORDED / name
        size += len(text)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8", newline="\n")
            print(f"wrote {name}")
    print(f"{RECORDED.relative_to(ROOT)}: {len(files)} projects, {size / 1e6:.1f} MB")
    return 0


# --- the index -----------------------------------------------------------------------------------------------------


class Index:
    """Pages and METADATA of the real index, each fetched once."""

    def __init__(self, source: PyPISimple, session: requests.Session) -> None:
        self._source = source
        self._session = session
        self.wheels: dict[str, list[Wheel]] = {}
        self.metadata: dict[
            str, list[str]
        ] = {}  # sha256 of the wheel → what is kept of its METADATA

    def fetch_page(self, name: str) -> None:
        """Read the page of a project; one that does not exist has no wheels."""
        if name not in self.wheels:
            try:
                self.wheels[name] = read_wheels(self._source.get_project_page(name))
            except NoSuchProjectError:
                self.wheels[name] = []

    def fetch_metadata(self, wheel: Wheel) -> None:
        """Read the METADATA of a wheel: its own file (PEP 658) if the index has one, else a part of the wheel."""
        if wheel.sha256 not in self.metadata:
            url = wheel.metadata_url
            text = self._metadata_file(url) if url else self._metadata_inside(wheel)
            self.metadata[wheel.sha256] = trim_metadata(text)

    def _metadata_file(self, url: str) -> str:
        answer = self._session.get(url, timeout=60)
        answer.raise_for_status()
        return answer.content.decode()

    def _metadata_inside(self, wheel: Wheel) -> str:
        name, version = wheel.filename.split("-")[:2]
        with RemoteZip(wheel.url, session=self._session) as archive:
            for path in archive.namelist():
                folder, _, file = path.partition("/")
                if folder.endswith(".dist-info") and file == "METADATA":
                    return str(archive.read(path).decode())
        raise FileNotFoundError(f"{name} {version}: the wheel has no METADATA")


# --- what is recorded ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A requirement on the way to a lock."""

    lock: Lock
    name: str
    requirement: Requirement

    @property
    def key(self) -> tuple[str, str]:
        """The same for two requirements that lead to the same versions."""
        return self.lock.stack.name, str(self.requirement)


@dataclass(slots=True)
class Recording:
    """Grows from the requirements of the locks along METADATA until nothing new is asked for."""

    index: Index
    pool: ThreadPoolExecutor
    kept: dict[str, set[Version]] = field(default_factory=dict)
    _todo: list[Want] = field(default_factory=list)
    _seen: set[tuple[str, str]] = field(default_factory=set)
    _releases: dict[tuple[str, str], Releases] = field(default_factory=dict)

    def want(self, lock: Lock) -> None:
        """Start from what uv is given for a lock."""
        stack = lock.stack
        more = PACKAGES.get(stack.name, ())
        for line in (*stack.requirements, *stack.extras, *more):
            self._add(lock, Requirement(line))

    def _add(self, lock: Lock, requirement: Requirement) -> None:
        name = canonicalize_name(requirement.name)
        want = Want(lock=lock, name=name, requirement=requirement)
        if name in lock.stack.excluded or want.key in self._seen:
            return
        self._seen.add(want.key)
        self._todo.append(want)

    def follow(self) -> None:
        """Keep the versions of everything that is wanted, and want what these depend on."""
        while self._todo:
            wants, self._todo = self._todo, []
            names = {want.name for want in wants}
            list(self.pool.map(self.index.fetch_page, names))
            kept: list[tuple[Want, Wheel]] = []
            for want in wants:
                kept += [(want, wheel) for wheel in self._keep(want)]
            self._fetch_metadata([wheel for _, wheel in kept])
            for want, wheel in kept:
                self._depend(want, wheel)

    def _depend(self, want: Want, wheel: Wheel) -> None:
        """Want what a wheel depends on."""
        lines = self.index.metadata[wheel.sha256]
        for needed in dependencies(lines, want.lock.stack, want.requirement.extras):
            self._add(want.lock, needed)

    def _keep(self, want: Want) -> Iterator[Wheel]:
        """Keep versions for a requirement; yields a wheel of each."""
        stack = want.lock.stack
        locked = {wheel.name: wheel.version for wheel in want.lock.wheels}
        versions = versions_to_keep(
            self._releases_for(want.name, stack),
            want.requirement.specifier,
            locked.get(want.name),
        )
        self.kept.setdefault(want.name, set()).update(versions)
        for wheel in self.index.wheels[want.name]:
            if wheel.version in versions and fits(wheel, stack):
                versions.remove(wheel.version)
                yield wheel

    def _releases_for(self, name: str, stack: Stack) -> Releases:
        place = (stack.name, name)
        if place not in self._releases:
            self._releases[place] = releases_for(self.index.wheels[name], stack)
        return self._releases[place]

    def _fetch_metadata(self, wheels: Collection[Wheel]) -> None:
        once = {wheel.sha256: wheel for wheel in wheels}
        list(self.pool.map(self.index.fetch_metadata, once.values()))

    def texts(self, stacks: Sequence[Stack]) -> dict[str, str]:
        """The file of each project: every wheel of a kept version that is for one of the stacks."""
        every: list[Wheel] = []
        projects: dict[str, list[Wheel]] = {}
        for name in sorted(self.kept):
            wheels = [
                wheel
                for wheel in self.index.wheels[name]
                if self._is_kept(name, wheel, stacks)
            ]
            every += wheels
            if wheels:
                projects[name] = wheels
        self._fetch_metadata(every)
        files = {}
        for name, wheels in projects.items():
            files[f"{name}.json"] = dumps(name, wheels, self.index.metadata)
        return files

    def _is_kept(self, name: str, wheel: Wheel, stacks: Sequence[Stack]) -> bool:
        return wheel.version in self.kept[name] and any(
            fits(wheel, stack) for stack in stacks
        )


# --- the files -----------------------------------------------------------------------------------------------------


def dumps(
    name: str, wheels: Sequence[Wheel], metadata: Mapping[str, Sequence[str]]
) -> str:
    """The file of a project: one wheel a line, and each text of METADATA once, under a name made of its content."""
    texts: dict[str, str] = {}
    rows = []
    for wheel in sorted(wheels, key=lambda wheel: (wheel.version, wheel.filename)):
        text = json.dumps(metadata[wheel.sha256], indent=1)
        key = sha256(text.encode()).hexdigest()[:12]
        texts[key] = f'"{key}": {text}'
        row = _row(wheel, key)
        rows.append(json.dumps(row, sort_keys=True))
    files = ",\n".join(rows)
    known = ",\n".join(texts[key] for key in sorted(texts))
    return f'{{\n"files": [\n{files}\n],\n"metadata": {{\n{known}\n}},\n"name": "{name}"\n}}\n'


def _row(wheel: Wheel, key: str) -> dict[str, Any]:
    """A wheel as PEP 691 and PEP 700 have it, with `metadata` in the place of `url` and `core-metadata`."""
    return {
        "filename": wheel.filename,
        "hashes": {"sha256": wheel.sha256},
        "metadata": key,
        "requires-python": wheel.requires_python,
        "size": wheel.size,
        "upload-time": wheel.uploaded.isoformat().replace("+00:00", "Z"),
        "yanked": (wheel.yanked or True) if wheel.yanked is not None else False,
    }


if __name__ == "__main__":
    sys.exit(main())
