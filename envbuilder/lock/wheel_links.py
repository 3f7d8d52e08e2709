"""What the user's packages link to and neither their wheels nor the image have: `opencv-python` wants libGL.so.1.

Wheels bring most of their libraries; a few that every Linux desktop has are expected of the system (PEP 600), and a
small image lacks them. Nothing here can make a lock fail: an index that does not answer is a note.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envbuilder.catalog.observations import SystemLibrary
from envbuilder.lock.wheel_libraries import LinkAnswer
from envbuilder.model import Lock, Wheel
from envbuilder.versions import listed

_HEADLESS = ("opencv-python", "opencv-contrib-python")


def link_notes(
    lock: Lock, answer: LinkAnswer, libraries: Sequence[SystemLibrary]
) -> Iterator[str]:
    """A sentence for each package that needs a library of the system, with the options that bring it."""
    has: set[str] = set()
    for _, linked in answer.linked:
        has.update(linked.has)
    for wheel, linked in answer.linked:
        needs = [soname for soname in linked.needs if soname not in has]
        yield from _notes_of(wheel, needs, linked.modules, lock, libraries)
    if answer.unread:
        yield f"what {listed(answer.unread)} links to is not known: {answer.reason}"


def _notes_of(
    wheel: Wheel,
    needs: Iterable[str],
    modules: Collection[str],
    lock: Lock,
    libraries: Iterable[SystemLibrary],
) -> Iterator[str]:
    rows = {row.soname: row for row in libraries}
    installed = _with_what_they_bring(lock.stack.apt, rows)
    missing = []
    packages = []
    unknown = []
    for soname in needs:
        row = rows.get(soname)
        if row is None:
            # What only a library asks for may be for a part that nobody uses.
            if soname in modules:
                unknown.append(soname)
            continue
        if row.package in installed:
            continue
        missing.append(soname)
        packages.append(row.package)
    if missing:
        options = _apt_options(packages, rows)
        yield (
            f"{wheel.name} needs {listed(missing)} of the system: "
            f"add `{options}`{_other_way(wheel, lock)}"
        )
    if unknown:
        yield (
            f"{wheel.name} needs {listed(unknown)}: "
            "not known which Debian package has it (`--apt NAME`)"
        )


def _with_what_they_bring(
    packages: Iterable[str], rows: Mapping[str, SystemLibrary]
) -> set[str]:
    """Packages, and those of the table that they depend on."""
    brought = {row.package: row.brings for row in rows.values()}
    found: set[str] = set()
    for package in packages:
        found.add(package)
        found.update(brought.get(package, ()))
    return found


def _apt_options(packages: Sequence[str], rows: Mapping[str, SystemLibrary]) -> str:
    """`--apt libgl1 --apt libglib2.0-0`: without those that another one of them brings."""
    options = []
    for package in dict.fromkeys(packages):
        others = set(packages)
        others.remove(package)
        brought = _with_what_they_bring(others, rows)
        if package in brought:
            continue
        options.append(f"--apt {package}")
    return " ".join(options)


def _other_way(wheel: Wheel, lock: Lock) -> str:
    """The same package without windows, if there is one and the user requested this one by name."""
    if wheel.name not in _HEADLESS:
        return ""
    for line in lock.stack.extras:
        name = canonicalize_name(Requirement(line).name)
        if name == wheel.name:
            return f", or use `--package {name}-headless` instead"
    return ""
