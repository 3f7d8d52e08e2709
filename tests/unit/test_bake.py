"""docker-bake.hcl: one target for each image of the repository, in groups; tests/container/test_bake.py runs it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from envbuilder.errors import UsageError
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.model import Lock
from envbuilder.render.targets import MARK, Project, bake, render_targets

ROOT = Path(__file__).parents[2]
OLD, NEW = "cu117-torch2.0.1-py3.9-debian11", "cu117-torch2.0.1-py3.10-debian12"


def lock_of(name: str) -> Lock:
    path = ROOT / "docker" / "images" / name / LOCK_FILE
    return parse_lock(path.read_text(), source=name)


LOCK = lock_of(NEW)
ARM = replace(
    LOCK, stack=replace(LOCK.stack, platform="linux/arm64", cuda=Version("13.0.2"))
)
IMAGES = {lock.stack.name: lock for lock in (LOCK, lock_of(OLD), ARM)}
PROJECT = Project(lock=LOCK, image=f"envbuilder:{NEW}", context="docker", images=IMAGES)
BLOCK = re.compile(r'^(group|target) "([^"]+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)


def text_of(project: Project) -> str:
    return bake.files(project)["docker-bake.hcl"]


def blocks(project: Project, kind: str) -> dict[str, list[str]]:
    """Name of each group or target → the words in quotes in it."""
    return {
        name: re.findall(r'"([^"]+)"', body)
        for k, name, body in BLOCK.findall(text_of(project))
        if k == kind
    }


def test_the_groups_are_everything_each_cuda_and_each_platform() -> None:
    new, old, arm = (
        "cu117-torch2_0_1-py3_10-debian12", "cu117-torch2_0_1-py3_9-debian11", "cu130-torch2_0_1-py3_10-debian12-arm64",
    )  # fmt: skip
    assert blocks(PROJECT, "group") == {
        "default": [new, old, arm], "cu117": [new, old], "cu130": [arm], "amd64": [new, old], "arm64": [arm],
    }  # fmt: skip
    assert list(blocks(PROJECT, "target")) == ["_image", new, old, arm]


def test_single_platform_needs_no_group() -> None:
    assert list(blocks(replace(PROJECT, images={}), "group")) == ["default", "cu117"]


def test_bake_file_does_not_depend_on_the_project_s_lock() -> None:
    own = replace(PROJECT, lock=ARM)
    assert (
        text_of(own)
        == text_of(PROJECT)
        == text_of(replace(PROJECT, images=dict(reversed(IMAGES.items()))))
    )


def test_a_platform_is_its_locks() -> None:
    arm = blocks(PROJECT, "target")["cu130-torch2_0_1-py3_10-debian12-arm64"]
    assert arm[:3] == [
        "_image",
        "images/cu130-torch2.0.1-py3.10-debian12-arm64/Dockerfile",
        "linux/arm64",
    ]
    assert (
        blocks(PROJECT, "target")["_image"][0] == "docker"
    )  # the context, of all of them


def test_bases_variable_applies_to_bootstrapped_bases_only() -> None:
    assert 'BASES != "" ? "${BASES}/envbuilder-base:debian11" : null' in text_of(
        PROJECT
    )
    assert "BASES" not in text_of(replace(PROJECT, images={}))


def test_the_repository_is_that_of_the_tag() -> None:
    assert (
        'variable "REPOSITORY" { default = "reg.example:5000/team/train" }'
        in text_of(replace(PROJECT, image="reg.example:5000/team/train:1"))
    )


@pytest.mark.parametrize("bad", ['a"', "a\nb", "${HOME}", "%{x}", "a b", ""])
def test_values_that_would_break_the_file_are_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="cannot be used in a bake file"):
        bake.files(replace(PROJECT, image=f"{bad}:1"))
    with pytest.raises(UsageError, match="cannot be used in a bake file"):
        bake.files(replace(PROJECT, context=bad))


def test_bake_file_has_envbuilder_s_mark_and_no_address() -> None:
    files = render_targets(PROJECT, "bake").files
    assert list(files) == ["docker-bake.hcl"]
    assert MARK in files["docker-bake.hcl"]
    assert "://" not in files["docker-bake.hcl"]
    assert (
        max(map(len, files["docker-bake.hcl"].split("# --- targets")[0].splitlines()))
        <= 120
    )
