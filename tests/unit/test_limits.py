"""What docs/explanation/acceptance.md says a container gets is what it gets."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standin.daemon import daemon_in, image
from standin.engine import StandInEngine, kind_of
from standin.suite_output import IMAGE

from envbuilder.acceptance import host_checks, inspect_image, suite
from envbuilder.engine import info, output
from envbuilder.engine.container_spec import ContainerSpec, create_options, suite_mount
from envbuilder.engine.docker_client import DockerEngine
from envbuilder.engine.gpu_access import GpuAccess, GpuPlan
from envbuilder.engine.image import ImageFacts

DOCS = Path(__file__).parents[2] / "docs/explanation/acceptance.md"
FOREIGN_ROOT = "writable, thrown away"
COLUMNS = ("suite", "any_user", "signals", "inspect")


def jobs(image: ImageFacts = IMAGE) -> Mapping[str, ContainerSpec]:
    engine = StandInEngine(images={image.id: image})
    trial = suite.SuiteOptions(gpu=GpuPlan(access=GpuAccess.CDI, reason=""))
    suite.accept(engine, image.id, trial, on_change=lambda rows: None)
    return {kind_of(job): job for job in engine.jobs}


def inspecting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ContainerSpec:
    """The job of `DockerEngine.output`, which is what `inspect` runs in an image."""
    seen: list[ContainerSpec] = []
    with daemon_in(folder) as daemon:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{daemon.socket}")
        daemon.images["a"] = image("sha256:a")
        with DockerEngine("here:1:2") as engine:
            make = engine.container
            monkeypatch.setattr(
                engine,
                "container",
                lambda name, job: seen.append(job) or make(name, job),
            )
            engine.output("a", ["python"], 60)
    return seen[0]


def user(job: ContainerSpec) -> str:
    named = {
        None: "the image's, or `--user`" if job.files else "the image's",
        "0": "root",
    }
    return named.get(job.user, "one the image does not know")


def cells(options: Mapping[str, Any], job: ContainerSpec) -> dict[str, str]:
    """A job's options in the words of the table."""
    size = (
        "".join(options.get("tmpfs", {}).values())
        .partition("size=")[2]
        .replace("g", " GB")
    )
    root = (
        f"read-only, but for {size} of /tmp"
        if options.get("read_only")
        else FOREIGN_ROOT
    )
    assert options["security_opt"] == ["no-new-privileges"]
    assert options["cap_drop"] == ["ALL"]
    assert suite_mount("volume", read_only=True)["ReadOnly"]
    log = options["log_config"]["config"]
    return {
        "user": user(job),
        "capabilities": ", ".join(options["cap_add"]) or "none",
        "new privileges": "no",
        "network": options["network_mode"],
        "root file system": root,
        "folders of the host": "one that is empty"
        if options.get("volumes")
        else "none",
        "code of the suite": "in a volume, read-only" if job.files else "none",
        "GPUs": "as `--gpu-access` says" if job.gpu else "none",
        "processes and threads": f"{options['pids_limit']}",
        "shared memory": options["shm_size"].replace("g", " GB"),
        "engine's log": f"{log['max-file']} file of {log['max-size'].removesuffix('m')} MB",
    }


def test_documented_limits_match_the_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {**jobs(), "inspect": inspecting(tmp_path, monkeypatch)}
    rows = [
        cells(create_options(made[column], "here:1:2"), made[column])
        for column in COLUMNS
    ]
    foreign = jobs(replace(IMAGE, labels={}))["suite"]
    assert cells(create_options(foreign, "here:1:2"), foreign) == {
        **rows[0],
        "root file system": FOREIGN_ROOT,
    }
    rows[0]["root file system"] += (
        f"; of an image not built by envbuilder: {FOREIGN_ROOT}"
    )
    lines = [
        f"| {name} | {' | '.join(row[name] for row in rows)} |" for name in rows[0]
    ]
    seconds = [
        suite.DEADLINE,
        host_checks._JOB_SECONDS,
        host_checks._JOB_SECONDS,
        inspect_image._DEADLINE,
    ]
    lines.append(
        "| time, at most | " + " | ".join(f"{number} s" for number in seconds) + " |"
    )
    text = DOCS.read_text(encoding="utf-8")
    assert [line for line in lines if line not in text.splitlines()] == []


def test_output_and_memory_limits_are_documented() -> None:
    text = " ".join(DOCS.read_text(encoding="utf-8").split())
    assert info.memory_to_give({"MemTotal": 10**10}) == 9 * 10**9
    for words in (
        f"{output.MOST_BYTES // 1_000_000} MB or {output.MOST_LINES:,} lines",
        f"longer than {output.LONGEST_LINE // 1_000_000} MB is cut",
        "nine tenths of the machine's memory",
    ):
        assert words in text
