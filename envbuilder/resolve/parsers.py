"""Text → value, for every option that takes one: a closed ASCII grammar before anything else sees the text.

Each parser raises a `ValueError` that says what the option takes.
"""

import difflib
import re
from datetime import date

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from envbuilder import grammar
from envbuilder.grammar import LONGEST, PLATFORMS
from envbuilder.lock.sources.location import is_located, parse_location
from envbuilder.model import BASE_AUTO, BASE_BOOTSTRAP, Flavour

_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}")
_CUDA = re.compile(r"(?i:cuda|cu)[ -]?(.*)")
_CUDA_DIGITS = re.compile(r"([0-9]{2})([0-9]?)")
_CUDNN = re.compile(r"(?i:cudnn)[ -]?(.*)")
_ARCH = re.compile(r"(?:sm|compute)_?([0-9]{1,2})([0-9])")
_OS = re.compile(
    r"([a-z]+)[ :-]?([0-9]{1,2}(?:\.[0-9]{2})?)|[a-z]{3,20}(?: [a-z]{3,20})?"
)
_LONGEST_LOCATION = 2400  # characters
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_PLATFORM_NAMES = {  # NVIDIA calls arm64 servers SBSA
    "linux/amd64": ("amd64", "x86_64", "x86-64", "x64"),
    "linux/arm64": ("arm64", "aarch64", "sbsa", "arm64/v8", "arm64-sbsa", "arm64/sbsa"),
}


def _match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The whole text as the pattern has it; what is too long is not looked at."""
    return pattern.fullmatch(text) if len(text) <= LONGEST else None


def parse_version(text: str) -> Version:
    if re.fullmatch(r"[0-9.]{20,}", text):
        raise ValueError("too long: a version is digits and dots, such as 11.7")
    if not _match(_VERSION, text):
        raise ValueError("a version is digits and dots, such as 11.7")
    return Version(text)


def parse_cuda(text: str) -> Version:
    """`11.7`, `11.7.1`, `11` or, as in the names of wheels and images, `cu117`, `cu12`, `cuda11.7`."""
    if text.lower() == "cpu":
        raise ValueError("an image without CUDA is a flavor: `--flavor cpu`")
    named = _match(_CUDA, text)
    if not named:
        return parse_version(text)
    digits = _CUDA_DIGITS.fullmatch(named[1])
    if not digits:
        return parse_version(named[1])
    major, minor = digits.groups()
    return parse_version(f"{major}.{minor}" if minor else major)


def parse_cudnn(text: str) -> Version:
    """`8.5`, or `cudnn8` as in the names of images."""
    named = _match(_CUDNN, text)
    return parse_version(named[1] if named else text)


def parse_gpu(text: str) -> str:
    """A GPU's name; `8.6`, `sm_86` and `compute_86` are its compute capability."""
    arch = _match(_ARCH, text)
    if arch:
        return f"{arch[1]}.{arch[2]}"
    if not grammar.matches(grammar.GpuName, text):
        raise ValueError(
            "a GPU is a name such as H100, or a compute capability such as 8.6"
        )
    return text


def parse_os(text: str) -> str:
    """`debian 12`, also as `debian12` and `debian:12`; or a code name as `bookworm`."""
    # Some letters outside ASCII are ASCII in lower case, such as the sign of the kelvin.
    name = _match(_OS, text.lower()) if text.isascii() else None
    if not name:
        raise ValueError("an operating system is a name such as debian12 or bookworm")
    if name[1]:
        return f"{name[1]} {name[2]}"
    return name[0]


def parse_flavour(text: str) -> Flavour:
    try:
        return Flavour(text)
    except ValueError:
        message = f"a flavour is one of {', '.join(Flavour)}"
        close = difflib.get_close_matches(text, Flavour, n=1)
        if close:
            message += f"; did you mean {close[0]}?"
        raise ValueError(message) from None


def parse_base(text: str) -> str:
    if text in (BASE_AUTO, BASE_BOOTSTRAP):
        return text
    if not grammar.matches(grammar.ImageReference, text):
        raise ValueError(
            "a base is auto, bootstrap or an image reference such as python:3.10-slim-bookworm"
        )
    return text


def parse_tag(text: str) -> str:
    """`name:tag` of an image."""
    if not grammar.matches(grammar.ImageTag, text):
        raise ValueError(
            "a tag is lower-case, name:tag, such as registry.example/team/train:1"
        )
    return text


def parse_package(text: str) -> str:
    """A package with an optional version or the place that it comes from, and an optional marker.

    A folder may lack its package's name, which is in its metadata: `lock.sources.folder_name` adds it.
    """
    message = (
        "a package is a name with an optional version, such as peft or 'peft<0.12'"
    )
    if is_located(text.strip(" ")) and len(text) <= _LONGEST_LOCATION:
        return parse_location(text.strip(" ")).text
    if not grammar.matches(grammar.Requirement, text.strip(" ")):
        raise ValueError(message)
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(message) from error
    if requirement.url:
        raise ValueError(message)
    plain = str(requirement)
    # A marker in another order of parentheses than packaging writes them.
    if not grammar.matches(grammar.Requirement, plain):
        raise ValueError(message)
    return plain


def parse_companion(text: str) -> str:
    """A package that is bound to torch, CUDA or the GPU, with extras and bounds, if any; its version is the stack's."""
    message = "a companion is a package with an optional version, such as vllm or 'flash-attn>=2.8'"
    plain = text.strip(" ")
    if not grammar.matches(grammar.Requirement, plain):
        raise ValueError(message)
    try:
        requirement = Requirement(plain)
    except InvalidRequirement as error:
        raise ValueError(message) from error
    if requirement.url or requirement.marker:
        raise ValueError(message)
    requirement.name = canonicalize_name(requirement.name)
    return str(requirement)


def parse_apt(text: str) -> str:
    """The name of a package of Debian's or Ubuntu's, without a version: the base decides it."""
    if not grammar.matches(grammar.DebianPackage, text):
        raise ValueError(
            "a system package is a Debian name, such as libgl1, without a version"
        )
    return text


def parse_platform(text: str) -> str:
    """`linux/arm64`, however people call it: arm64, aarch64, sbsa."""
    name = text.lower().removeprefix("linux/").removeprefix("linux-")
    for platform, names in _PLATFORM_NAMES.items():
        if name in names:
            return platform
    raise ValueError(f"a platform is one of {', '.join(PLATFORMS)}")


def parse_index_url(text: str) -> str:
    """An address of a package index, with credentials or without."""
    if not grammar.matches(grammar.IndexUrl, text):
        raise ValueError(
            "a package index is an address such as https://mirror.example/simple"
        )
    return text


def parse_torch_index(text: str) -> str:
    """An address of a mirror of PyTorch's index; `find-links+` in front of that of a page of files."""
    if not grammar.matches(grammar.TorchIndexUrl, text):
        raise ValueError(
            "a mirror of PyTorch's index is an address such as https://mirror.example/whl or, for one page of files, "
            "find-links+https://mirror.example/wheels/{tag}; it has no query"
        )
    return text


def parse_apt_mirror(text: str) -> str:
    """A mirror of Debian's packages, with credentials or without.

    Security updates come from `debian-security` next to it.
    """
    address = text.rstrip("/")
    if not grammar.matches(grammar.AptMirror, address):
        raise ValueError(
            "a mirror of Debian is an address that ends in /debian, such as https://mirror.example/debian"
        )
    return address


def parse_registry_mirror(text: str) -> str:
    """A registry that has Docker Hub's images below a path or at the top."""
    name = text.rstrip("/")
    if not grammar.matches(grammar.RegistryMirror, name):
        raise ValueError(
            "a mirror of Docker Hub is a registry and a path, such as registry.example/dockerhub, without https://"
        )
    return name


def parse_python_mirror(text: str) -> str:
    """A mirror of python-build-standalone's releases. It needs no credentials: these builds are public."""
    address = text.rstrip("/")
    if not grammar.matches(grammar.PublicUrl, address):
        raise ValueError(
            "a mirror of Pythons is an address without credentials, such as https://mirror.example/python-build-standalone"
        )
    return address


def parse_hub(text: str) -> str:
    """A mirror of the Hugging Face Hub. It is written into files, so it holds no credentials."""
    address = text.rstrip("/")
    if not grammar.matches(grammar.PublicUrl, address):
        raise ValueError(
            "a hub is an address without credentials, such as https://hub.example"
        )
    return address


def parse_path(text: str) -> str:
    """A path on this machine."""
    if not text or not grammar.matches(grammar.Path, text):
        raise ValueError("a path is text without control characters")
    return text


def parse_builder(text: str) -> str:
    """The name of a buildx builder."""
    if not grammar.matches(grammar.Word, text):
        raise ValueError(
            "a builder is a name of letters, digits, dots, hyphens and underscores"
        )
    return text


def parse_cache(text: str) -> str:
    """A source or destination of buildx's build cache: `type=registry,ref=…` or an image reference."""
    if not grammar.matches(grammar.CacheSpec, text):
        raise ValueError(
            "a cache is written as buildx takes it, such as type=registry,ref=registry.example/cache"
        )
    return text


def parse_day(text: str) -> date:
    """`2026-11-09`."""
    message = "a day is YYYY-MM-DD, such as 2026-11-09"
    if not _match(_DAY, text):
        raise ValueError(message)
    try:
        return date.fromisoformat(text)
    except ValueError as error:  # such as 2026-02-30
        raise ValueError(message) from error
