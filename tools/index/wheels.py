"""The wheels on an index, read by range requests."""

import re
from collections.abc import Mapping
from typing import Protocol

import requests
from packaging.version import Version
from pypi_simple import DistributionPackage, ProjectPage
from remotezip import RemoteZip  # type: ignore[import-untyped]

from index.pages import places, pythons, releases
from index.texts import find_architectures

INSIDE = re.compile(
    r"[^/]+\.dist-info/METADATA|torch/version\.py|torch/_dynamo/eval_frame\.py"
)


class Wheels(Protocol):
    """What is in the wheels on an index."""

    def read(self, package: str, version: str, platform: str) -> Mapping[str, str]:
        """METADATA, version.py and eval_frame.py of the wheel; {} without a wheel."""

    def architectures(self, version: str, platform: str) -> list[str]:
        """The GPU binaries in a wheel of torch, as `torch.cuda.get_arch_list` has them."""


class Index:
    """`Wheels` of an index that serves range requests; the texts of each are read once."""

    def __init__(
        self, pages: Mapping[str, ProjectPage], session: requests.Session
    ) -> None:
        self._files = {
            package: releases(package, page) for package, page in pages.items()
        }
        self._session = session
        self._read: dict[tuple[str, str, str], Mapping[str, str]] = {}

    def read(self, package: str, version: str, platform: str) -> Mapping[str, str]:
        """METADATA, version.py and eval_frame.py of the wheel for the newest Python; {} without a wheel."""
        key = (package, version, platform)
        if key not in self._read:
            self._read[key] = self._open(*key)
        return self._read[key]

    def _file(
        self, package: str, version: str, platform: str
    ) -> DistributionPackage | None:
        """The wheel for the newest Python: pins are the same in all but for their markers."""
        files = [
            file
            for file in self._files[package][version]
            if platform in places(file.filename)
        ]
        return max(
            files,
            key=lambda file: (
                max(pythons(file.filename), default=Version("0")),
                file.filename,
            ),
            default=None,
        )

    def _open(self, package: str, version: str, platform: str) -> Mapping[str, str]:
        file = self._file(package, version, platform)
        if file is None:
            return {}
        with RemoteZip(file.url, session=self._session) as wheel:
            found = {
                path.rsplit("/", 1)[-1]: path
                for path in wheel.namelist()
                if INSIDE.fullmatch(path)
            }
            return {short: wheel.read(path).decode() for short, path in found.items()}

    def architectures(self, version: str, platform: str) -> list[str]:
        """The GPU binaries in a wheel of torch, as `torch.cuda.get_arch_list` has them."""
        file = self._file("torch", version, platform)
        assert file is not None
        with RemoteZip(file.url, session=self._session) as wheel:
            return find_architectures(wheel.read("torch/lib/libtorch_python.so"))
