"""The Compose files: valid, one variable for each thing people change, and nothing open to the network."""

import copy
import json
import os
import re
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from marks import few
from packaging.requirements import Requirement
from packaging.version import Version
from presets import read_preset

from envbuilder.errors import UsageError
from envbuilder.lock.lock_file import LOCK_FILE
from envbuilder.render.targets import Project, compose, render_targets

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "docker" / "images").iterdir())
CU117 = "cu117-torch2.0.1-"
VARIABLE = re.compile(r"\$\{([A-Z_]+)")
DEFAULT = re.compile(r"\$\{([A-Z_]+):-([^${}]*)\}")
DOCUMENTED = re.compile(r"^# ([A-Z_]+)=(.*)$", re.MULTILINE)
CUDA = ("compose.gpu.yaml", "docker/gpu-access.yaml")
OWN = {"COMPOSE_FILE"}  # Compose reads it itself
EXAMPLES = {  # documented with an example: their default is nothing, or depends on others
    "CA_BUNDLE", "CURL_CA_BUNDLE", "HOST_UID", "HOST_GID", "OMP_NUM_THREADS", "TRAIN_OPTIONS",
}  # fmt: skip


def project(preset: Path = PRESETS[0]) -> Project:
    lock = read_preset(preset / LOCK_FILE)
    return Project(lock=lock, image=f"envbuilder:{preset.name}", context="docker")


@pytest.fixture(
    scope="module", params=few(PRESETS, fast=3), ids=lambda preset: preset.name
)
def files(request: pytest.FixtureRequest) -> dict[str, str]:
    return dict(compose.files(project(request.param)))


@cache
def parsed(text: str) -> Any:
    return yaml.load(text, Loader=yaml.CSafeLoader)


@pytest.fixture
def documents(files: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The Compose files by name."""
    return {
        name: copy.deepcopy(parsed(text))
        for name, text in files.items()
        if name.endswith(".yaml")
    }


@pytest.fixture
def document(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return documents["compose.yaml"]


@pytest.fixture
def services(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The services of compose.yaml and compose.notebook.yaml, with what they extend."""
    train = documents["compose.yaml"]["services"]["train"]
    own = (
        documents["compose.yaml"]["services"]
        | documents["compose.notebook.yaml"]["services"]
    )
    extended = {None: {}, "train": train}
    bases = {name: service.get("extends") for name, service in own.items()}
    for name, base in bases.items():
        if isinstance(base, dict):
            assert base["file"] == "compose.yaml", name
            bases[name] = base["service"]
    return {name: extended[bases[name]] | service for name, service in own.items()}


# --- valid -----------------------------------------------------------------------------------------------------------


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(
        json.loads((ROOT / "tests" / "schemas" / "compose-spec.json").read_text())
    )


def test_they_follow_the_compose_specification(
    documents: dict[str, dict[str, Any]],
) -> None:
    assert len(documents) == 5
    for name, document in documents.items():
        assert [error.message for error in validator().iter_errors(document)] == [], (
            name
        )


@pytest.mark.parametrize(
    "change", [{"imagge": "x"}, {"stop_grace_period": []}, {"ports": [{"target": {}}]}]
)
def test_the_schema_would_find_a_mistake(
    document: dict[str, Any], change: dict[str, Any]
) -> None:
    document["services"]["train"] |= change
    assert list(validator().iter_errors(document))


def test_compose_yaml_is_one_that_a_person_would_write(files: dict[str, str]) -> None:
    text = files["compose.yaml"]
    assert len(text.splitlines()) <= 80
    assert list(yaml.safe_load(text)["services"]) == ["train", "accept", "shell"]
    anchors = [
        token for token in yaml.scan(text) if isinstance(token, yaml.AnchorToken)
    ]
    assert anchors == []


def test_without_cuda_no_file_gives_gpus() -> None:
    one = project()
    without = replace(
        one, lock=replace(one.lock, stack=replace(one.lock.stack, cuda=None))
    )
    assert sorted(set(compose.files(one)) - set(compose.files(without))) == sorted(CUDA)
    assert "compose.gpu.yaml" not in "".join(compose.files(without).values())


def test_the_same_project_gives_the_same_bytes() -> None:
    assert (
        render_targets(project(), "compose").files
        == render_targets(project(), "compose").files
    )


@pytest.mark.parametrize("bad", ['a"', "a\nb", "$HOME", "a b", "a}", ""])
def test_values_that_would_break_the_file_are_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="cannot be used in a compose file"):
        compose.files(replace(project(), image=bad))
    with pytest.raises(UsageError, match="cannot be used in a compose file"):
        compose.files(replace(project(), context=bad))


def test_build_uses_the_stack_s_dockerfile_and_shared_context(
    document: dict[str, Any],
) -> None:
    train = document["services"]["train"]
    name = train["image"].removeprefix("${TRAIN_IMAGE:-envbuilder:").removesuffix("}")
    assert (train["build"]["context"], train["build"]["dockerfile"]) == (
        "docker",
        f"images/{name}/Dockerfile",
    )
    assert re.sub(r"\$\{BASE:-([^}]+)\}", r"\1", name) in [one.name for one in PRESETS]


def test_one_variable_selects_the_base_everywhere() -> None:
    files = compose.files(
        project(ROOT / "docker" / "images" / f"{CU117}py3.10-debian12")
    )
    for name in ("compose.yaml", "compose.notebook.yaml", "compose.gpu.yaml"):
        assert f"{CU117}${{BASE:-py3.10-debian12}}" in files[name]
        assert f"{CU117}py3" not in re.sub("(?m)^#.*", "", files[name])


def test_a_custom_tag_is_the_same_on_every_base() -> None:
    train = parsed(compose.files(replace(project(), image="mine:1"))["compose.yaml"])
    service = train["services"]["train"]
    assert service["image"] == "${TRAIN_IMAGE:-mine:1}"
    assert "${BASE:-" in service["build"]["dockerfile"]


def test_platform_of_the_lock_is_built_and_run() -> None:
    one = project()
    arm = replace(
        one,
        lock=replace(one.lock, stack=replace(one.lock.stack, platform="linux/arm64")),
    )
    document = yaml.safe_load(compose.files(arm)["compose.yaml"])
    assert [error.message for error in validator().iter_errors(document)] == []
    assert (
        document["services"]["train"]["platform"] == "linux/arm64"
    )  # the others extend it


# --- variables -------------------------------------------------------------------------------------------------------


def passed_through(document: dict[str, Any]) -> set[str]:
    """Names without a value: taken from the environment if they are there."""
    train = document["services"]["train"]
    names = {name for name, value in train["environment"].items() if value is None}
    names |= {name for name in train["build"]["args"] if name.isupper()}
    return names | {
        secret["environment"]
        for secret in document["secrets"].values()
        if "environment" in secret
    }


def joined(files: dict[str, str]) -> str:
    return "".join(text for name, text in files.items() if name.endswith(".yaml"))


def test_exactly_the_used_variables_are_documented(
    files: dict[str, str], document: dict[str, Any]
) -> None:
    used = set(VARIABLE.findall(joined(files))) | passed_through(document) | OWN
    documented = [name for name, _ in DOCUMENTED.findall(files[".env.example"])]
    assert sorted(used) == sorted(documented)


def test_the_documented_defaults_are_the_defaults(files: dict[str, str]) -> None:
    documented = dict(DOCUMENTED.findall(files[".env.example"]))
    for name, value in DEFAULT.findall(joined(files)):
        if name not in EXAMPLES:
            assert documented[name] == value, name


def test_a_variable_has_one_default(files: dict[str, str]) -> None:
    found = DEFAULT.findall(joined(files))
    assert len({name for name, _ in found}) == len(set(found))
    bare = set(VARIABLE.findall(joined(files))) - {name for name, _ in found}
    nested = {"TRAIN_IMAGE", "NOTEBOOK_IMAGE"}  # their default has BASE in it
    documented = dict(DOCUMENTED.findall(files[".env.example"]))
    for name in nested:
        assert f"${{{name}:-{documented[name]}}}" in joined(files)
    assert bare - nested == {
        "CA_BUNDLE",
        "SSL_CERT_FILE",
        "PIP_CERT",
        "REQUESTS_CA_BUNDLE",
        "COMPOSE_PROJECT_NAME",
    }


def test_copied_env_example_changes_nothing(files: dict[str, str]) -> None:
    assert [
        line
        for line in files[".env.example"].splitlines()
        if line and not line.startswith("#")
    ] == []


def test_the_example_names_the_files_that_there_are(files: dict[str, str]) -> None:
    named = set(
        re.findall(r"^#   (compose\.\w+\.yaml) ", files[".env.example"], re.MULTILINE)
    )
    assert named == {name for name in files if name.startswith("compose.")} - {
        "compose.yaml"
    }


# --- services --------------------------------------------------------------------------------------------------------


def test_only_train_starts_without_its_name(services: dict[str, Any]) -> None:
    assert {name: service.get("profiles") for name, service in services.items()} == {
        "train": None,
        "accept": ["accept"],
        "shell": ["shell"],
        "tensorboard": ["tensorboard"],
        "image": ["notebook"],
        "notebook": ["notebook"],
    }


def test_ports_are_open_on_loopback_only(services: dict[str, Any]) -> None:
    published = {
        name: service["ports"]
        for name, service in services.items()
        if "ports" in service
    }
    assert set(published) == {"tensorboard", "notebook"}
    assert all(
        port.startswith("127.0.0.1:${")
        for ports in published.values()
        for port in ports
    )


def test_the_token_has_no_default(files: dict[str, str]) -> None:
    assert dict(DEFAULT.findall(files["compose.notebook.yaml"]))["NOTEBOOK_TOKEN"] == ""


def test_no_service_keeps_more_than_it_needs(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["cap_add"] == [
            "CHOWN",
            "DAC_OVERRIDE",
            "KILL",
            "SETGID",
            "SETUID",
        ], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "pid", "ipc", "devices"} & service.keys(), name


def test_only_nodes_start_again(
    documents: dict[str, dict[str, Any]], services: dict[str, Any]
) -> None:
    assert [name for name, service in services.items() if "restart" in service] == []
    node = documents["compose.cluster.yaml"]["services"]["train"]
    assert node["restart"] == "on-failure:${NODE_RESTARTS:-3}"


def test_gpus_reach_every_service_that_computes(
    files: dict[str, str], documents: dict[str, dict[str, Any]]
) -> None:
    gpu = documents["compose.gpu.yaml"]["services"]
    assert set(gpu) == {"train", "accept", "shell", "notebook"}
    variants = documents["docker/gpu-access.yaml"]["services"]
    offered = re.findall(
        r"^#   (\w+)   ", files[".env.example"].split("# GPU_ACCESS=")[0], re.MULTILINE
    )
    assert (
        [name for name in offered if name in variants]
        == list(variants)
        == ["gpus", "runtime", "cdi"]
    )


@pytest.mark.parametrize(
    ("runtimes", "chosen", "said"),
    few(
        [
            ("nvidia runc nvidia", "", ["COMPOSE_FILE=compose.yaml"]),
            (
                "runc nvidia runc",
                "",
                ["COMPOSE_FILE=compose.yaml:compose.gpu.yaml", "GPU_ACCESS=runtime"],
            ),
            (
                "runc runc",
                "cdi",
                ["COMPOSE_FILE=compose.yaml:compose.gpu.yaml", "GPU_ACCESS=cdi"],
            ),
        ]
    ),
)
def test_gpu_access_names_files_and_variants_that_exist(
    files: dict[str, str],
    tmp_path: Path,
    runtimes: str,
    chosen: str,
    said: list[str],
) -> None:
    (tmp_path / "docker").write_text(f"#!/bin/sh\necho '{runtimes} '\n")
    (tmp_path / "docker").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GPU_ACCESS": chosen}
    done = subprocess.run(
        [ROOT / "tools" / "gpu-access"],
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    assert done.stdout.splitlines() == said
    settings = dict(line.split("=") for line in said)
    assert set(settings["COMPOSE_FILE"].split(":")) <= set(files)
    assert (
        settings.get("GPU_ACCESS", "gpus")
        in yaml.safe_load(files["docker/gpu-access.yaml"])["services"]
    )


# --- the notebook's requirements -------------------------------------------------------------------------------------


@pytest.mark.parametrize("python", ["3.8", "3.9", "3.10", "3.11", "3.13"])
def test_notebook_requirements_fit_the_python_and_have_hashes(python: str) -> None:
    one = project()
    lock = replace(one.lock, stack=replace(one.lock.stack, python=Version(python)))
    text = compose.files(replace(one, lock=lock))["docker/notebook/requirements.txt"]
    assert text == compose.files(one)["docker/notebook/requirements.txt"]
    entries = re.split(r"\n(?=[a-z0-9])", text)[1:]
    names = []
    for entry in entries:
        requirement = Requirement(entry.split("\\")[0])
        markers = {"python_version": python, "python_full_version": f"{python}.1"}
        if requirement.marker is None or requirement.marker.evaluate(markers):
            names.append(requirement.name)
    assert len(set(names)) == len(names)
    assert {"jupyterlab", "ipykernel", "jupyter-server"} <= set(names)
    assert "pywinpty" not in names
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
