"""The doctor asks a real engine."""

import shutil
from pathlib import Path

import pytest

from .engine import docker, envbuilder

pytestmark = pytest.mark.container


def test_engine_facts_are_read_from_the_real_engine(tmp_path: Path) -> None:
    document = envbuilder("doctor", "--json", cwd=tmp_path).json()
    host = document["host"]
    daemon = host["engine"]["daemon"]
    version, root, runtime = docker(
        "info", "--format", "{{.ServerVersion}}\t{{.DockerRootDir}}\t{{.DefaultRuntime}}"
    ).stdout.strip().split("\t")  # fmt: skip
    assert (daemon["version"], daemon["root"], daemon["default_runtime"]) == (
        version,
        root,
        runtime,
    )
    assert host["network"]["registry"] is not None
    assert host["engine"]["disk_free"] == pytest.approx(
        shutil.disk_usage(root).free, rel=0.2
    )
    assert {finding["id"]: finding["severity"] for finding in document["findings"]}[
        "engine"
    ] == "ok"
