"""What can be chosen on the page, and each choice as a command-line option."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from packaging.version import Version

from envbuilder.catalog.gpus import first_drivers
from envbuilder.catalog.lookup import known_builds
from envbuilder.catalog.rows import Catalog, Gpu
from envbuilder.model import BASE_BOOTSTRAP, Request
from envbuilder.resolve.candidates import bootstrapped
from envbuilder.resolve.command_line import command, parse_request
from envbuilder.versions import driver_text, listed, minor_line

ANY = ""
_VERB = "resolve"
_SHOWN_NAMES = 4  # of a GPU's row; the rest is in the list of names
_VARIANTS = ("(Server", "Workstation", "Max-Q)")  # how names end that say nothing new


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
        return next(
            number
            for number, choice in enumerate(self.choices)
            if choice.value == value
        )


Picked = Mapping[str, str]
"""Axis → value; what is left out is left to policy."""


def request_of(picked: Picked) -> Request:
    """The request for these choices."""
    return parse_request(dict(picked))


def axes_of(catalog: Catalog) -> tuple[Axis, ...]:
    """The options of the page with every value that the catalog knows, newest first."""
    return (
        _axis(
            name="cuda",
            title="CUDA",
            hint="The line of the CUDA libraries in the wheels.",
            choices=_lines(known_builds("cuda", catalog)),
        ),
        _axis(
            name="gpu",
            title="GPU",
            hint="By its compute capability; the names are NVIDIA's.",
            choices=[_gpu(row) for row in catalog.gpus],
        ),
        _axis(
            name="driver",
            title="Driver",
            hint="What nvidia-smi shows, or the nearest below it.",
            choices=[_driver(driver) for driver in _drivers(catalog)],
        ),
        _axis(
            name="python",
            title="Python",
            choices=_versions(_pythons(catalog)),
        ),
        _axis(
            name="torch",
            title="PyTorch",
            hint="A line means its best release.",
            choices=_lines(known_builds("torch", catalog)),
        ),
        _axis(
            name="base",
            title="Base image",
            choices=[_bootstrap(catalog)],
        ),
    )


def _axis(*, name: str, title: str, choices: Iterable[Choice], hint: str = "") -> Axis:
    """An axis, and for each of its choices how it is written as an option."""
    with_words = [Choice(value=ANY, label="any")]
    for choice in choices:
        words = _words({name: choice.value})
        complete = replace(choice, words=words)
        with_words.append(complete)
    return Axis(
        name=name,
        title=title,
        hint=hint,
        choices=tuple(with_words),
    )


def _words(picked: Picked) -> str:
    request = request_of(picked)
    return command(request, _VERB).removeprefix(f"envbuilder {_VERB} ")


def _lines(versions: Iterable[Version]) -> list[Choice]:
    """The lines of some versions, newest first."""
    return _versions(line(version) for version in versions)


def line(version: Version) -> Version:
    """12.8 of 12.8.90."""
    return Version(minor_line(version))


def _versions(versions: Iterable[Version]) -> list[Choice]:
    """Each version once, newest first."""
    newest_first = sorted(set(versions), reverse=True)
    return [Choice(value=str(version), label=str(version)) for version in newest_first]


def _pythons(catalog: Catalog) -> set[Version]:
    pythons: set[Version] = set()
    for build in catalog.torch:
        pythons.update(build.pythons)
    return pythons


def _bootstrap(catalog: Catalog) -> Choice:
    pythons = listed(minor_line(row.python) for row in bootstrapped(catalog))
    return Choice(
        value=BASE_BOOTSTRAP,
        label="made from Debian’s packages",
        note=f"Python {pythons}",
    )


def _gpu(row: Gpu) -> Choice:
    value = str(row.capability)
    architecture = row.architecture.partition(" ")[0]
    names = [name for name in row.names if not name.endswith(_VARIANTS)]
    note = ", ".join(names[:_SHOWN_NAMES])
    further = len(names) - _SHOWN_NAMES
    if further > 0:
        note += f" and {further} more"
    return Choice(
        value=value,
        label=f"{value} {architecture}",
        note=note,
    )


def _drivers(catalog: Catalog) -> list[Version]:
    """The first driver of each branch since the oldest that runs any torch, and every floor; newest first."""
    drivers = {Version(build.driver_floor) for build in catalog.torch}
    oldest = min(drivers)
    firsts = first_drivers(catalog)
    for driver in firsts.values():
        if driver.major >= oldest.major:
            drivers.add(driver)
    return sorted(drivers, reverse=True)


def _driver(driver: Version) -> Choice:
    text = driver_text(driver)
    return Choice(value=text, label=text, note="or newer")
