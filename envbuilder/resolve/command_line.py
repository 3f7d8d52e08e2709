"""What was said → Request: every value is checked against a closed ASCII grammar before anything else sees it."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from envbuilder import grammar
from envbuilder.errors import UsageError
from envbuilder.grammar import LONGEST, PLATFORMS
from envbuilder.model import ANY, BASE_AUTO, BASE_BOOTSTRAP, Flavour, Request

_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}")
_CUDA = re.compile(r"(?i:cuda|cu)[ -]?(.*)")
_CUDA_DIGITS = re.compile(r"([0-9]{2})([0-9]?)")
_CUDNN = re.compile(r"(?i:cudnn)[ -]?(.*)")
_ARCH = re.compile(r"(?:sm|compute)_?([0-9]{1,2})([0-9])")
_OS = re.compile(r"([a-z]+)[ :-]?([0-9]{1,2}(?:\.[0-9]{2})?)|[a-z]{3,20}(?: [a-z]{3,20})?")
_LONGEST_QUOTE = 60
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_PLATFORM_NAMES = {  # NVIDIA calls arm64 servers SBSA
    "linux/amd64": ("amd64", "x86_64", "x86-64", "x64"),
    "linux/arm64": ("arm64", "aarch64", "sbsa", "arm64/v8", "arm64-sbsa", "arm64/sbsa"),
}


def quoted(value: object) -> str:
    """A value as it stands in a message: quoted, without control characters, not longer than a person reads."""
    text = ascii(value) if not str(value).isprintable() else repr(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 4]}…' ({len(text) - 2} characters)"


def parse_version(text: str) -> Version:
    if len(text) > LONGEST or not _VERSION.fullmatch(text):
        raise ValueError("a version is digits and dots, such as 11.7")
    return Version(text)


def parse_cuda(text: str) -> Version:
    """`11.7`, `11.7.1`, `11` or, as in the names of wheels and images, `cu117`, `cu12`, `cuda11.7`."""
    named = _CUDA.fullmatch(text) if len(text) <= LONGEST else None
    if not named:
        return parse_version(text)
    digits = _CUDA_DIGITS.fullmatch(named[1])
    return parse_version(".".join(part for part in digits.groups() if part) if digits else named[1])


def parse_cudnn(text: str) -> Version:
    """`8.5`, or `cudnn8` as in the names of images."""
    named = _CUDNN.fullmatch(text) if len(text) <= LONGEST else None
    return parse_version(named[1] if named else text)


def parse_gpu(text: str) -> str:
    """A GPU's name; `8.6`, `sm_86` and `compute_86` are its compute capability."""
    arch = _ARCH.fullmatch(text) if len(text) <= LONGEST else None
    if arch:
        return f"{arch[1]}.{arch[2]}"
    if not grammar.matches(grammar.GpuName, text):
        raise ValueError("a GPU is a name such as H100, or a compute capability such as 8.6")
    return text


def parse_os(text: str) -> str:
    """`debian 12`, also as `debian12` and `debian:12`; or a code name as `bookworm`."""
    found = _OS.fullmatch(text.lower()) if len(text) <= LONGEST and text.isascii() else None
    if not found:
        raise ValueError("an operating system is a name such as debian12 or bookworm")
    return f"{found[1]} {found[2]}" if found[1] else found[0]


def parse_flavour(text: str) -> Flavour:
    try:
        return Flavour(text)
    except ValueError:
        raise ValueError(f"a flavour is one of {', '.join(Flavour)}") from None


def parse_base(text: str) -> str:
    if text in (BASE_AUTO, BASE_BOOTSTRAP):
        return text
    if not grammar.matches(grammar.ImageReference, text):
        raise ValueError("a base is auto, bootstrap or an image reference such as python:3.10-slim-bookworm")
    return text


def parse_tag(text: str) -> str:
    """`name:tag`, as an image is to be called."""
    if not grammar.matches(grammar.ImageTag, text):
        raise ValueError("a tag is lower-case, name:tag, such as registry.example/team/train:1")
    return text


def parse_package(text: str) -> str:
    try:
        wanted = Requirement(text) if grammar.matches(grammar.Requirement, text.strip(" ")) else None
    except InvalidRequirement:
        wanted = None
    if wanted is None or wanted.url or wanted.marker:
        raise ValueError("a package is a name with an optional version, such as peft or 'peft<0.12'")
    return str(wanted)


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
        raise ValueError("a package index is an address such as https://mirror.example/simple")
    return text


def parse_path(text: str) -> str:
    """A path on this machine, as somebody wrote it."""
    if not text or not grammar.matches(grammar.Path, text):
        raise ValueError("a path is text without control characters")
    return text


def parse_builder(text: str) -> str:
    """The name of a buildx builder."""
    if not grammar.matches(grammar.Word, text):
        raise ValueError("a builder is a name of letters, digits, dots, hyphens and underscores")
    return text


def parse_cache(text: str) -> str:
    """A source or destination of buildx's build cache: `type=registry,ref=…` or an image reference."""
    if not grammar.matches(grammar.CacheSpec, text):
        raise ValueError("a cache is written as buildx takes it, such as type=registry,ref=registry.example/cache")
    return text


def parse_day(text: str) -> date:
    """`2026-11-09`."""
    try:
        day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        day = None  # such as 2026-02-30
    if day is None:
        raise ValueError("a day is YYYY-MM-DD, such as 2026-11-09")
    return day


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "cuda": parse_cuda,
    "cudnn": parse_cudnn,
    "python": parse_version,
    "torch": parse_version,
    "torchvision": parse_version,
    "transformers": parse_version,
    "gpu": parse_gpu,
    "driver": parse_version,
    "base": parse_base,
    "os": parse_os,
    "flavour": parse_flavour,
    "platform": parse_platform,
    "as_of": parse_day,
}


def option_name(field: str) -> str:
    """A field of the request as the command line spells it: `as_of` is `as-of`."""
    return field.replace("_", "-")


def parse_option(name: str, text: str) -> object:
    """The value of one option of a request; raises `ValueError` that says what it takes."""
    return _PARSERS[name](text)


def parse_request(options: Mapping[str, str | None], packages: Sequence[str] = ()) -> Request:
    """The request that options describe, `any` leaving one open; raises one `UsageError` with every problem in it."""
    values: dict[str, object] = {}
    problems = []
    for name, text in [*options.items(), *(("package", line) for line in packages)]:
        if text is None or (text == ANY and name != "package"):
            continue
        try:
            if name == "package":
                values["packages"] = (*values.get("packages", ()), parse_package(text))  # type: ignore[misc]
            else:
                values[name] = parse_option(name, text)
        except ValueError as error:
            problems.append(f"--{option_name(name)} {quoted(text)}: {error}")
    request = Request(**values) if not problems else None  # type: ignore[arg-type]
    if request and request.base not in (BASE_AUTO, BASE_BOOTSTRAP) and request.python is None:
        problems.append(
            f"--base {request.base} needs --python X.Y: the Python that is in it cannot be known beforehand"
        )
    if request is None or problems:
        message = "the request cannot be understood" if len(problems) > 1 else problems.pop()
        raise UsageError(message, problems=problems, hint="see `envbuilder resolve --help` for what each option takes")
    return request
