"""What the name of a base image says: its system, its Python and its CUDA, and whether it can be a base at all.

Pure text: nothing is asked. A mirror's host in front (`registry.example/nvidia/cuda:…`) changes nothing. A name that
says nothing is no error: a build looks into the image (docker/system/base.sh).
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from packaging.version import Version


class BaseKind(StrEnum):
    """What kind of image a name stands for."""

    UNKNOWN = ""
    PYTHON = "python"  # the official images, with Python under /usr/local
    SYSTEM = "system"  # Debian or Ubuntu, without Python
    CUDA = "cuda"  # nvidia/cuda: Ubuntu with CUDA, without Python
    TORCH = "torch"  # has a PyTorch: pytorch/pytorch, nvcr.io/nvidia/pytorch
    CONDA = "conda"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseName:
    """A base image as its name describes it; "" and None where it says nothing."""

    reference: str
    kind: BaseKind = BaseKind.UNKNOWN
    tag: str = ""
    system: str = ""  # "ubuntu 22.04" or a code name, as `--os` takes it
    python: Version | None = None  # X.Y, of an image that has Python
    cuda: Version | None = None
    refusal: str = ""  # why no image can be built on it

    @property
    def python_from_system(self) -> bool:
        """Whether its Python comes from the distribution's packages: the image has none."""
        return self.kind in (BaseKind.SYSTEM, BaseKind.CUDA)

    @property
    def needs_python(self) -> bool:
        """Whether only `--python` can tell which Python an image on it has."""
        return not (self.refusal or self.python or self.python_from_system)

    @property
    def has_nvcc(self) -> bool | None:
        """Whether it has CUDA's compiler; None where the name does not say."""
        if self.kind is BaseKind.CUDA:
            words = self.tag.split("-")
            return "devel" in words
        if self.kind in (BaseKind.PYTHON, BaseKind.SYSTEM):
            return False
        return None


_APK = "its C library is musl, and PyTorch's wheels need glibc"
_RPM = "it has dnf, yum or zypper instead of apt, which the generated Dockerfile installs with"
_REFUSED = (  # words of the repository or the tag → what it is, and why that is no base
    (r"alpine[0-9.]*", "Alpine Linux", _APK),
    (r"musllinux.*|void", "a system with musl", _APK),
    (r"chainguard|wolfi.*", "Wolfi", "it has apk instead of apt"),
    (r"busybox", "BusyBox", "it has no package manager and no Python"),
    (r"scratch", "an empty image", "there is no system in it"),
    (r"distroless", "distroless", "it has no shell and no package manager"),
    (
        r"nanoserver.*|windowsservercore.*|windows|servercore",
        "Windows",
        "PyTorch's Linux wheels and GPU access need Linux",
    ),
    (r"ubi[0-9]*|rhel[0-9]*|redhat", "Red Hat Enterprise Linux", _RPM),
    (r"centos[0-9]*|stream[0-9]+", "CentOS", _RPM),
    (r"rockylinux[0-9]*|rocky[0-9]*", "Rocky Linux", _RPM),
    (r"almalinux[0-9]*|alma[0-9]*", "AlmaLinux", _RPM),
    (r"oraclelinux[0-9]*", "Oracle Linux", _RPM),
    (r"fedora[0-9]*", "Fedora", _RPM),
    (r"amazonlinux[0-9]*|amzn[0-9]+|al2023", "Amazon Linux", _RPM),
    (r"photon[0-9]*", "Photon OS", _RPM),
    (r"mariner[0-9.]*|cbl|cm[0-9]|azurelinux[0-9.]*|azl[0-9]", "Azure Linux", _RPM),
    (r"opensuse|leap|tumbleweed|suse|sles?[0-9]*|sle15|bci", "openSUSE", _RPM),
    (
        r"archlinux|manjarolinux",
        "Arch Linux",
        "it has pacman, and the generated Dockerfile installs with apt",
    ),
    (
        r"gentoo|stage3|nixos|nix|clearlinux|slackware|guix",
        "a system without apt",
        "the generated Dockerfile installs with apt",
    ),
    (
        r"l4t(-.*)?",
        "an image for Jetson",
        "PyTorch's wheels for servers do not run there; use NVIDIA's own for Jetson",
    ),
    (
        r"buster|stretch|jessie|wheezy|debian(10|[1-9])",
        "a Debian of 2019 or older",
        "its packages are no longer on Debian's mirrors",
    ),
    (
        r"xenial|trusty|ubuntu1[0-7]\.[0-9]+",
        "an Ubuntu of 2017 or older",
        "its glibc is too old for PyTorch's wheels of today, and its Python is 3.5",
    ),
)
_VARIANT = re.compile(r"-(minimal|micro|init|slim|edge)$")
_RELEASES = (
    *("bullseye", "bookworm", "trixie", "forky"),
    *("bionic", "focal", "jammy", "noble", "resolute"),
)
_NUMBERED = re.compile(r"(ubuntu|debian)-?([0-9]+(?:\.[0-9]+)?)")
_PYTHON_TAG = re.compile(r"([0-9]+\.[0-9]+)(?:\.[0-9]+(?:(?:a|b|rc)[0-9]+)?)?")
_CUDA_TAG = re.compile(r"([0-9]+\.[0-9]+(?:\.[0-9]+)?)(?:-|$)")
_TORCH_CUDA = re.compile(r"cuda([0-9]+\.[0-9]+)")
_RELEASE_TAGS = {
    "ubuntu": re.compile(r"([0-9]{2}\.[0-9]{2})"),
    "debian": re.compile(r"([0-9]{1,2})(?:\.[0-9]+)?"),
}
_HOST = re.compile(r"[.:]|^localhost$")
_OFFICIAL_PLACES = frozenset(
    {"library", "dockerhub", "docker-hub", "docker.io", "hub", "docker", "proxy"}
)
"""Folders of a mirror that hold Docker's official images."""
_KINDS = {
    ("nvidia", "cuda"): BaseKind.CUDA,
    ("nvidia", "pytorch"): BaseKind.TORCH,
    ("pytorch", "pytorch"): BaseKind.TORCH,
}
_OFFICIAL_KINDS = {
    "python": BaseKind.PYTHON,
    "debian": BaseKind.SYSTEM,
    "ubuntu": BaseKind.SYSTEM,
}
_CONDA = ("miniconda3", "anaconda3", "micromamba", "miniforge3", "mambaforge")


def read_base_name(reference: str) -> BaseName:
    """What the name of an image says."""
    host, path, tag = _parts(reference)
    kind = _kind_of(host, path)
    system = _system_in(tag)
    if kind is BaseKind.SYSTEM and not system:
        system = _release_of(path[-1], tag)
    return BaseName(
        reference=reference,
        kind=kind,
        tag=tag,
        system="" if kind in (BaseKind.TORCH, BaseKind.CONDA) else system,
        python=_python_in(tag) if kind is BaseKind.PYTHON else None,
        cuda=_cuda_in(kind, tag),
        refusal=_refusal(reference, path, tag),
    )


def _kind_of(host: str, path: list[str]) -> BaseKind:
    """Which well-known image it is; Docker's official ones have no folder, or one that mirrors give them."""
    *folders, name = path
    place = folders[-1] if folders else ""
    kind = _KINDS.get((place, name))
    if kind is not None:
        return kind
    if name in _CONDA:
        return BaseKind.CONDA
    is_official = place in ("", "library")
    if host and place in _OFFICIAL_PLACES:
        is_official = True
    if not is_official:
        return BaseKind.UNKNOWN
    return _OFFICIAL_KINDS.get(name, BaseKind.UNKNOWN)


def _python_in(tag: str) -> Version | None:
    """The Python of `3.10-slim-bookworm` or `3.10.14`; None for `3` and `latest`."""
    first = _first_word(tag)
    python = _PYTHON_TAG.fullmatch(first)
    if python is None:
        return None
    return Version(python[1])


def _cuda_in(kind: BaseKind, tag: str) -> Version | None:
    match = None
    if kind is BaseKind.CUDA:
        match = _CUDA_TAG.match(tag)
    elif kind is BaseKind.TORCH:
        match = _TORCH_CUDA.search(tag)
    if match is None:
        return None
    return Version(match[1])


def _first_word(tag: str) -> str:
    first, _, _ = tag.partition("-")
    return first


def _parts(reference: str) -> tuple[str, list[str], str]:
    """Host, path and tag: `host:5000/a/b:1@sha256:…` → ("host:5000", ["a", "b"], "1")."""
    name, _, _ = reference.partition("@")
    folders, _, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    path = [*folders.split("/"), last]
    host = ""
    first = path[0]
    if _HOST.search(first):
        host = first
    if host or not first:
        del path[0]
    return host, path, tag


def _refusal(reference: str, path: list[str], tag: str) -> str:
    """Why an image with these words in its name is no base; "" if nothing says so."""
    words = _telling_words(path, tag)
    for pattern, system, reason in _REFUSED:
        for word in words:
            if re.fullmatch(pattern, word):
                return f"{reference} is {system}: {reason}"
    return ""


def _telling_words(path: list[str], tag: str) -> list[str]:
    """The words of a name that say what an image is made of."""
    words = tag.split("-")
    number = words[0]
    for part in path:
        # Not every word of it: a project called alpine-tools does not say what it is built on.
        word = _VARIANT.sub("", part)
        words.append(word)
        if part in ("debian", "ubuntu"):
            words.append(f"{part}{number}")
    return words


def _system_in(tag: str) -> str:
    """The release that a tag names: `3.9-slim-bullseye`, `11.8.0-runtime-ubuntu22.04`."""
    for word in tag.split("-"):
        if word in _RELEASES:
            return word
    numbered = _NUMBERED.search(tag)
    if numbered is None:
        return ""
    system, number = numbered.groups()
    return f"{system} {number}"


def _release_of(name: str, tag: str) -> str:
    """The release of `debian:12-slim` or `ubuntu:22.04`; "" for a tag that moves, such as `latest`."""
    first = _first_word(tag)
    pattern = _RELEASE_TAGS[name]
    number = pattern.fullmatch(first)
    if number is None:
        return ""
    return f"{name} {number[1]}"
