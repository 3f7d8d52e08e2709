"""The display's titles fit the Dockerfiles that the templates render: neither can change without the other."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from builds.record import FOLDER, LOCK, documents

from envbuilder.engine.buildx import layer_of, step_title, wheel_sizes
from envbuilder.lock.lock_file import parse_lock
from envbuilder.model import BaseSource, Flavour, Layer, Lock
from envbuilder.render.context import layers_of, place_of, render_context

from . import test_arm64, test_cpu
from .test_presets import PRESETS, lock_of

ALL = [*map(lock_of, PRESETS), test_arm64.LOCK, test_cpu.LOCK]
RECORDED = parse_lock(LOCK.read_text(), source=str(LOCK))
VERTEX = re.compile(
    r"(FROM|RUN|COPY|ADD|WORKDIR)\b"
)  # the instructions that are steps of a build


def vertex_names(lock: Lock, platform: str = "") -> list[str]:
    """How BuildKit names the steps of the Dockerfile that is rendered for a lock."""
    stages: list[tuple[str, list[str]]] = []
    for instruction in instructions(
        render_context(lock).files[f"{place_of(lock.stack)}/Dockerfile"]
    ):
        if instruction.startswith("FROM "):
            _, _, name = instruction.partition(" AS ")
            stages.append(
                (
                    name or f"stage-{len(stages)}",
                    [f"FROM docker.io/library/{lock.stack.base.reference}"],
                )
            )
        elif stages and VERTEX.match(instruction):
            stages[-1][1].append(instruction)
    names = []
    for stage, steps in stages:
        for number, instruction in enumerate(steps, 1):
            names.append(f"[{platform}{stage} {number}/{len(steps)}] {instruction}")
    return names


def instructions(dockerfile: str) -> Iterator[str]:
    lines = [
        line
        for line in dockerfile.splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    yield from "\n".join(lines).replace("\\\n", "").splitlines()


def titles_of(lock: Lock, platform: str = "") -> list[str]:
    return [
        step_title(name, wheel_sizes(lock)) for name in vertex_names(lock, platform)
    ]


def test_names_are_those_that_buildkit_gave() -> None:
    recorded = set()
    for document in documents((FOLDER / "built.rawjson").read_text()):
        recorded |= {
            vertex["name"]
            for vertex in document.get("vertexes", ())
            if vertex["name"].startswith("[stage-1")
        }
    assert recorded == {
        name for name in vertex_names(RECORDED) if name.startswith("[stage-1")
    }


@pytest.mark.parametrize("lock", ALL, ids=lambda lock: lock.stack.name)
def test_no_step_of_ours_is_shown_as_its_instruction(lock: Lock) -> None:
    titles = titles_of(lock)
    assert not [
        title for title in titles if VERTEX.match(title) or "…" in title or not title
    ]
    steps = [title for title in titles if not title.startswith("base ")]
    assert len(set(steps)) == len(steps)


@pytest.mark.parametrize("lock", ALL, ids=lambda lock: lock.stack.name)
def test_every_wheel_layer_has_a_step_title(lock: Lock) -> None:
    layers = [layer for layer in map(layer_of, vertex_names(lock)) if layer]
    assert layers == list(layers_of(lock))


def of_kind(source: BaseSource, flavour: Flavour = Flavour.RUNTIME) -> Lock:
    return next(
        lock
        for lock in ALL
        if lock.stack.base.source is source and lock.stack.flavour is flavour
    )


UV = ["uv's hashes", "uv, for the build only"]
END = ["payload", "lock", "working directory"]


def test_the_titles_of_every_kind_of_dockerfile() -> None:
    assert titles_of(RECORDED) == [
        "base docker.io/library/envbuilder-base:debian11",
        *UV,
        "base docker.io/library/envbuilder-base:debian11",
        "user",
        "NVIDIA libraries: 11 wheels, 1.58 GB",
        "PyTorch: 4 wheels, 694 MB",
        "libraries: 62 wheels, 182 MB",
        "Hugging Face stack: 8 wheels, 15 MB",
        *END,
    ]
    registry = titles_of(of_kind(BaseSource.REGISTRY))
    assert (registry[1:3], registry[4], registry[-3:]) == (UV, "system packages", END)
    devel = titles_of(next(lock for lock in ALL if lock.stack.flavour is Flavour.DEVEL))
    assert devel[-4:] == ["links to nvcc", *END]
    assert titles_of(test_cpu.LOCK)[5].startswith("PyTorch: ")


def test_step_titles_are_the_same_for_every_platform() -> None:
    assert titles_of(test_arm64.LOCK, "linux/arm64 ") == titles_of(test_arm64.LOCK)


def test_a_layer_of_one_wheel_has_one_wheel() -> None:
    torch = next(wheel for wheel in RECORDED.wheels if wheel.name == "torch")
    lock = replace(RECORDED, wheels=(torch,))
    name = next(name for name in vertex_names(lock) if layer_of(name) is Layer.TORCH)
    assert step_title(name, wheel_sizes(lock)) == "PyTorch: 1 wheel, 620 MB"
