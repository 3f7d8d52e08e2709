"""What can be chosen on the page, and how each choice stands on the command line."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from packaging.version import Version

from envbuilder.catalog.gpus import first_drivers
from envbuilder.catalog.rows import Catalog, Gpu
from envbuilder.model import BASE_BOOTSTRAP, Request
from envbuilder.resolve.candidates import bootstrapped
from envbuilder.resolve.command_line import command, parse_request
from envbuilder.versions import driver_text

ANY = ""
_VERB = "resolve"
_SHOWN_NAMES = 4  # of a GPU's row; the rest stands in the list of names


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One value of an option; `ANY` leaves it to policy."""

    value: str
    label: str
    note: str = ""  # what a person knows it by
    words: str = ""  # as `command` writes it: "--cuda 12.8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One option of a request and its choices, the first of which is `ANY`."""

    name: str
    title: str
    hint: str
    choices: tuple[Choice, ...]

    def place(self, value: str) -> int:
        return next(number for number, choice in enumerate(self.choices) if choice.value == value)


Picked = Mapping[str, str]
"""Axis → value; what is left out is left to policy."""


def request_of(picked: Picked) -> Request:
    """The request that somebody types who picks this."""
    return parse_request(dict(picked))


def axes_of(catalog: Catalog) -> tuple[Axis, ...]:
    """The options of the page with every value that the catalog knows, newest first."""
    cuda = sorted({line(build.cuda) for build in catalog.torch}, reverse=True)
    torch = sorted({line(build.torch) for build in catalog.torch}, reverse=True)
    python = sorted({python for build in catalog.torch for python in build.pythons}, reverse=True)
    debian = Choice(
        value=BASE_BOOTSTRAP,
        label="made from Debian’s packages",
        note=f"Python {', '.join(str(line(row.python)) for row in bootstrapped(catalog))}",
    )
    return (
        _axis("cuda", "CUDA", "The line of the CUDA libraries in the wheels.", map(_plain, cuda)),
        _axis("gpu", "GPU", "By its compute capability; the names are NVIDIA's.", map(_gpu, catalog.gpus)),
        _axis("driver", "Driver", "What nvidia-smi shows, or the nearest below it.", map(_driver, _drivers(catalog))),
        _axis("python", "Python", "", map(_plain, python)),
        _axis("torch", "PyTorch", "A line means its best release.", map(_plain, torch)),
        _axis("base", "Base image", "", [debian]),
    )  # fmt: skip


def line(version: Version) -> Version:
    """12.8 of 12.8.90."""
    return Version(f"{version.major}.{version.minor}")


def _axis(name: str, title: str, hint: str, choices: Iterator[Choice] | list[Choice]) -> Axis:
    told = [
        Choice(value=choice.value, label=choice.label, note=choice.note, words=_words({name: choice.value}))
        for choice in choices
    ]
    return Axis(name=name, title=title, hint=hint, choices=(Choice(value=ANY, label="any"), *told))


def _words(picked: Picked) -> str:
    return command(request_of(picked), _VERB).removeprefix(f"envbuilder {_VERB} ")


def _plain(version: Version) -> Choice:
    return Choice(value=str(version), label=str(version))


def _gpu(row: Gpu) -> Choice:
    names = [name for name in row.names if not name.endswith(("(Server", "Workstation", "Max-Q)"))]
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    value = str(row.capability)
    label = f"{value} {re.sub(r' .*', '', row.architecture)}"
    return Choice(value=value, label=label, note=", ".join(names[:_SHOWN_NAMES]) + more)


def _drivers(catalog: Catalog) -> list[str]:
    """The first driver of each branch since the oldest that runs any torch, and every floor."""
    floors = {Version(build.driver_floor) for build in catalog.torch}
    firsts = [driver for driver in first_drivers(catalog).values() if driver.major >= min(floors).major]
    return [driver_text(driver) for driver in sorted({*firsts, *floors}, reverse=True)]


def _driver(text: str) -> Choice:
    return Choice(value=text, label=text, note="or newer")
