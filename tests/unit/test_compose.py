"""compose.yaml: valid, one variable for each thing people change, and nothing open to the network."""

import copy
import json
import re
import shlex
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from packaging.version import Version

from envbuilder import lock as locks
from envbuilder.errors import UsageError
from envbuilder.model import BaseSource
from envbuilder.render.targets import Project, compose, render

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "docker" / "images").iterdir())
VARIABLE = re.compile(r"\$\{([A-Z_]+)")
DEFAULT = re.compile(r"\$\{([A-Z_]+):-([^${}]*)\}")
DOCUMENTED = re.compile(r"^# ([A-Z_]+)=(.*)$", re.MULTILINE)
EXAMPLES = {  # documented with an example: their default is nothing, or depends on others
    "CA_BUNDLE", "CURL_CA_BUNDLE", "HOST_UID", "HOST_GID", "OMP_NUM_THREADS", "TRAIN_OPTIONS",
}  # fmt: skip


def project(preset: Path = PRESETS[0]) -> Project:
    lock = locks.parse_lock((preset / locks.FILE).read_text(), source=preset.name)
    return Project(lock=lock, image=f"envbuilder:{preset.name}", context="docker")


@pytest.fixture(scope="module", params=PRESETS, ids=lambda preset: preset.name)
def files(request: pytest.FixtureRequest) -> dict[str, str]:
    return dict(compose.files(project(request.param)))


@cache
def parsed(text: str) -> Any:
    return yaml.load(text, Loader=yaml.CSafeLoader)


@pytest.fixture
def document(files: dict[str, str]) -> dict[str, Any]:
    loaded: dict[str, Any] = copy.deepcopy(parsed(files["compose.yaml"]))
    return loaded


@pytest.fixture
def services(document: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in document["services"].items() if not name.startswith("gpu-")}


# --- valid -----------------------------------------------------------------------------------------------------------


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / "tests" / "schemas" / "compose-spec.json").read_text()))


def test_it_is_what_the_compose_specification_says(document: dict[str, Any]) -> None:
    assert [error.message for error in validator().iter_errors(document)] == []


@pytest.mark.parametrize("change", [{"imagge": "x"}, {"stop_grace_period": []}, {"ports": [{"target": {}}]}])
def test_the_schema_would_find_a_mistake(document: dict[str, Any], change: dict[str, Any]) -> None:
    document["services"]["train"] |= change
    assert list(validator().iter_errors(document))


def test_the_same_project_gives_the_same_bytes() -> None:
    assert render(project(), "compose").files == render(project(), "compose").files


@pytest.mark.parametrize("bad", ['a"', "a\nb", "$HOME", "a b", "a}", ""])
def test_a_value_that_cannot_stand_in_it_is_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="cannot stand in a compose file"):
        compose.files(replace(project(), image=bad))
    with pytest.raises(UsageError, match="cannot stand in a compose file"):
        compose.files(replace(project(), context=bad))


def test_the_build_is_that_of_the_stack_s_dockerfile_in_the_shared_context(document: dict[str, Any]) -> None:
    build = document["x-job"]["build"]
    name = document["x-job"]["image"].rpartition(":")[2].rstrip("}")
    assert (build["context"], build["dockerfile"]) == ("docker", f"images/{name}/Dockerfile")


def test_a_base_that_is_on_no_registry_is_told_of() -> None:
    told = {
        preset.name: "envbuilder base --lock" in compose.files(project(preset))["compose.yaml"] for preset in PRESETS
    }
    assert told["cu117-torch2.0.1-py3.9-debian11"]
    bootstrapped = {preset.name: project(preset).lock.stack.base.source is BaseSource.BOOTSTRAP for preset in PRESETS}
    assert told == bootstrapped


def test_a_lock_for_another_platform_is_built_and_run_for_it() -> None:
    one = project()
    arm = replace(one, lock=replace(one.lock, stack=replace(one.lock.stack, platform="linux/arm64")))
    document = yaml.safe_load(compose.files(arm)["compose.yaml"])
    assert [error.message for error in validator().iter_errors(document)] == []
    jobs = {name: job for name, job in document["services"].items() if not name.startswith("gpu-")}
    assert {job["platform"] for job in jobs.values()} == {"linux/arm64"}


# --- variables -------------------------------------------------------------------------------------------------------


def passed_through(document: dict[str, Any]) -> set[str]:
    """Names without a value: taken from the environment if they are there."""
    names = {name for name, value in document["x-environment"].items() if value is None}
    names |= {name for name in document["x-job"]["build"]["args"] if name.isupper()}
    return names | {secret["environment"] for secret in document["secrets"].values() if "environment" in secret}


def test_every_variable_is_documented_and_none_else(files: dict[str, str], document: dict[str, Any]) -> None:
    used = set(VARIABLE.findall(files["compose.yaml"])) | passed_through(document)
    documented = [name for name, _ in DOCUMENTED.findall(files[".env.example"])]
    assert sorted(used) == sorted(documented)


def test_the_documented_defaults_are_the_defaults(files: dict[str, str]) -> None:
    documented = dict(DOCUMENTED.findall(files[".env.example"]))
    for name, value in DEFAULT.findall(files["compose.yaml"]):
        if name not in EXAMPLES:
            assert documented[name] == value, name


def test_a_variable_has_one_default(files: dict[str, str]) -> None:
    found = DEFAULT.findall(files["compose.yaml"])
    assert len({name for name, _ in found}) == len(set(found))
    bare = set(VARIABLE.findall(files["compose.yaml"])) - {name for name, _ in found}
    assert bare == {"CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "COMPOSE_PROJECT_NAME"}


def test_the_example_changes_nothing_when_it_is_copied(files: dict[str, str]) -> None:
    assert [line for line in files[".env.example"].splitlines() if line and not line.startswith("#")] == []


# --- services --------------------------------------------------------------------------------------------------------


def test_the_services_are_these_and_start_only_by_name_or_profile(services: dict[str, Any]) -> None:
    assert {name: service["profiles"] for name, service in services.items()} == {
        "train": ["train"],
        "accept": ["accept"],
        "shell": ["shell"],
        "tensorboard": ["tensorboard"],
        "image": ["notebook"],
        "notebook": ["notebook"],
        "node": ["cluster"],
    }


def test_ports_are_open_on_loopback_only(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"tensorboard", "notebook"}
    assert all(port.startswith("127.0.0.1:${") for ports in published.values() for port in ports)


def test_the_token_has_no_default(files: dict[str, str]) -> None:
    assert dict(DEFAULT.findall(files["compose.yaml"]))["NOTEBOOK_TOKEN"] == ""


def test_no_service_keeps_more_than_it_needs(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "pid", "ipc", "devices"} & service.keys(), name


def test_only_nodes_start_again(services: dict[str, Any]) -> None:
    restarts = {name: service["restart"] for name, service in services.items()}
    assert restarts.pop("node") == "on-failure:${NODE_RESTARTS:-3}"
    assert set(restarts.values()) == {"no"}


@pytest.mark.parametrize(
    ("driver", "device", "warned"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_a_gpu_that_the_container_was_not_given_is_told_of(
    document: dict[str, Any], tmp_path: Path, driver: bool, device: bool, warned: bool
) -> None:
    shell, options, script, name = document["x-as-owner"]
    for there, path in ((driver, "/proc/driver/nvidia/version"), (device, "/dev/nvidiactl")):
        stand_in = tmp_path / Path(path).name
        script = script.replace(path, shlex.quote(str(stand_in)))
        if there:
            stand_in.touch()
    words = [shell, options, script.replace("$$", "$").split("\n[")[0], name]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert ("set GPU_ACCESS" in done.stderr) is warned


@pytest.mark.parametrize(("link", "owner", "code"), [(False, 0, 0), (True, 0, 2), (False, 1000, 0), (True, 1000, 0)])
def test_a_folder_of_root_s_behind_a_link_is_not_given_away(
    document: dict[str, Any], tmp_path: Path, link: bool, owner: int, code: int
) -> None:
    """`runs` may lead to /etc of the host; in the container it is a link, since the project is mounted as it is."""
    shell, options, script, name = document["x-as-owner"]
    (tmp_path / "workspace").mkdir()
    if link:
        (tmp_path / "outside").mkdir()
        (tmp_path / "workspace" / "runs").symlink_to("../outside")
    else:
        (tmp_path / "workspace" / "runs").mkdir()
    programs = tmp_path / "bin"
    programs.mkdir()
    said = {"id": "echo 0", "stat": f"echo {owner}", "chown": 'echo "chown $*"', "setpriv": "echo started"}
    for program, line in said.items():
        (programs / program).write_text(f"#!/bin/sh\n{line}\n")
        (programs / program).chmod(0o755)
    script = script.replace("$$", "$").replace("/workspace", str(tmp_path / "workspace"))
    words = [shell, options, script.replace("/cache/huggingface", "").replace("/cache", ""), name]
    env = {"PATH": f"{programs}:/usr/bin:/bin", "HOST_UID": "7", "HOST_GID": "8"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, "started" in done.stdout) == (code, code == 0), done.stderr
    assert (f"chown 7:8 {tmp_path}/workspace/runs" in done.stdout) is (owner == 0 and not link)
    assert ("is a link" in done.stderr) is (code != 0)


# --- the notebook's requirements -------------------------------------------------------------------------------------


@pytest.mark.parametrize("python", ["3.8", "3.9", "3.10", "3.11", "3.13"])
def test_the_notebook_s_requirements_fit_the_python_and_are_hashed(python: str) -> None:
    one = project()
    lock = replace(one.lock, stack=replace(one.lock.stack, python=Version(python)))
    text = compose.files(replace(one, lock=lock))["docker/notebook/requirements.txt"]
    entries = re.split(r"\n(?=[a-z0-9])", text)[1:]
    names = [entry.split("==")[0] for entry in entries]
    assert len(set(names)) == len(names)
    assert {"jupyterlab", "ipykernel", "jupyter-server"} <= set(names)
    assert "pywinpty" not in names
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
