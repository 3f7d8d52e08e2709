"""The harmless twin of a lock and of settings: the same shape, with harmless values."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from packaging.requirements import Requirement
from packaging.version import Version

from envbuilder.model import Base, BaseSource, Feature, Lock, Stack, Wheel
from envbuilder.render.targets.cluster_job import SETTINGS as JOB_SETTINGS

ONE = Version("1.0")
SHA = "0" * 64


def lock(given: Lock) -> Lock:
    """As many wheels, packages and notes in the same places; versions where there are versions."""
    return replace(
        given,
        catalog="2026-01-01",
        base_digest=given.base_digest and f"sha256:{SHA}",
        stack=stack(given.stack),
        wheels=tuple(wheel(item, number) for number, item in enumerate(given.wheels)),
    )


def stack(given: Stack) -> Stack:
    return replace(
        given,
        python=Version("3.10"),
        torch=ONE,
        torchvision=ONE,
        torchaudio=_version(given.torchaudio),
        cuda=_version(given.cuda),
        cudnn=_version(given.cudnn),
        nccl=_version(given.nccl),
        triton=_version(given.triton),
        index=_index(given.index),
        index_url=given.index_url and "https://a.example/whl",
        driver_floor="1.0",
        base=base(given.base),
        as_of=date(2026, 1, 1),
        requirements=tuple(_requirement(line) for line in given.requirements),
        extras=tuple(_requirement(line) for line in given.extras),
        moving=("a",) * len(given.moving),
        excluded=("a",) * len(given.excluded),
        features=tuple(
            Feature(name="a", available=item.available) for item in given.features
        ),
        notes=("a",) * len(given.notes),
        evidence="verified",
        unknown=("a",) * len(given.unknown),
        apt=("aa",) * len(given.apt),
    )


def base(given: Base) -> Base:
    bootstrapped = given.source is BaseSource.BOOTSTRAP
    return replace(
        given,
        reference="base:1" if bootstrapped else "python:3.10",
        os="debian 12",
        release=given.release and "a",
        glibc=Version("2.36"),
        end_of_life=given.end_of_life and date(2026, 1, 1),
        system_packages=("aa",) * len(given.system_packages),
        python_build=given.python_build and "1.0.0",
    )


def wheel(given: Wheel, number: int) -> Wheel:
    name = f"a{number}"
    return replace(
        given,
        name=name,
        version=ONE,
        file=f"{name}-1.0-py3-none-any.whl",
        size=given.size and 1,
        sha256=SHA,
        index=_index(given.index),
    )


def _index(name: str) -> str:
    """Whether it is PyPI decides about lines."""
    return name if name == "pypi" else "other"


def settings(given: Mapping[str, str]) -> dict[str, str]:
    """What is a word stays one; numbers that decide about lines (gpus) stay as they are."""
    plain = {"name": "a", "image": "a:b", "envbuilder": "a", "shm-size": "1g"}
    found = {}
    for name, value in given.items():
        if name == "arguments":
            found[name] = " ".join(["w"] * len(shlex.split(value)))
        elif name == "make":
            found[name] = " ".join(
                f"t{number}" for number, _ in enumerate(dict.fromkeys(value.split()))
            )
        elif name in JOB_SETTINGS and name not in plain:
            found[name] = value
        else:
            found[name] = plain.get(name, value)
    return found


def _version(given: Version | None) -> Version | None:
    return given and Version("11.1")


def _requirement(line: str) -> str:
    """nvcc's package decides about an instruction; of others only that they are there."""
    name = Requirement(line).name
    return name if name == "nvidia-cuda-nvcc" else "a"
