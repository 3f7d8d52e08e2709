"""The label with which an image alone is a dev container: valid, and the same in the Dockerfile as in the image."""

import json
from dataclasses import replace
from pathlib import Path

from jsonschema import Draft202012Validator

from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.render.context import dockerfile
from envbuilder.render.editor_metadata import LABEL, editor_metadata

ROOT = Path(__file__).parents[2]
NAME = "cu117-torch2.0.1-py3.10-debian12"
LOCK = parse_lock((ROOT / "docker/images" / NAME / LOCK_FILE).read_text(), source=NAME)
# What the specification lets an image's metadata have, of what is used here.
KNOWN = {
    "customizations",
    "hostRequirements",
    "init",
    "overrideCommand",
    "remoteEnv",
    "remoteUser",
    "updateRemoteUserUID",
}


def test_the_label_is_a_list_of_what_the_specification_knows() -> None:
    (entry,) = json.loads(editor_metadata(LOCK.stack))
    assert set(entry) == KNOWN
    assert entry["remoteUser"] == "trainer"
    schema = json.loads(
        (ROOT / "tests/schemas/devContainer.base.schema.json").read_text()
    )
    common = {
        "$ref": "#/definitions/devContainerCommon",
        "definitions": schema["definitions"],
    }
    assert [error.message for error in Draft202012Validator(common).iter_errors(entry)] == []  # fmt: skip


def test_without_cuda_no_gpu_is_requested() -> None:
    (entry,) = json.loads(editor_metadata(replace(LOCK.stack, cuda=None)))
    assert "hostRequirements" not in entry


def test_the_dockerfile_keeps_dollars_and_quotes() -> None:
    last = dockerfile(LOCK).splitlines()[-1].strip()
    assert last == f"{LABEL}='{editor_metadata(LOCK.stack)}'"
    assert "${containerEnv:PATH}" in last
