"""Packages that are the stack's own: an exact version of torch, torchvision, transformers or cuDNN is an option.

`torch==2.0.1+cu117` means `--torch 2.0.1 --cuda 11.7`. A range such as `torch>=2.0` is no option: it stays a package,
and `package_rules` bounds the candidates by it.
"""

import re
from collections.abc import Mapping

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

_CUDNN = re.compile(r"nvidia-cudnn-cu[0-9]{2}")
_CUDA_TAG = re.compile(r"cu([0-9]{2})([0-9])(?:\..*)?")
_RELEASE = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,4}){0,3}")
_FULL = 3  # numbers of a release of torch: 2.0 is 2.0.0
OF_STACK = frozenset({"torch", "torchvision", "torchaudio", "triton"})
_OPTION_OF = {
    "torch": "torch",
    "torchvision": "torchvision",
    "transformers": "transformers",
}


def decided_by_stack(requirement: Requirement) -> str:
    """Why a package cannot come from a place of its own; "" if it can."""
    name = canonicalize_name(requirement.name)
    if requirement.url and name in OF_STACK:
        return f"the stack decides {name}: choose a version with `--torch X.Y`"
    return ""


def option_of(name: str) -> str | None:
    """The option that decides the version of a package: `cudnn` of nvidia-cudnn-cu11."""
    project = canonicalize_name(name)
    if _CUDNN.fullmatch(project):
        return "cudnn"
    return _OPTION_OF.get(project)


def options_meant(requirement: Requirement) -> dict[str, str]:
    """The options that an exact version means; empty for a range, or a package that no option decides.

    Raises `ValueError` for a build of torch that no stack has.
    """
    option = option_of(requirement.name)
    pin = exact_pin(requirement)
    if pin is None:
        return {}
    number, _, local = pin.partition("+")
    if canonicalize_name(requirement.name) == "torchaudio":
        return options_of_build(local)
    if option is None:
        return {}
    is_release = _RELEASE.fullmatch(number)
    if not is_release:
        return {}
    values = {option: number}
    if option in ("torch", "torchvision"):
        values |= options_of_build(local)
    return values


def package_beside(requirement: Requirement) -> str:
    """What is still a package once the version is an option: one with extras, or a torchaudio; "" if nothing is."""
    name = canonicalize_name(requirement.name)
    if name == "torchaudio":
        pin = exact_pin(requirement) or ""
        number, _, _ = pin.partition("+")
        return f"{name}=={number}"
    if requirement.extras:
        return f"{name}[{','.join(sorted(requirement.extras))}]"
    return ""


def exact_pin(requirement: Requirement) -> str | None:
    """`2.0.1+cu117` of `==2.0.1+cu117`, `2.0` of `==2.0.*`, `2.0.0` of `==2.0`; None for anything else."""
    clauses = list(requirement.specifier)
    if len(clauses) != 1:
        return None
    clause = clauses[0]
    if clause.operator != "==":
        return None
    text = clause.version
    if text.endswith(".*"):
        return text.removesuffix(".*")
    try:
        version = Version(text)
    except InvalidVersion:
        return None
    missing = _FULL - len(version.release)
    if missing <= 0 or version.public != version.base_version:
        return text
    full = version.base_version
    full += ".0" * missing
    if version.local:
        full += f"+{version.local}"
    return full


def options_of_build(local: str) -> dict[str, str]:
    """What the tag of a build says, as PyTorch's versions and indexes write it: cu117, cpu.

    Raises `ValueError` for ROCm and the like.
    """
    if not local:
        return {}
    if local == "cpu":
        return {"flavour": "cpu"}
    digits = _CUDA_TAG.fullmatch(local)
    if not digits:
        raise ValueError(f"{local} is no build for CUDA or the CPU")
    return {"cuda": f"{digits[1]}.{digits[2]}"}


def agree(one: str, other: str) -> bool:
    """Whether two versions can be the same: 2.0 and 2.0.1 can, one being the beginning of the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def narrower(one: str, other: str) -> str:
    """The one that says more."""
    return max(one, other, key=len)


def with_options(
    values: Mapping[str, str], meant: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """`values` with the options that a package means, and the names of those that disagree."""
    merged = dict(values)
    disagreeing = []
    for name, text in meant.items():
        given = merged.get(name)
        if given is None:
            merged[name] = text
        elif agree(given, text):
            merged[name] = narrower(given, text)
        else:
            disagreeing.append(name)
    return merged, disagreeing
