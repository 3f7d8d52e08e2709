"""Locks of a project's own files: constraints, markers, other Pythons, and lines that no command can leave out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from envbuilder import catalog, pipeline
from envbuilder.errors import NoStackError
from envbuilder.lock.creation import create_lock
from envbuilder.lock.lock_file import parse_lock
from envbuilder.lock.package_conflict import PackageOrigin
from envbuilder.lock.uv_compile import CONSTRAINTS, Uv, compile_argv
from envbuilder.lock.validation import find_problems
from envbuilder.model import Request, Stack
from envbuilder.processes import Completed
from envbuilder.resolve import objections, resolve
from envbuilder.resolve.command_line import command
from envbuilder.resolve.torch_ranges import TorchRange, Variant

PRESET = (
    Path(__file__).parents[2]
    / "docker/images/cu117-torch2.0.1-py3.9-debian11/envbuilder.lock"
)
LOCK = parse_lock(PRESET.read_text(), source="x")


def stack(*extras: str, constraints: Sequence[str] = ()) -> Stack:
    return replace(LOCK.stack, extras=extras, constraints=tuple(constraints))


class RecordingUv:
    """A uv that finds no solution if `bad` is requested or a constraint; it counts how often it is asked."""

    def __init__(self, *bad: str, python: str = "", says: str = "") -> None:
        self.bad = bad
        self.python = python
        self.says = says
        self.asked: list[list[str]] = []
        self.uv = Uv(program="uv", run=self.run)

    def run(self, argv: Sequence[str]) -> Completed:
        lines = Path(argv[3]).read_text().splitlines()
        if "--constraints" in argv:
            lines += Path(argv[argv.index("--constraints") + 1]).read_text().split()
        self.asked.append(lines)
        on_other_python = self.python and self.python in argv
        if set(self.bad) & set(lines) and not on_other_python:
            return Completed(returncode=1, stdout="", stderr=f"  × No: {self.says}")
        Path(argv[5]).write_text('lock-version = "1.0"\npackages = []\n')
        return Completed(returncode=0, stdout="", stderr="")


def refused(uv: RecordingUv, of: Stack, origin: PackageOrigin) -> NoStackError:
    with pytest.raises(NoStackError) as caught:
        create_lock(
            of,
            uv=uv.uv,
            catalog="x",
            command_for=lambda packages: "",
            origin=origin,
        )
    return caught.value


def test_constraints_are_given_to_uv() -> None:
    words = compile_argv(RecordingUv().uv, stack(), Path("f"))
    assert "--constraints" not in words
    words = compile_argv(RecordingUv().uv, stack(constraints=["a<2"]), Path("f"))
    assert words[words.index("--constraints") + 1] == f"f/{CONSTRAINTS}"


def test_constraints_that_clash_are_named() -> None:
    uv = RecordingUv("numpy==9", says="numpy==9 is not there")
    error = refused(uv, stack("a", constraints=["numpy==9", "b<2"]), PackageOrigin())
    assert error.message.startswith("the constraints numpy==9 leave no version")
    assert error.conflict == (("constraint", "numpy==9"),)


def test_another_python_comes_first_among_suggestions() -> None:
    other = replace(stack("old==1"), python=catalog.load().torch[0].pythons[0])
    uv = RecordingUv("old==1", python=str(other.python))
    variant = Variant(command="lock --python X", stack=other)
    torches = TorchRange(torches=(other.torch,), variant=lambda torch: variant)
    origin = PackageOrigin(
        places={"old==1": "r.txt:3"},
        ranges=lambda: [torches],
    )
    error = refused(uv, stack("old==1"), origin)
    assert error.message.startswith("old==1 (r.txt:3) cannot be installed")
    assert error.suggestions == ("lock --python X",)


def test_a_line_that_must_stay_is_for_its_file() -> None:
    uv = RecordingUv("old==1")
    error = refused(uv, stack("old==1"), PackageOrigin(places={"old==1": "r.txt:3"}))
    assert error.suggestions == ()
    assert error.hint == "change or leave out old==1 (r.txt:3)"


def test_packages_that_uv_names_are_tried_first() -> None:
    many = [f"fine{number}" for number in range(30)]
    uv = RecordingUv("bad==1", says="Because bad==1 has no wheels")
    error = refused(uv, stack(*many, "bad==1"), PackageOrigin())
    assert error.conflict == (("package", "bad==1"),)
    assert len(uv.asked) < 8


def test_a_package_of_another_python_need_not_be_locked() -> None:
    elsewhere = replace(
        LOCK, stack=stack('backport==1; python_version < "3.8"', "nowhere")
    )
    assert list(find_problems(elsewhere)) == [
        "nowhere is required but missing from the lock"
    ]


def test_commands_do_not_repeat_the_packages_of_files() -> None:
    request = Request(
        packages=("peft==1", "tqdm"),
        apt=("git",),
        requires_python=">=3.9",
        places=(("peft==1", "r.txt:1"), ("git", "Dockerfile:2"), (">=3.9", "p:1")),
    )
    assert command(request, flags=["-r r.txt"]) == (
        "envbuilder resolve --package tqdm -r r.txt"
    )
    assert pipeline._lost_of_files(request, ["tqdm"])
    assert not pipeline._lost_of_files(request, ["tqdm", "peft"])
    assert not pipeline._lost_of_files(request, ["tqdm", "peft==1"])


def test_what_changed_among_many_packages_is_named_alone() -> None:
    facts = catalog.load()
    many = tuple(f"fine{number}" for number in range(20))
    request = Request(cuda=LOCK.stack.cuda, packages=many)
    made = resolve(request, facts)
    changed = replace(request, packages=(*many[1:], "new"), constraints=("a<2",))
    assert objections(changed, made, facts) == [
        "its packages lack new, and have fine0 in addition",
        "its constraints are none, not a<2",
    ]
