"""What the name of a base says: refused, completed or noted before anything is pulled."""

from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from envbuilder import catalog
from envbuilder.errors import NoStackError, UsageError
from envbuilder.lock.lock_file import parse_lock
from envbuilder.lock.validation import find_problems
from envbuilder.model import PythonSource, Stack
from envbuilder.render.context import dockerfile
from envbuilder.resolve import objections, resolve
from envbuilder.resolve.base_check import similar_tags
from envbuilder.resolve.base_name import read_base_name
from envbuilder.resolve.command_line import parse_request
from envbuilder.resolve.implied_options import complete_request

CATALOG = catalog.load()
PRESETS = Path(__file__).parents[2] / "docker" / "images"


def resolved(base: str, **options: str) -> Stack:
    return resolve(parse_request({"base": base, **options}), CATALOG)


def refused(base: str, **options: str) -> NoStackError:
    with pytest.raises(NoStackError) as caught:
        resolved(base, **options)
    return caught.value


NO_BASE = {
    "musl": "python:3.10-alpine alpine alpine:3.20 docker.io/library/python:3.12.4-alpine3.20 team/alpine:3 "
    "registry.example/hub/python:3.11-alpine",
    "instead of apt": "centos:7 quay.io/centos/centos:stream9 rockylinux/rockylinux:9 rockylinux:8 almalinux:9 "
    "registry.access.redhat.com/ubi8/python-39 redhat/ubi9-minimal:latest ubi9 fedora:40 amazonlinux:2023 "
    "public.ecr.aws/amazonlinux/amazonlinux:2 opensuse/leap:15 registry.suse.com/bci/python:3.11 oraclelinux:9 "
    "nvidia/cuda:11.7.1-cudnn8-runtime-rockylinux8 nvcr.io/nvidia/cuda:12.2.2-runtime-ubi8 "
    "nvidia/cuda:11.8.0-base-centos7 nvidia/cuda:12.6.3-devel-cm2 nvidia/cuda:13.0.1-base-azl3 "
    "nvidia/cuda:12.6.3-runtime-amzn2023 cgr.dev/chainguard/python:latest",
    "no shell": "gcr.io/distroless/python3-debian12 registry.example/distroless/python3:latest",
    "no package manager": "busybox:1 busybox",
    "no system": "scratch",
    "pacman": "archlinux:base",
    "Windows": "python:3.10-windowsservercore-ltsc2022 mcr.microsoft.com/windows/servercore:ltsc2022",
    "Jetson": "nvcr.io/nvidia/l4t-pytorch:r35.2.1-pth2.0-py3 nvcr.io/nvidia/l4t-base:35.4.1",
    "Debian's mirrors": "debian:10 debian:buster-slim python:3.9-slim-buster debian:9",
    "too old": "ubuntu:16.04 nvidia/cuda:10.2-devel-ubuntu16.04 ubuntu:xenial",
    "name one": "debian debian:latest ubuntu:latest ubuntu:rolling debian:testing nvidia/cuda nvidia/cuda:latest",
}  # fmt: skip


@pytest.mark.parametrize("reason", NO_BASE)
def test_what_cannot_be_a_base_is_refused_with_its_reason(reason: str) -> None:
    for base in NO_BASE[reason].split():
        error = refused(base)
        assert reason in error.message, base
        assert error.hint.startswith("try `envbuilder resolve --base "), base


@pytest.mark.parametrize(
    ("base", "system", "python", "cuda"),
    [
        ("python:3.9-slim-bullseye", "bullseye", "3.9", ""),
        ("docker.io/library/python:3.11.4-bookworm", "bookworm", "3.11", ""),
        ("registry.example:5000/library/python:3.12-slim", "", "3.12", ""),
        ("python:3.14.0rc2", "", "3.14", ""),
        ("python:3", "", "", ""),
        ("ubuntu:22.04", "ubuntu 22.04", "", ""),
        ("ubuntu:jammy-20240111", "jammy", "", ""),
        ("debian:12.5-slim", "debian 12", "", ""),
        ("mirror.example/dockerhub/debian:trixie", "trixie", "", ""),
        ("nvidia/cuda:11.8.0-devel-ubuntu20.04", "ubuntu 20.04", "", "11.8.0"),
        ("nvcr.io/nvidia/cuda:12.2.2-base-ubuntu22.04", "ubuntu 22.04", "", "12.2.2"),
        ("m.example/nvidia/cuda:13.0.1-base-ubuntu24.04", "ubuntu 24.04", "", "13.0.1"),
        ("pytorch/pytorch:2.0.1-cuda11.7-cudnn8-runtime", "", "", "11.7"),
        ("nvcr.io/nvidia/pytorch:23.05-py3", "", "", ""),
        ("team/app:1-ubuntu20.04", "ubuntu 20.04", "", ""),
        ("team/alpine-tools:1", "", "", ""),
        ("team/python:3.9", "", "", ""),
        ("localhost/python@sha256:" + "0" * 64, "", "", ""),
        ("mine", "", "", ""),
    ],
)
def test_a_name_tells_system_python_and_cuda(
    base: str, system: str, python: str, cuda: str
) -> None:
    name = read_base_name(base)
    assert (name.system, name.refusal) == (system, "")
    assert name.python == (Version(python) if python else None)
    assert name.cuda == (Version(cuda) if cuda else None)


@pytest.mark.parametrize(
    ("base", "options", "name", "source"),
    [
        ("python:3.9-slim-bullseye", {"cuda": "11.7"}, "cu117-torch2.0.1-py3.9-debian11-custom", "image"),
        ("nvidia/cuda:11.7.1-cudnn8-runtime-ubuntu22.04", {}, "cu117-torch2.0.1-py3.10-ubuntu22.04-custom", "system"),
        ("nvidia/cuda:11.7.1-runtime-ubuntu22.04", {"python": "3.9"},
         "cu117-torch2.0.1-py3.9-ubuntu22.04-custom", "managed"),
        ("nvidia/cuda:11.7.1-runtime-ubuntu18.04", {}, "cu117-torch2.0.1-py3.10-ubuntu18.04-custom", "managed"),
        ("nvidia/cuda:12.2.2-runtime-ubuntu22.04", {}, "cu121-torch2.4.1-py3.10-ubuntu22.04-custom", "system"),
        ("ubuntu:24.04", {"cuda": "12.6"}, "cu126-torch2.7.1-py3.12-ubuntu24.04-custom", "system"),
        ("ubuntu:24.04", {"cuda": "11.7"}, "cu117-torch2.0.1-py3.10-ubuntu24.04-custom", "managed"),
        ("nvidia/cuda:11.8.0-runtime-ubuntu22.04", {"cuda": "11.7"},
         "cu117-torch2.0.1-py3.10-ubuntu22.04-custom", "system"),
        ("python:3.10-slim-bookworm", {"cuda": "11.7"}, "cu117-torch2.0.1-py3.10-debian12-custom", "image"),
        ("mine:1", {"python": "3.10", "torch": "2.0"}, "cu117-torch2.0.1-py3.10-custom", "image"),
    ],
)  # fmt: skip
def test_a_base_implies_python_and_cuda(
    base: str, options: dict[str, str], name: str, source: str
) -> None:
    stack = resolved(base, **options)
    assert (stack.name, stack.base.python_source.value) == (name, source)
    assert stack.base.own
    assert stack.base.reference == base
    request = parse_request({"base": base, **options})
    assert objections(request, stack, CATALOG) == []


def test_a_default_base_differs_from_a_custom_one() -> None:
    image = "python:3.10-slim-bookworm"
    stack = resolve(parse_request({"cuda": "11.7"}), CATALOG)
    request = parse_request({"cuda": "11.7", "base": image})
    assert objections(request, stack, CATALOG) == [
        f"its base is {image} by default, and not as a custom base"
    ]


def test_the_python_of_a_system_needs_its_packages() -> None:
    own = resolved("ubuntu:22.04", cuda="11.7").base
    assert {"python3", "python3-pip", "libpython3-dev", "g++"} <= set(
        own.system_packages
    )
    assert own.python_build == ""
    managed = resolved("ubuntu:22.04", cuda="11.7", python="3.9").base
    assert "python3" not in managed.system_packages
    assert managed.python_build.startswith("3.9.")
    image = resolved("python:3.9-slim-bullseye", cuda="11.7").base
    assert (image.python_source, image.python_build) == (PythonSource.IMAGE, "")


def test_the_evidence_of_a_custom_base_is_never_verified() -> None:
    known = resolved("python:3.10-slim-bookworm", cuda="11.7")
    assert known.evidence == "documented"
    unknown = resolved("mine:1", cuda="11.7", python="3.10")
    assert unknown.evidence == "inferred"


@pytest.mark.parametrize(
    ("base", "options", "message"),
    [
        ("python:3.9-slim", {"python": "3.10"}, "python:3.9-slim has Python 3.9, not 3.10"),
        ("ubuntu:22.04", {"python": "3.7"}, "ubuntu:22.04 has Python 3.10 in its packages, and uv has no build of 3.7"),
        ("python:3.9-slim-bullseye", {"os": "debian12"}, "python:3.9-slim-bullseye is debian 11, not debian 12"),
        ("nvidia/cuda:12.4.1-runtime-ubuntu22.04", {"flavour": "devel"},
         "nvidia/cuda:12.4.1-runtime-ubuntu22.04 has no nvcc, and no PyPI package provides it for CUDA 12.4"),
        ("nvidia/cuda:12.4.1-devel-ubuntu22.04", {"flavour": "devel", "cuda": "11.7"},
         "the nvcc of nvidia/cuda:12.4.1-devel-ubuntu22.04 is for CUDA 12.4, and torch is built for CUDA 11.7"),
        ("nvidia/cuda:11.7.2-base-ubuntu22.04", {}, "nvidia/cuda has no CUDA 11.7.2: its tags have 11.7.0, 11.7.1"),
    ],
)  # fmt: skip
def test_a_contradiction_of_base_and_option_is_refused(
    base: str, options: dict[str, str], message: str
) -> None:
    assert refused(base, **options).message == message


def test_an_old_glibc_is_the_reason() -> None:
    error = refused("nvidia/cuda:11.8.0-devel-ubuntu18.04", torch="2.7")
    assert "torch 2.7.1 needs glibc 2.28; ubuntu 18.04 has 2.27" in error.problems
    assert "--torch 2.6.0 --base nvidia/cuda:11.8.0-devel-ubuntu18.04`" in error.hint


def test_a_missing_tag_is_refused_with_the_similar_ones() -> None:
    for prefix in ("", "nvcr.io/", "registry.example:5000/mirror/"):
        base = f"{prefix}nvidia/cuda:11.7.1-cudnn9-runtime-ubuntu22.04"
        error = refused(base)
        assert error.message.startswith("nvidia/cuda has no tag 11.7.1-cudnn9-runtime")
        right = f"{prefix}nvidia/cuda:11.7.1-cudnn8-runtime-ubuntu22.04"
        assert f"--base {right}`" in error.hint
    rocky = read_base_name("nvidia/cuda:11.7.1-devel-rockylinux8")
    assert similar_tags(rocky, CATALOG)[0] == "11.7.1-devel-ubuntu22.04"


@pytest.mark.parametrize(
    ("base", "options", "note"),
    [
        ("nvidia/cuda:11.8.0-runtime-ubuntu22.04", {"cuda": "11.7"}, "CUDA 11.7: the CUDA 11.8 in"),
        ("nvidia/cuda:11.7.1-runtime-ubuntu22.04", {}, "torch's wheels bring CUDA 11.7 and cuDNN of their own"),
        ("nvidia/cuda:11.7.1-runtime-ubuntu22.04", {"flavour": "cpu"}, "the stack has no CUDA"),
        ("nvidia/cuda:99.1.0-runtime-ubuntu22.04", {}, "nvidia/cuda:99.1.0-runtime-ubuntu22.04 is not in the catalog"),
        ("nvidia/cuda:13.0.1-base-ubuntu22.04", {}, "is at the end of its life"),
        ("nvcr.io/nvidia/pytorch:23.05-py3", {"python": "3.10"}, "the torch that nvcr.io/nvidia/pytorch:23.05-py3 has"),
        ("continuumio/miniconda3", {"python": "3.10"}, "conda's packages in continuumio/miniconda3 are not used"),
        ("ubuntu:22.04", {}, "ubuntu:22.04 has no Python: Python 3.10 comes from its system's packages"),
        ("mine:1", {"python": "3.10"}, "nothing is known about mine:1"),
    ],
)  # fmt: skip
def test_what_is_not_obvious_of_a_base_is_noted(
    base: str, options: dict[str, str], note: str
) -> None:
    assert any(note in line for line in resolved(base, **options).notes)


@pytest.mark.parametrize("base", ["mine:1", "python:3", "team/python:3.9", "python"])
def test_a_base_that_does_not_tell_its_python_needs_it(base: str) -> None:
    with pytest.raises(UsageError, match="needs --python"):
        parse_request({"base": base})


def test_an_unknown_system_needs_a_python() -> None:
    with pytest.raises(UsageError, match="its system is not in the catalog"):
        resolved("ubuntu:24.10")
    stack = resolved("ubuntu:24.10", python="3.12", cuda="12.6")
    assert stack.base.python_source is PythonSource.SYSTEM


def test_what_a_base_implies_gives_way_to_a_gpu() -> None:
    request = parse_request(
        {"base": "nvidia/cuda:11.8.0-runtime-ubuntu22.04", "gpu": "RTX 5090"}
    )
    completed = complete_request(request, CATALOG)
    assert (str(completed.python), completed.cuda) == ("3.10", None)


def dockerfile_on(base: str, **options: str) -> str:
    path = PRESETS / "cu117-torch2.0.1-py3.9-debian11" / "envbuilder.lock"
    lock = parse_lock(path.read_text(), source=str(path))
    return dockerfile(replace(lock, stack=resolved(base, cuda="11.7", **options)))


def test_a_custom_base_is_prepared_before_both_stages() -> None:
    text = dockerfile_on("ubuntu:22.04")
    assert "FROM ${BASE} AS base\n" in text
    assert text.count("FROM base") == 2
    step = next(line for line in text.splitlines() if "sh /system/base.sh" in line)
    assert step.split()[:5] == ["sh", "/system/base.sh", "3.10", "2.35", "x86_64"]
    assert {"python3", "python3-pip", "g++"} <= set(step.split())
    assert "uv python install" not in text
    preset = PRESETS / "cu117-torch2.0.1-py3.10-debian12" / "Dockerfile"
    assert "FROM ${BASE} AS uv" in preset.read_text()


def test_a_managed_python_is_downloaded_for_the_build_only() -> None:
    text = dockerfile_on("nvidia/cuda:11.7.1-runtime-ubuntu22.04", python="3.9")
    assert "sh /system/base.sh - 2.35 x86_64" in text
    build = CATALOG.policy.managed.builds["3.9"]  # type: ignore[union-attr]
    name = f"cpython-{build}-linux-x86_64-gnu"
    assert f"--install-dir /opt/python {name} \\\n" in text
    assert f"ln -sf /opt/python/{name}/bin/python3.9 /usr/local/bin/python3" in text


def test_builds_of_python_are_those_of_the_pinned_uv() -> None:
    managed = CATALOG.policy.managed
    assert managed is not None
    pinned = (PRESETS.parent / "install" / "uv.txt").read_text().split("uv==")[1]
    assert f"uv {pinned.split()[0]}:" in managed.source
    assert set(managed.builds) == {str(row) for row in CATALOG.policy.registry.pythons}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"python_source": PythonSource.MANAGED}, "its Python is 3.9, and '' is to be installed"),
        ({"python_source": PythonSource.MANAGED, "python_build": "3.11.2"}, "its Python is 3.9, and '3.11.2' is to be"),
        ({"python_source": PythonSource.SYSTEM, "release": "bullseye"}, "mine:1 has Python, and the lock brings"),
    ],
)  # fmt: skip
def test_a_lock_with_a_contradictory_python_is_damaged(
    changes: dict[str, object], problem: str
) -> None:
    path = PRESETS / "cu117-torch2.0.1-py3.9-debian11" / "envbuilder.lock"
    lock = parse_lock(path.read_text(), source=str(path))
    base = replace(lock.stack.base, reference="mine:1", release="")
    base = replace(base, **changes)  # type: ignore[arg-type]
    damaged = replace(lock, stack=replace(lock.stack, base=base))
    problems = list(find_problems(damaged))
    assert len(problems) == 1
    assert problem in problems[0]
