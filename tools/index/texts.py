"""What the files in a wheel say; pure."""

import re
from collections.abc import Mapping

from packaging.metadata import parse_email
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from facts import Row
from index.pages import NEWEST_PYTHON

KEPT = re.compile(r"nvidia-.+|cuda-.+|triton|setuptools|torch|numpy")
CUDA = re.compile(
    r"^cuda(?:: [^=]+)? = '([0-9.]+)'", re.M
)  # in torch/version.py; None in a build for a CPU


def requires(metadata: str) -> dict[str, str]:
    """What a wheel pins of CUDA and of its family on linux/amd64, as package → PEP 440."""
    found: dict[str, str] = {}
    for line in parse_email(metadata)[0].get("requires_dist", []):
        wanted = Requirement(line)
        name = canonicalize_name(wanted.name)
        if KEPT.fullmatch(name) and any(
            holds(wanted, python) for python in range(7, NEWEST_PYTHON + 1)
        ):
            found[name] = str(wanted.specifier)
    return found


def holds(wanted: Requirement, minor: int) -> bool:
    """Whether a requirement holds for Python 3.`minor` on linux/amd64."""
    here = {
        "platform_system": "Linux", "sys_platform": "linux", "os_name": "posix", "platform_machine": "x86_64",
        "python_version": f"3.{minor}", "python_full_version": f"3.{minor}.0", "extra": "",
    }  # fmt: skip
    return wanted.marker is None or wanted.marker.evaluate(here)


def torch_facts(texts: Mapping[str, str]) -> Row:
    """What a wheel of torch says of itself."""
    pins = requires(texts["METADATA"])
    cuda = CUDA.search(texts["version.py"])
    gate = re.search(
        r"version_info >= \(3, ([0-9]+)\):\s+raise RuntimeError",
        texts.get("eval_frame.py", ""),
    )
    return {
        "cuda": pin(pins, "nvidia-cuda-runtime", "cuda-toolkit")
        or (cuda[1] if cuda else None),
        "cudnn": pin(pins, "nvidia-cudnn"),
        "nccl": pin(pins, "nvidia-nccl"),
        "triton": pin(pins, "triton"),
        "compile": gate is not None,
        "compile_until": f"3.{gate[1]}" if gate else None,
        "requires_python": parse_email(texts["METADATA"])[0].get("requires_python", ""),
    }


def pin(pins: Mapping[str, str], *names: str) -> str | None:
    """The version that one of the packages is pinned to, whatever its suffix (`-cu11`)."""
    for name in names:
        for package, bound in pins.items():
            if re.fullmatch(rf"{name}(-cu[0-9]+)?", package) and (
                found := re.match(r"[=~]=([0-9.]+)", bound)
            ):
                return found[1]
    return None


def find_architectures(library: bytes) -> list[str]:
    """CUDA_ARCH_FLAGS, which libtorch_python.so holds as one string."""
    found = re.search(rb"\0((?:sm_[0-9]+a? ?)+)\0", library)
    return found[1].decode().split() if found else []
