"""Which releases of the user's packages are old for want of a wheel, and what becomes of them. uv is a function."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest
from packaging.version import Version

from envbuilder.errors import LockError, NoStackError
from envbuilder.lock.creation import create_lock
from envbuilder.lock.index_client import IndexClient
from envbuilder.lock.lock_file import parse_lock
from envbuilder.lock.release_age import OldRelease, Release, unmet
from envbuilder.lock.sources.resolution import ask_with_sources
from envbuilder.lock.sources.sdist_file import SdistFile
from envbuilder.lock.sources.workshop import Prepared, SourceWorkshop
from envbuilder.lock.uv_compile import Uv, compile_argv
from envbuilder.lock.wheel_metadata import parse_metadata
from envbuilder.model import Source, SourceKind, Stack
from envbuilder.network import Network
from envbuilder.processes import Completed

PRESET = (
    Path(__file__).parents[2]
    / "docker/images/cu117-torch2.0.1-py3.9-debian11/envbuilder.lock"
)
LOCK = parse_lock(PRESET.read_text(), source="x")
HASH = "a" * 64
FILE = 'hashes = {{ sha256 = "{hash}" }}, upload-time = {day}T00:00:00Z'


def release(version: str, day: str, *files: str) -> str:
    """A release of `old` in a pylock document."""
    rest = FILE.format(hash=HASH, day=day)
    lines = ["[[packages]]", 'name = "old"', f'version = "{version}"']
    if "wheel" in files:
        url = f"http://127.0.0.1:9/old-{version}-py3-none-any.whl"
        lines.append(f'wheels = [{{ url = "{url}", size = 1, {rest} }}]')
    if "sdist" in files:
        url = f"http://127.0.0.1:9/old-{version}.tar.gz"
        lines.append(f'sdist = {{ url = "{url}", size = 1, {rest} }}')
    return "\n".join(['lock-version = "1.0"', 'created-by = "x"', *lines, ""])


class TwoAnswers:
    """A uv that has one release with a wheel, and a newer one; it counts how often the newest is wanted."""

    def __init__(self, locked: str, newest: str) -> None:
        self.locked = locked
        self.newest = newest
        self.questions: list[str] = []
        client = IndexClient(network=Network())
        self.uv = Uv(program="uv", run=self.run, client=client)

    def run(self, argv: Sequence[str]) -> Completed:
        text = self.locked
        if "--only-binary" not in argv:
            lines = Path(argv[3]).read_text()
            self.questions.append(lines)
            text = self.locked if "old<" in lines else self.newest
        Path(argv[5]).write_text(text)
        return Completed(returncode=0, stdout="", stderr="")


class Workshop:
    """Builds nothing, or refuses to."""

    def __init__(self, error: LockError | None = None) -> None:
        self.error = error
        self.taken: list[str] = []

    def prepare(self, stack: Stack) -> list[Prepared]:
        return []

    def prepare_sdist(self, sdist: SdistFile, stack: Stack) -> Prepared:
        self.taken.append(sdist.file)
        if self.error:
            raise self.error
        source = Source(
            name=sdist.name,
            version=sdist.version,
            kind=SourceKind.SDIST,
            origin=sdist.file,
            archive=sdist.file,
            sha256=sdist.sha256,
        )
        wheel = replace(LOCK.wheels[0], name=sdist.name, version=sdist.version)
        return Prepared(source=source, wheel=wheel, path=Path("/built/old.whl"))


def ask(answers: TwoAnswers, workshop: Workshop | None, *extras: str) -> Any:
    stack = replace(LOCK.stack, extras=extras or ("old",))
    return ask_with_sources(answers.uv, stack, cast("SourceWorkshop", workshop))


OLD = release("0.3.1", "2020-05-01", "wheel", "sdist")
NEWEST = release("0.19.8", "2024-10-20", "sdist")


def test_a_source_package_replaces_a_far_older_wheel() -> None:
    workshop = Workshop()
    sourced = ask(TwoAnswers(OLD, NEWEST), workshop)
    assert workshop.taken == ["old-0.19.8.tar.gz"]
    assert [item.source.name for item in sourced.prepared] == ["old"]
    assert list(sourced.known.wheels) == ["old"]


def test_a_far_older_wheel_is_refused_without_a_build() -> None:
    workshop = Workshop(LockError("it compiles", hint="name a wheel"))
    with pytest.raises(LockError) as caught:
        ask(TwoAnswers(OLD, NEWEST), workshop)
    error = caught.value
    assert error.message == (
        "old 0.3.1 (2020-05-01) is the newest release that has a wheel, and 0.19.8 (2024-10-20) has none"
    )
    assert error.problems == ("it compiles",)
    assert error.hint == "name a wheel"
    with pytest.raises(LockError, match="the newest release that has a wheel"):
        ask(TwoAnswers(OLD, NEWEST), None)


def test_a_little_older_wheel_is_one_sentence() -> None:
    newest = release("0.3.2", "2020-06-01", "sdist")
    sourced = ask(TwoAnswers(OLD, newest), Workshop())
    assert sourced.notes == (
        "old 0.3.1 (2020-05-01) is locked, not 0.3.2 (2020-06-01): that has no wheel for it",
    )
    assert sourced.prepared == ()


def test_a_newer_wheel_that_does_not_fit_is_one_sentence() -> None:
    answers = TwoAnswers(OLD, release("0.19.8", "2024-10-20", "wheel"))
    sourced = ask(answers, Workshop())
    assert sourced.notes == (
        "old 0.3.1 (2020-05-01) is locked, not 0.19.8 (2024-10-20): that does not go with the other packages",
    )
    assert "old<0.19.8" in answers.questions[-1]


class MissingDependency:
    """A uv whose newest `old` has a wheel, and needs `dep`, of which there is a source package alone."""

    def __init__(self) -> None:
        client = IndexClient(network=Network())
        self.uv = Uv(
            program="uv",
            run=self.run,
            index_url="http://127.0.0.1:9/simple",
            client=client,
        )

    def run(self, argv: Sequence[str]) -> Completed:
        lines = Path(argv[3]).read_text().splitlines()
        text = OLD
        if "--only-binary" not in argv or "--constraint" in argv:
            text = release("0.19.8", "2024-10-20", "wheel")
        if "--no-binary" in argv:
            text = release("4.9.3", "2021-11-06", "sdist").replace("old", "dep")
        elif "old==0.19.8" in lines:
            says = "hint: Wheels are required for `dep` because building is disabled"
            return Completed(returncode=1, stdout="", stderr=says)
        Path(argv[5]).write_text(text)
        return Completed(returncode=0, stdout="", stderr="")


def ask_with_dependency(workshop: Workshop) -> Any:
    stack = replace(LOCK.stack, extras=("old",))
    uv = MissingDependency().uv
    return ask_with_sources(uv, stack, cast("SourceWorkshop", workshop))


def test_a_dependency_without_a_wheel_is_built() -> None:
    workshop = Workshop()
    sourced = ask_with_dependency(workshop)
    assert workshop.taken == ["dep-4.9.3.tar.gz"]
    assert list(sourced.known.wheels) == ["dep"]
    assert sourced.answer.document["packages"][0]["version"] == "0.19.8"
    assert sourced.notes == ()


def test_a_dependency_that_cannot_be_built_is_a_sentence() -> None:
    sourced = ask_with_dependency(Workshop(LockError("it compiles")))
    assert sourced.prepared == ()
    assert sourced.notes[0].startswith("old 0.3.1 (2020-05-01) is locked, not 0.19.8")


@pytest.mark.parametrize("line", ["old==0.3.1", "old===0.3.1"])
def test_a_version_that_is_named_may_be_old(line: str) -> None:
    answers = TwoAnswers(OLD, NEWEST)
    assert ask(answers, Workshop(), line).notes == ()
    assert answers.questions == []


@pytest.mark.parametrize(
    ("locked", "newest", "far"),
    [
        (("1.2.0", "2025-01-01"), ("1.3.0", "2025-01-02"), True),
        (("1.2.0", "2024-01-01"), ("1.2.1", "2025-02-01"), True),
        (("1.2.0", "2024-06-01"), ("1.2.1", "2025-02-01"), False),
        (("1.2.0", ""), ("1.2.1", ""), False),  # an index without upload times
    ],
)
def test_another_minor_line_or_a_year_is_far(
    locked: tuple[str, str], newest: tuple[str, str], *, far: bool
) -> None:
    releases = []
    for version, day in (locked, newest):
        known = date.fromisoformat(day) if day else None
        releases.append(Release(version=Version(version), day=known))
    old = OldRelease(name="old", locked=releases[0], newest=releases[1])
    assert old.is_far is far


def test_pre_releases_of_named_packages_are_explicit() -> None:
    stack = replace(LOCK.stack, extras=("Hydra_Core>=1.3", "flash-attn-4>=4.0.0b1"))
    words = compile_argv(TwoAnswers(OLD, OLD).uv, stack, Path("f"))
    at = [place for place, word in enumerate(words) if word == "--prerelease-package"]
    assert [words[place + 1] for place in at] == [
        "flash-attn-4=explicit",
        "hydra-core=explicit",
    ]


def test_pre_releases_are_named_in_a_refusal() -> None:
    beta = release("4.0.0b36", "2026-01-01", "wheel")

    def run(argv: Sequence[str]) -> Completed:
        lines = Path(argv[3]).read_text().splitlines()
        if "old" in lines:
            return Completed(returncode=1, stdout="", stderr="  × No solution found")
        Path(argv[5]).write_text(beta)
        return Completed(returncode=0, stdout="", stderr="")

    with pytest.raises(NoStackError) as caught:
        create_lock(
            replace(LOCK.stack, extras=("old",)),
            uv=Uv(program="uv", run=run),
            catalog="x",
            command_for=lambda packages: "",
        )
    assert "name it: `--package 'old>=4.0.0b36'`" in caught.value.reasons[-1]


def test_a_hint_does_not_lead_to_an_old_release() -> None:
    def run(argv: Sequence[str]) -> Completed:
        lines = Path(argv[3]).read_text().splitlines()
        if "old==99" in lines:
            return Completed(returncode=1, stdout="", stderr="  × No: old==99")
        text = OLD if "--only-binary" in argv else NEWEST
        Path(argv[5]).write_text(text)
        return Completed(returncode=0, stdout="", stderr="")

    with pytest.raises(NoStackError) as caught:
        create_lock(
            replace(LOCK.stack, extras=("fine", "old==99")),
            uv=Uv(program="uv", run=run),
            catalog="x",
            command_for=lambda packages: " ".join(["again", *packages]),
        )
    assert caught.value.suggestions == ("again fine",)


def test_the_pinned_requirement_is_the_reason() -> None:
    metadata = parse_metadata(
        b"Requires-Dist: fsspec>=9\nRequires-Dist: torch==2.6.0\n"
        b"Requires-Dist: torch>=99; extra == 'x'\n"
    )
    locked = {
        "fsspec": Release(version=Version("1"), day=None),
        "torch": Release(version=Version("2.0.1"), day=None),
    }
    assert unmet(metadata, locked, LOCK.stack) == "that needs torch==2.6.0"
    del locked["torch"]
    assert unmet(metadata, locked, LOCK.stack) == "that needs fsspec>=9"
    old = parse_metadata(b"Requires-Python: <3.9\n")
    assert unmet(old, locked, LOCK.stack) == "that needs Python <3.9"
