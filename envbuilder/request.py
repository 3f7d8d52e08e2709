"""What was said → Request: every value is checked against a closed ASCII grammar before anything else sees it."""

import re
from collections.abc import Callable, Mapping, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from envbuilder.errors import UsageError
from envbuilder.model import BASE_AUTO, BASE_BOOTSTRAP, Request

_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}")
_CUDA_TAG = re.compile(r"cu([0-9]{2})([0-9])")
_GPU = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+-]{0,63}")
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]{1,5})?/)?"
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = rf"{_HOST}{_PATH}(?:/{_PATH})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_REFERENCE = re.compile(rf"{_NAME}(?::{_TAG})?(?:@sha256:[0-9a-f]{{64}})?")
_TAGGED = re.compile(rf"{_NAME}:{_TAG}")
_LONGEST = 255
PLATFORMS = ("linux/amd64", "linux/arm64")


def shown(value: str) -> str:
    """A value as it stands in a message: quoted, without control characters, not longer than a person reads."""
    quoted = repr(value)
    return quoted if len(quoted) <= 60 else f"{quoted[:56]}…' ({len(value)} characters)"


def parse_version(text: str) -> Version:
    if len(text) > _LONGEST or not _VERSION.fullmatch(text):
        raise ValueError("a version is digits and dots, such as 11.7")
    return Version(text)


def parse_cuda(text: str) -> Version:
    """`11.7`, `11.7.99`, `11` or, as in the names of wheels, `cu117`."""
    tag = _CUDA_TAG.fullmatch(text) if len(text) <= _LONGEST else None
    return Version(f"{tag[1]}.{tag[2]}") if tag else parse_version(text)


def parse_gpu(text: str) -> str:
    if not _GPU.fullmatch(text):
        raise ValueError("a GPU is a name such as H100, or a compute capability such as 8.6")
    return text


def parse_base(text: str) -> str:
    if text in (BASE_AUTO, BASE_BOOTSTRAP):
        return text
    if len(text) > _LONGEST or not _REFERENCE.fullmatch(text):
        raise ValueError("a base is auto, bootstrap or an image reference such as python:3.10-slim-bookworm")
    return text


def parse_tag(text: str) -> str:
    """`name:tag`, as an image is to be called."""
    if len(text) > _LONGEST or not _TAGGED.fullmatch(text):
        raise ValueError("a tag is lower-case, name:tag, such as registry.example/team/train:1")
    return text


def parse_package(text: str) -> str:
    try:
        wanted = Requirement(text) if len(text) <= _LONGEST and text.isprintable() else None
    except InvalidRequirement:
        wanted = None
    if wanted is None or wanted.url or wanted.marker:
        raise ValueError("a package is a name with an optional version, such as peft or 'peft<0.12'")
    return str(wanted)


def parse_platform(text: str) -> str:
    if text not in PLATFORMS:
        raise ValueError(f"a platform is one of {', '.join(PLATFORMS)}")
    return text


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "cuda": parse_cuda,
    "cudnn": parse_version,
    "python": parse_version,
    "torch": parse_version,
    "gpu": parse_gpu,
    "driver": parse_version,
    "base": parse_base,
    "platform": parse_platform,
}


def parse_request(options: Mapping[str, str | None], packages: Sequence[str] = ()) -> Request:
    """The request that options describe; raises one `UsageError` with every problem in it."""
    values: dict[str, object] = {}
    problems = []
    for name, text in [*options.items(), *(("package", line) for line in packages)]:
        if text is None:
            continue
        try:
            if name == "package":
                values["packages"] = (*values.get("packages", ()), parse_package(text))  # type: ignore[misc]
            else:
                values[name] = _PARSERS[name](text)
        except ValueError as error:
            problems.append(f"--{name} {shown(text)}: {error}")
    request = Request(**values) if not problems else None  # type: ignore[arg-type]
    if request and request.base not in (BASE_AUTO, BASE_BOOTSTRAP) and request.python is None:
        problems.append(
            f"--base {request.base} needs --python X.Y: the Python that is in it cannot be known beforehand"
        )
    if request is None or problems:
        message = "the request cannot be understood" if len(problems) > 1 else problems.pop()
        raise UsageError(message, problems=problems, hint="see `envbuilder resolve --help` for what each option takes")
    return request
