"""What uv gets to know of packages that are not wheels of the index: where their wheels lie on this machine."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.utils import canonicalize_name

from envbuilder.files import write_file

CONSTRAINTS = "sources.constraints.txt"
UV_SETTINGS = "uv.toml"
_NO_WHEEL = re.compile(r"Wheels are required for `([A-Za-z0-9._-]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSources:
    """Wheels that were built here, and packages whose source packages may be chosen."""

    wheels: Mapping[str, Path] = field(default_factory=dict)  # by package
    lines: Mapping[str, str] = field(
        default_factory=dict
    )  # a requirement of the user's → the same with the path of the wheel
    sdists: frozenset[str] = frozenset()  # packages that may be source packages
    newest: frozenset[str] = frozenset()
    """Packages whose newest release is wanted, with or without a wheel; then every package may be a source package."""

    def with_wheel(self, name: str, wheel: Path) -> "KnownSources":
        return replace(
            self, wheels={**self.wheels, name: wheel}, sdists=self.sdists - {name}
        )

    def translate(self, requirements: Sequence[str]) -> list[str]:
        """The requirements as uv takes them."""
        return [self.lines.get(line, line) for line in requirements]

    def arguments(self, folder: Path) -> list[str]:
        """Further arguments of `uv pip compile`, whose files are written to `folder`; none without sources."""
        arguments = []
        if self.wheels:
            path = folder / CONSTRAINTS
            write_file(path, self._constraints())
            arguments += ["--constraint", str(path)]
        static = self.sdists | self.newest
        if static:
            path = folder / UV_SETTINGS
            write_file(path, _static_metadata(static))
            arguments += ["--config-file", str(path)]
        for name in sorted(self.sdists):
            arguments += ["--no-binary", name]
        return arguments

    def _constraints(self) -> str:
        """A constraint applies wherever something needs the package, with or without an extra."""
        text = ""
        for name, path in self.wheels.items():
            text += f"{name} @ {path.as_uri()}\n"
        return text


def _static_metadata(names: frozenset[str]) -> str:
    """So that uv chooses a version without building it; what it depends on comes with its wheel."""
    text = ""
    for name in sorted(names):
        text += (
            f"[[dependency-metadata]]\nname = {json.dumps(name)}\nrequires-dist = []\n"
        )
    return text


NO_SOURCES = KnownSources()


def packages_without_wheel(stderr: str) -> set[str]:
    """The packages of which uv found source packages alone."""
    text = " ".join(stderr.split())
    return {canonicalize_name(name) for name in _NO_WHEEL.findall(text)}
